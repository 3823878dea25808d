"""What callers leave behind on SQLite, and what the next ones find."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import anypool
from anypool import sync

from ..support.modes import Mode

RESETS = ["rollback", "commit", "full"]


class Files(Mode):
    """SQLite's two drivers, in both kinds of pools.

    Attributes:
        path: the database; there is a table t with the numbers 0 to 999.
    """

    def __init__(self, driver: str, blocking: bool, path: Path) -> None:
        self.name = "blocking" if blocking else "asyncio"
        self.blocking = blocking
        self.pools: Any = sync if blocking else anypool
        self.driver = driver
        self.path = path
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=wal")
            connection.execute("CREATE TABLE t (x)")
            connection.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(1000)])
            connection.commit()

    def pool(self, **options: Any) -> Any:  # type: ignore[override]  # of real connections
        url = f"sqlite+{self.driver}:///{self.path}?timeout=1"
        options = {"pool_size": 1, "max_overflow": 0} | options
        return self.pools.create_pool(url, **options)

    async def call(self, pool: Any, function: Any, *args: Any) -> Any:
        return await self.go(pool.call(function, *args))

    async def ask(self, pool: Any, connection: Any, question: str) -> Any:
        cursor = await self.call(pool, connection.execute, question)
        rows = await self.call(pool, cursor.fetchall)
        return next(iter(rows))[0]


@pytest.fixture(
    params=["sqlite3-True", "sqlite3-False", "aiosqlite-True", "aiosqlite-False"]
)
def mode(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    driver, _, blocking = request.param.partition("-")
    return Files(driver, blocking == "True", tmp_path / "app.db")


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("read", ["fetchone", "fetchmany", "nothing"])
async def test_half_read_cursor_that_somebody_still_has(
    mode: Files, reset: Any, read: str
) -> None:
    """It is an open read transaction, which SQLite doesn't call one."""
    pool = mode.pool(reset_on_return=reset)
    kept: list[Any] = []
    async with mode.block(pool.connect()) as connection:
        first = connection
        cursor = await mode.call(pool, connection.execute, "SELECT * FROM t")
        if read != "nothing":
            await mode.call(pool, getattr(cursor, read))
        kept.append(cursor)
    with closing(sqlite3.connect(mode.path)) as other:
        other.execute("INSERT INTO t VALUES (1)")
        other.commit()
        checkpoint = other.execute("PRAGMA wal_checkpoint(truncate)").fetchone()
    assert checkpoint[0] == 0, "nobody holds it up"
    async with mode.block(pool.connect()) as connection:
        assert connection is first
        assert await mode.ask(pool, connection, "SELECT count(*) FROM t") == 1001
        await mode.call(pool, connection.execute, "INSERT INTO t VALUES (2)")
        await mode.call(pool, connection.commit)
    assert pool.stats().opened == 1
    await mode.go(pool.close())


async def test_cursors_that_were_read_cost_nothing(mode: Files) -> None:
    """They may still be referred to, and stay as they are."""
    pool = mode.pool()
    async with mode.block(pool.connect()) as connection:
        cursor = await mode.call(pool, connection.execute, "SELECT x FROM t WHERE x < 3")
        assert list(await mode.call(pool, cursor.fetchall)) == [(0,), (1,), (2,)]
    async with mode.block(pool.connect()):
        assert list(await mode.call(pool, cursor.fetchall)) == [], "it is not closed"
    await mode.go(pool.close())


@pytest.mark.parametrize("reset", RESETS)
async def test_isolation_level_is_put_back(mode: Files, reset: Any) -> None:
    pool = mode.pool(reset_on_return=reset)
    async with mode.block(pool.connect()) as connection:
        before = connection.isolation_level
        _assign(connection, "isolation_level", "EXCLUSIVE")
    async with mode.block(pool.connect()) as connection:
        assert connection.isolation_level == before
    assert pool.stats().opened == 1
    await mode.go(pool.close())


async def test_factories_are_put_back_by_a_full_reset(mode: Files) -> None:
    pool = mode.pool(reset_on_return="full")
    async with mode.block(pool.connect()) as connection:
        _assign(connection, "row_factory", sqlite3.Row)
        _assign(connection, "text_factory", bytes)
    async with mode.block(pool.connect()) as connection:
        assert connection.row_factory is None
        assert connection.text_factory is str
    await mode.go(pool.close())


def _assign(connection: Any, name: str, value: Any) -> None:
    # aiosqlite's own properties reach into the connection, too.
    setattr(connection, name, value)


@pytest.mark.parametrize("driver", ["sqlite3", "aiosqlite"])
@pytest.mark.parametrize("how", ["idle", "old", "smaller"])
def test_database_in_memory_is_kept(driver: str, how: str) -> None:
    """It would be gone with its connection; looked at on a clock of the test's own."""
    options: dict[str, Any] = {"idle": {"max_idle": 0.001}, "old": {"recycle": 0.001}}.get(
        how, {}
    )
    with sync.create_pool(f"sqlite+{driver}://", **options) as pool:
        with pool.connect() as connection:
            pool.call(connection.execute, "CREATE TABLE t (x)")
            pool.call(connection.commit)
        pool._run(_look, pool.async_pool)
        if how == "smaller":
            pool.resize(1, 0)
        with pool.connect() as connection:
            cursor = pool.call(connection.execute, "SELECT count(*) FROM t")
            assert pool.call(cursor.fetchone) == (0,)
        assert pool.stats().opened == 1


async def _look(pool: Any) -> None:
    """Have the pool looked at as if an hour had passed."""
    later = pool._runtime.now() + 3600
    assert pool._ledger.decide(pool._keeper._take_due, later) == []
