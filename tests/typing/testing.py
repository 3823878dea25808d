"""What tests of applications and drivers write, as type checkers see it."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Sequence
from typing import Any, assert_type

import aiosqlite

import anypool
from anypool import sync
from anypool.testing import (
    Clock,
    DriverContract,
    FakeAsyncConnection,
    FakeAsyncCursor,
    FakeConnection,
    FakeCursor,
    FakeDatabase,
    driven,
    wait_until,
    wait_until_async,
)


class Blocking(DriverContract[sqlite3.Connection]):
    backends = ("asyncio", "trio")
    tells_open = False
    bound = 5

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect("app.db")

    def use(self, connection: sqlite3.Connection) -> None:
        connection.execute("SELECT 1")

    def make_open(self, connection: sqlite3.Connection, mark: int) -> None:
        connection.execute("INSERT INTO t VALUES (?)", (mark,))

    def is_there(self, conn: sqlite3.Connection, number: int) -> bool:
        return conn.execute("SELECT ?", (number,)).fetchone() is not None


class Coroutines(DriverContract[aiosqlite.Connection]):
    async def connect(self) -> aiosqlite.Connection:
        return await aiosqlite.connect("app.db")

    async def use(self, connection: aiosqlite.Connection) -> None:
        await connection.execute("SELECT 1")


class Awaitables(DriverContract[aiosqlite.Connection]):
    def connect(self) -> Awaitable[aiosqlite.Connection]:
        return aiosqlite.connect("app.db")


def blocking_fakes() -> None:
    database = FakeDatabase()
    assert_type(sync.QueuePool(database.connect), sync.QueuePool[FakeConnection])
    pool = sync.QueuePool(FakeConnection)
    assert_type(pool, sync.QueuePool[FakeConnection])
    with driven(pool) as clock, pool.connect() as connection:
        assert_type(clock, Clock)
        assert_type(connection.execute("select 1"), FakeCursor)
        assert_type(connection.cursor().fetchone(), Sequence[Any] | None)
        connection.fail("execute", ValueError())
        connection.fail("excute", ValueError())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    wait_until(lambda: database.open)


async def async_fakes() -> None:
    database = FakeDatabase()
    assert_type(
        anypool.QueuePool(database.connect_async), anypool.QueuePool[FakeAsyncConnection]
    )
    pool = anypool.QueuePool(FakeAsyncConnection.connect)
    assert_type(pool, anypool.QueuePool[FakeAsyncConnection])
    with driven(pool, clock=Clock()):
        async with pool.connect() as connection:
            assert_type(await connection.execute("select 1"), FakeAsyncCursor)
    await wait_until_async(lambda: database.open, timeout=1)
