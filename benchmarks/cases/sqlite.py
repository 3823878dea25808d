"""A real SQLite file, through sqlite3 and aiosqlite."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from anypool import QueuePool, sync

from ..loops import run
from ..machine import one_core
from ..result import OURS, Row
from .options import Options, Skip
from .real import (
    BARE,
    NO_POOL,
    AsyncConnect,
    Connect,
    Opened,
    async_contest,
    asyncio_loops,
    contest,
    kept,
)

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

SELECT_1 = "aiosqlite, select 1"


def measure_blocking(options: Options) -> list[Row]:
    """Measure sqlite3."""
    with TemporaryDirectory() as folder:
        path = _prepare(folder)

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(path, check_same_thread=False)
            connection.execute(_SETTING)
            return connection

        pool = sync.QueuePool(connect)
        with ExitStack() as stack:
            stack.callback(pool.dispose)
            candidates: dict[str, Connect] = {
                OURS: pool.connect,
                BARE: kept(stack.enter_context(closing(connect()))),
                NO_POOL: lambda: closing(connect()),
            }
            if find_spec("sqlalchemy"):
                from sqlalchemy.pool import QueuePool as TheirPool

                theirs = TheirPool(lambda: cast("DBAPIConnection", connect()))
                stack.callback(theirs.dispose)
                candidates["SQLAlchemy"] = lambda: closing(theirs.connect())
            found = contest("sqlite3, read", candidates, _read, options)
            found += contest("sqlite3, read and write", candidates, _write, options)
    return found


def measure_async(options: Options) -> list[Row]:
    """Measure aiosqlite.

    Raises:
        Skip: it isn't installed.
    """
    if not find_spec("aiosqlite"):
        raise Skip("aiosqlite is not installed")
    loops = asyncio_loops(options)
    with one_core():
        return [row for loop in loops for row in run(loop, _aiosqlite, options, loop)]


async def _aiosqlite(options: Options, loop: str) -> list[Row]:
    import aiosqlite

    with TemporaryDirectory() as folder:
        path = _prepare(folder)

        async def connect() -> aiosqlite.Connection:
            connection = await aiosqlite.connect(path)
            await connection.execute(_SETTING)
            return connection

        pool = QueuePool(connect)
        bare = await connect()
        candidates: dict[str, AsyncConnect] = {
            OURS: pool.connect,
            BARE: kept(bare),
            NO_POOL: lambda: Opened(connect),
        }
        theirs = None
        if find_spec("aiosqlitepool"):
            from aiosqlitepool import SQLiteConnectionPool

            theirs = SQLiteConnectionPool(connect)
            candidates["aiosqlitepool"] = theirs.connection
        found = []
        for case, work in (
            (SELECT_1, _async_select),
            ("aiosqlite, read", _async_read),
            ("aiosqlite, read and write", _async_write),
        ):
            found += await async_contest(case, loop, candidates, work, options)
        await bare.close()
        await pool.dispose()
        if theirs is not None:
            await theirs.close()
    return found


# The usual one of a web application in WAL mode, which the file keeps; this it does not.
_SETTING = "pragma synchronous = normal"


def _prepare(folder: str) -> Path:
    path = Path(folder) / "bench.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table visits (page integer primary key, number integer)")
        pages = ((page,) for page in range(100))
        connection.executemany("insert into visits values (?, 0)", pages)
        connection.commit()
    return path


_READ = "select number from visits where page = 42"
_WRITE = "update visits set number = number + 1 where page = 42"


def _read(connection: sqlite3.Connection) -> None:
    connection.execute(_READ).fetchone()


def _write(connection: sqlite3.Connection) -> None:
    connection.execute(_WRITE)
    connection.execute(_READ).fetchone()
    connection.commit()


async def _async_select(connection: Any) -> None:
    async with connection.execute("select 1") as cursor:
        await cursor.fetchone()


async def _async_read(connection: Any) -> None:
    async with connection.execute(_READ) as cursor:
        await cursor.fetchone()


async def _async_write(connection: Any) -> None:
    await connection.execute(_WRITE)
    async with connection.execute(_READ) as cursor:
        await cursor.fetchone()
    await connection.commit()
