"""sqlite3 and aiosqlite, whose arguments are the same."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..._core.url import DatabaseURL
from .arguments import typed

_URI = {"mode", "cache", "immutable", "vfs", "nolock", "psow", "modeof"}

_KINDS: dict[str, type] = {
    "timeout": float,
    "detect_types": int,
    "isolation_level": str,
    "check_same_thread": bool,
    "cached_statements": int,
    "uri": bool,
    "autocommit": bool,
    "iter_chunk_size": int,
}


def creator(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> partial[Any]:
    given = dict(url.arguments)
    own = {name: given.pop(name) for name in list(given) if name in _URI}
    # A pool hands connections from thread to thread, one at a time.
    arguments: dict[str, Any] = {"check_same_thread": False}
    arguments |= typed(given, _KINDS, "sqlite3.connect()", closed=True)
    if str(arguments.get("isolation_level")).lower() == "none":
        arguments["isolation_level"] = None  # to sqlite3, that is autocommit
    database = url.database or ":memory:"
    if own or database.startswith("file:"):
        database = _uri(database, own)
        arguments["uri"] = True
    return partial(module.connect, database, **arguments | connect_args)


def _uri(database: str, parameters: dict[str, str]) -> str:
    from urllib.parse import quote, urlencode

    if not database.startswith("file:"):
        database = "file:" + quote(database)
    if not parameters:
        return database
    return f"{database}{'&' if '?' in database else '?'}{urlencode(parameters)}"
