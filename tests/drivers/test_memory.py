"""Databases in memory: each connection has one of its own, unless it is shared."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import aiosqlite
import pytest

import anypool
from anypool import sync

from ..support.modes import Mode
from .absent import module_of

if TYPE_CHECKING:
    import duckdb
else:
    duckdb = module_of("duckdb")


class Memories(Mode):
    def __init__(self, kind: str) -> None:
        self.name = "asyncio" if kind == "async" else "blocking"
        self.blocking = kind == "blocking"
        self.pools: Any = sync if self.blocking else anypool

    async def ask(self, pool: Any, connection: Any, statement: str) -> list[Any]:
        cursor = await self.go(pool.call(connection.execute, statement))
        return list(await self.go(pool.call(cursor.fetchall)))


@pytest.fixture(params=["blocking", "async"])
def mode(request: pytest.FixtureRequest) -> Memories:
    return Memories(request.param)


def _sqlite(database: str = ":memory:") -> Any:
    return sqlite3.connect(database, check_same_thread=False, uri=True)


def _filled_sqlite() -> Any:
    connection = _sqlite()
    connection.execute("CREATE TABLE words AS SELECT 'one' AS word")
    return connection


def _filled_duckdb() -> Any:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE words AS SELECT 'one' AS word")
    return connection


OWN = {
    "sqlite3": _sqlite,
    "sqlite3, a file without a name": lambda: _sqlite(""),
    "aiosqlite": lambda: aiosqlite.connect(":memory:"),
    "duckdb": duckdb.connect,
    "duckdb, named": lambda: duckdb.connect(":memory:"),
}


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("creator", OWN)
async def test_second_database_is_refused(
    mode: Memories, creator: str, opened: bool
) -> None:
    pool = mode.pools.QueuePool(OWN[creator], timeout=0.2)
    if opened:
        await mode.go(pool.open())
    async with mode.block(pool.connect()) as first:
        await mode.ask(pool, first, "CREATE TABLE t (x INTEGER)")
        await mode.go(pool.call(first.commit))
        for _ in range(2):
            with pytest.raises(anypool.PoolError) as caught:
                async with mode.block(pool.unique_connection()):
                    raise AssertionError("it is another database")
            error = caught.value if not opened else caught.value.__cause__ or caught.value
            assert isinstance(error, anypool.InvalidRequestError)
            for cure in ("StaticPool", "SingletonThreadPool", "cache=shared"):
                assert cure in str(error)
        assert await mode.ask(pool, first, "SELECT * FROM t") == []
        if not opened:  # or else the next attempt may be under way
            assert (pool.checkedin(), pool.checkedout()) == (0, 1)
    for _ in range(3):
        async with mode.block(pool.connect()) as again:
            assert again is first
    stats = pool.stats()
    # In an opened pool, one may be under way at this moment.
    assert stats.opened - 1 - stats.closed["invalid"] in range(1 + opened)
    assert stats.opened >= 2
    if not opened:  # or else it is a while until it connects again
        # When it has gone, there may be another one.
        lease = await mode.go(pool.unique_connection())
        await mode.go(lease.invalidate())
        async with mode.block(pool.connect()) as new:
            assert new is not first
    await mode.go(pool.close())


SHARED = {
    "no name": lambda: _sqlite("file::memory:?cache=shared"),
    "a name": lambda: _sqlite("file:anypool?mode=memory&cache=shared"),
    "aiosqlite": lambda: aiosqlite.connect("file:a?mode=memory&cache=shared", uri=True),
    "duckdb": lambda: duckdb.connect(":memory:anypool"),
    "cursors": duckdb.connect().cursor,
    "filled": _filled_sqlite,
    "duckdb, filled": _filled_duckdb,
}


@pytest.mark.parametrize("creator", SHARED)
async def test_shared_and_filled_ones_are_let_through(mode: Memories, creator: str) -> None:
    pool = mode.pools.QueuePool(SHARED[creator])
    async with mode.block(pool.connect()) as first:
        async with mode.block(pool.unique_connection()) as second:
            assert second is not first
    assert pool.stats().opened == 2
    await mode.go(pool.close())


@pytest.mark.parametrize("kind", ["NullPool", "StaticPool", "AssertionPool", "Singleton"])
async def test_other_pools_do_as_they_say(mode: Memories, kind: str) -> None:
    kinds = {"Singleton": "SingletonThreadPool" if mode.blocking else "SingletonTaskPool"}
    pool = getattr(mode.pools, kinds.get(kind, kind))(_sqlite)
    for _ in range(2):
        async with mode.block(pool.connect()) as connection:
            await mode.ask(pool, connection, "SELECT 1")
    if kind == "NullPool":
        lease = await mode.go(pool.unique_connection())
        async with mode.block(pool.unique_connection()):
            pass
        await mode.go(lease.close())
    await mode.go(pool.close())
