"""All cases, by the names that the command line takes."""

from __future__ import annotations

from collections.abc import Callable

from ..result import Row
from . import contended, imports, postgres, scale, spike, sqlite, threads, uncontended
from .options import Options

CASES: dict[str, Callable[[Options], list[Row]]] = {
    "uncontended": uncontended.measure,
    "contended": contended.measure,
    "threads": threads.measure,
    "scale": scale.measure,
    "sqlite3": sqlite.measure_blocking,
    "aiosqlite": sqlite.measure_async,
    "psycopg": postgres.measure_psycopg,
    "asyncpg": postgres.measure_asyncpg,
    "spike": spike.measure,
    "import": imports.measure,
}
