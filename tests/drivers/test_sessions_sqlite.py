"""What a full reset makes of a SQLite session, in both drivers and both kinds of pools."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

import anypool
from anypool import sync
from anypool._drivers.sqlite_session import _PRAGMAS

from ..support.modes import Mode


class Sessions(Mode):
    """A pool of one connection, and what is asked of it.

    Attributes:
        path: a database with a table t.
        options: of the pools.
        prepare: what the creator does to a new connection.
    """

    def __init__(self, driver: str, kind: str, path: Path) -> None:
        self.name = "asyncio" if kind == "async" else "blocking"
        self.blocking = kind == "blocking"
        self.pools: Any = sync if self.blocking else anypool
        self.driver = driver
        self.path = path
        self.prepare: Callable[[Any], Any] = lambda connection: None
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t (x)")

    def pool(self, **options: Any) -> Any:  # type: ignore[override]  # of real connections
        def create() -> sqlite3.Connection:
            connection = sqlite3.connect(self.path, check_same_thread=False)
            self.prepare(connection)
            return connection

        async def create_async() -> aiosqlite.Connection:
            connection = await aiosqlite.connect(self.path)
            execute: Any = connection._execute
            await execute(self.prepare, connection._conn)
            return connection

        options = {"pool_size": 1, "max_overflow": 0, "reset_on_return": "full"} | options
        creator: Any = create if self.driver == "sqlite3" else create_async
        return self.pools.QueuePool(creator, **options)

    async def call(self, pool: Any, connection: Any, method: str, *args: Any) -> Any:
        return await self.go(pool.call(getattr(connection, method), *args))

    async def inside(self, pool: Any, connection: Any, function: Any) -> Any:
        """Call a function of sqlite3's own connection, in the right thread."""
        if self.driver == "sqlite3":
            return await self.go(pool.call(function, connection))
        return await self.call(pool, connection, "_execute", function, connection._conn)

    async def ask(self, pool: Any, connection: Any, question: str) -> list[Any]:
        cursor = await self.call(pool, connection, "execute", question)
        return list(await self.go(pool.call(cursor.fetchall)))


@pytest.fixture(
    params=["sqlite3-blocking", "sqlite3-async", "aiosqlite-blocking", "aiosqlite-async"]
)
def mode(request: pytest.FixtureRequest, tmp_path: Path) -> Sessions:
    driver, _, kind = request.param.partition("-")
    return Sessions(driver, kind, tmp_path / "app.db")


# Other values than those of a new connection.
OTHER = {
    "analysis_limit": 100,
    "busy_timeout": 17,
    "cache_size": 77,
    "cache_spill": 7,
    "journal_size_limit": 4096,
    "locking_mode": "EXCLUSIVE",
    "max_page_count": 5000,
    "mmap_size": 65536,
    "secure_delete": 2,
    "synchronous": 0,
    "temp_store": 2,
    "threads": 2,
    "wal_autocheckpoint": 12,
}
TOGGLED = {"automatic_index": 0, "short_column_names": 0, "trusted_schema": 0}


async def test_settings_are_put_back(mode: Sessions) -> None:
    """Those that were in force when the creator was done, not SQLite's own."""
    mode.prepare = lambda connection: connection.executescript(
        "PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 1234; PRAGMA synchronous = 1"
    )
    pool = mode.pool()
    async with mode.block(pool.connect()) as first:
        before = {name: await mode.ask(pool, first, f"PRAGMA {name}") for name in _PRAGMAS}
        changed = dict.fromkeys(_PRAGMAS, 1) | {"foreign_keys": 0} | OTHER | TOGGLED
        for name, value in changed.items():
            await mode.call(pool, first, "execute", f"PRAGMA {name} = {value}")
        after = {name: await mode.ask(pool, first, f"PRAGMA {name}") for name in _PRAGMAS}
        # What this SQLite was built without, or doesn't change, tells nothing.
        assert len([name for name in _PRAGMAS if after[name] != before[name]]) > 20
    async with mode.block(pool.connect()) as second:
        assert second is first
        for name in _PRAGMAS:
            assert await mode.ask(pool, second, f"PRAGMA {name}") == before[name]
        assert before["busy_timeout"] == [(1234,)]
    await mode.go(pool.close())


async def test_settings_stay_without_a_full_reset(mode: Sessions) -> None:
    pool = mode.pool(reset_on_return="rollback")
    async with mode.block(pool.connect()) as first:
        await mode.call(pool, first, "execute", "PRAGMA busy_timeout = 17")
        await mode.call(pool, first, "execute", "CREATE TEMP TABLE mine (x)")
    async with mode.block(pool.connect()) as second:
        second.isolation_level = "EXCLUSIVE"  # is restored, and nothing else with it
    async with mode.block(pool.connect()) as second:
        assert second is first
        assert await mode.ask(pool, second, "PRAGMA busy_timeout") == [(17,)]
        assert await mode.ask(pool, second, "SELECT * FROM mine") == []
    await mode.go(pool.close())


async def test_what_the_creator_and_listeners_set_up_stays(
    mode: Sessions, tmp_path: Path
) -> None:
    """The creator's is left as it is, and the listeners' is made anew."""
    mode.prepare = lambda connection: (
        connection.execute("ATTACH ':memory:' AS creators"),
        connection.execute("CREATE TEMP TABLE creators_own (x)"),
        connection.create_function("one", 0, lambda: 1),
        connection.execute("PRAGMA case_sensitive_like = ON"),
    )

    class Listener:
        def connect(self, connection: Any, record: Any) -> Any:
            inner = getattr(connection, "_conn", connection)

            def prepare() -> None:
                inner.execute("ATTACH ':memory:' AS listeners")
                inner.execute("CREATE TEMP TABLE listeners_own (x)")
                inner.create_function("two", 0, lambda: 2)
                inner.create_collation("backwards", lambda a, b: (a < b) - (a > b))
                inner.execute("PRAGMA foreign_keys = ON")

            return prepare() if inner is connection else connection._execute(prepare)

    pool = mode.pool(listeners=[Listener()])
    async with mode.block(pool.connect()) as first:
        await mode.call(pool, first, "execute", "ATTACH ':memory:' AS callers")
        await mode.call(pool, first, "execute", "CREATE TEMP TABLE callers_own (x)")
        await mode.call(pool, first, "execute", "PRAGMA foreign_keys = OFF")
        await mode.call(pool, first, "execute", "PRAGMA case_sensitive_like = OFF")
        _assign(first, "text_factory", bytes)  # names are read as texts all the same
        _assign(first, "row_factory", lambda cursor, row: "no row")
    for _ in range(2):
        async with mode.block(pool.connect()) as again:
            assert again is first
            names = [row[1] for row in await mode.ask(pool, again, "PRAGMA database_list")]
            assert sorted(names) == ["creators", "listeners", "main", "temp"]
            found = await mode.ask(pool, again, "SELECT name FROM sqlite_temp_master")
            assert sorted(found) == [("creators_own",), ("listeners_own",)]
            question = "SELECT one(), two(), 'a' LIKE 'A', 'a' < 'b' COLLATE backwards"
            assert await mode.ask(pool, again, question) == [(1, 2, 0, 0)]
            assert await mode.ask(pool, again, "PRAGMA foreign_keys") == [(1,)]
    await mode.go(pool.close())


def _function(connection: sqlite3.Connection) -> None:
    connection.create_function("mine", 1, lambda x: x)


def _built_in(connection: sqlite3.Connection) -> None:
    connection.create_function("upper", 1, lambda x: x)


def _aggregate(connection: sqlite3.Connection) -> None:
    aggregate: Any = type("Aggregate", (), {})
    connection.create_aggregate("mine", 1, aggregate)


def _collation(connection: sqlite3.Connection) -> None:
    connection.create_collation("mine", lambda a, b: 0)


def _like(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA case_sensitive_like = ON")


def _detach(connection: sqlite3.Connection) -> None:
    connection.execute("DETACH creators")


def _drop(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE creators_own")


def _forbid(connection: sqlite3.Connection) -> None:
    connection.set_authorizer(lambda *args: sqlite3.SQLITE_DENY)


LASTING = [_function, _built_in, _aggregate, _collation, _like, _detach, _drop, _forbid]


@pytest.mark.parametrize("leave", LASTING)
async def test_where_there_is_no_way_back(
    mode: Sessions, leave: Callable[[Any], Any]
) -> None:
    mode.prepare = lambda connection: (
        connection.execute("ATTACH ':memory:' AS creators"),
        connection.execute("CREATE TEMP TABLE creators_own (x)"),
    )
    pool = mode.pool()
    async with mode.block(pool.connect()) as first:
        await mode.inside(pool, first, leave)
    assert pool.stats().closed == {"reset": 1}
    async with mode.block(pool.connect()) as second:
        assert second is not first
        assert await mode.ask(pool, second, "SELECT upper('a')") == [("A",)]
    await mode.go(pool.close())


async def test_limits_are_put_back(mode: Sessions) -> None:
    attached = sqlite3.SQLITE_LIMIT_ATTACHED
    pool = mode.pool()
    async with mode.block(pool.connect()) as first:
        before = await mode.inside(pool, first, lambda c: c.setlimit(attached, 1))
    async with mode.block(pool.connect()) as second:
        assert second is first
        after = await mode.inside(pool, second, lambda c: c.getlimit(attached))
        assert after == before > 1
    await mode.go(pool.close())


async def test_session_that_could_not_be_seen(mode: Sessions) -> None:
    """Its file was locked just then. There is nothing to compare with, so it is closed."""
    mode.prepare = lambda connection: connection.execute("PRAGMA busy_timeout = 0")
    pool = mode.pool()
    with closing(sqlite3.connect(mode.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        async with mode.block(pool.connect()) as first:
            pass
        other.execute("ROLLBACK")
    async with mode.block(pool.connect()) as second:
        assert second is not first
    async with mode.block(pool.connect()) as third:
        assert third is second
    assert pool.stats().closed == {"reset": 1}
    await mode.go(pool.close())


def _assign(connection: Any, name: str, value: Any) -> None:
    # aiosqlite's own properties reach into the connection, too.
    setattr(connection, name, value)
