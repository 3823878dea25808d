"""The type of a connection is inferred from the creator, in both modes."""

from __future__ import annotations

import sqlite3
from typing import Any, assert_type

import aiosqlite

import anypool
from anypool import sync


async def open_async() -> aiosqlite.Connection:
    return await aiosqlite.connect("app.db")


def open_blocking() -> sqlite3.Connection:
    return sqlite3.connect("app.db")


class Settings:
    """A listener with all methods."""

    def connect(
        self,
        connection: sqlite3.Connection,
        record: anypool.ConnectionRecord[sqlite3.Connection],
    ) -> None:
        connection.execute("PRAGMA foreign_keys=ON")
        assert_type(record.connection, sqlite3.Connection | None)
        assert_type(record.info, dict[Any, Any])

    def checkout(
        self,
        connection: sqlite3.Connection,
        record: anypool.ConnectionRecord[sqlite3.Connection],
        lease: sync.PooledConnection[sqlite3.Connection],
    ) -> None: ...

    def checkin(
        self,
        connection: sqlite3.Connection | None,
        record: anypool.ConnectionRecord[sqlite3.Connection],
    ) -> None: ...


class AsyncSettings:
    """A listener for async pools, with coroutine methods."""

    async def connect(
        self,
        connection: aiosqlite.Connection,
        record: anypool.ConnectionRecord[aiosqlite.Connection],
    ) -> None:
        await connection.execute("PRAGMA foreign_keys=ON")

    async def checkout(
        self,
        connection: aiosqlite.Connection,
        record: anypool.ConnectionRecord[aiosqlite.Connection],
        lease: anypool.PooledConnection[aiosqlite.Connection],
    ) -> None: ...


async def async_pools() -> None:
    from_lambda = anypool.QueuePool(lambda: aiosqlite.connect("app.db"), pool_size=5)
    assert_type(from_lambda, anypool.QueuePool[aiosqlite.Connection])
    assert_type(anypool.QueuePool(open_async), anypool.QueuePool[aiosqlite.Connection])
    assert_type(anypool.QueuePool(open_blocking), anypool.QueuePool[sqlite3.Connection])
    assert_type(anypool.NullPool(open_async), anypool.NullPool[aiosqlite.Connection])
    assert_type(anypool.StaticPool(open_async), anypool.StaticPool[aiosqlite.Connection])
    assert_type(
        anypool.AssertionPool(open_async), anypool.AssertionPool[aiosqlite.Connection]
    )
    singleton = anypool.SingletonTaskPool(open_async, pool_size=2)
    assert_type(singleton, anypool.SingletonTaskPool[aiosqlite.Connection])
    listening = anypool.QueuePool(open_async, listeners=[AsyncSettings()])
    assert_type(listening, anypool.QueuePool[aiosqlite.Connection])
    listening.add_listener(AsyncSettings())

    async with from_lambda.connect() as conn:
        assert_type(conn, aiosqlite.Connection)
        await conn.execute("select 1")
    lease = await from_lambda.connect(timeout=1.5)
    assert_type(lease, anypool.PooledConnection[aiosqlite.Connection])
    assert_type(lease.connection, aiosqlite.Connection)
    assert_type(lease.info, dict[Any, Any])
    assert_type(lease.record, anypool.ConnectionRecord[aiosqlite.Connection])
    assert_type(lease.record.info, dict[Any, Any])
    assert_type(lease.is_valid, bool)
    assert_type(await lease.cursor(), anypool.PooledCursor)
    await lease.detach()
    await lease.invalidate(ValueError())
    await lease.close()
    async with lease as conn:
        assert_type(conn, aiosqlite.Connection)
    assert_type(from_lambda.recreate(), anypool.QueuePool[aiosqlite.Connection])
    assert_type(from_lambda.checkedout(), int)

    over = sync.over(from_lambda)
    assert_type(over, sync.Pool[aiosqlite.Connection])

    managed = anypool.manage(aiosqlite)
    async with managed.connect("app.db") as conn:
        assert_type(conn, aiosqlite.Connection)
    await anypool.clear_managers()


def blocking_pools() -> None:
    pool = sync.QueuePool(lambda: sqlite3.connect("app.db"), max_overflow=-1, timeout=None)
    assert_type(pool, sync.QueuePool[sqlite3.Connection])
    assert_type(pool.async_pool, anypool.QueuePool[sqlite3.Connection])
    assert_type(sync.QueuePool(open_async), sync.QueuePool[aiosqlite.Connection])
    assert_type(sync.NullPool(open_blocking), sync.NullPool[sqlite3.Connection])
    assert_type(sync.StaticPool(open_blocking), sync.StaticPool[sqlite3.Connection])
    assert_type(sync.AssertionPool(open_blocking), sync.AssertionPool[sqlite3.Connection])
    threads = sync.SingletonThreadPool(open_blocking, pool_size=2)
    assert_type(threads, sync.SingletonThreadPool[sqlite3.Connection])
    threads.dispose_local()

    with pool.connect() as conn:
        assert_type(conn, sqlite3.Connection)
        with conn:
            conn.execute("select 1")
    lease = pool.connect()
    assert_type(lease, sync.PooledConnection[sqlite3.Connection])
    assert_type(lease.connection, sqlite3.Connection)
    assert_type(lease.record, anypool.ConnectionRecord[sqlite3.Connection])
    assert_type(lease.info, dict[Any, Any])
    assert_type(lease.cursor(), sync.PooledCursor)
    lease.execute("select 1")  # the connection's, typed Any
    lease.close()
    assert_type(pool.call(len, "abc"), int)
    assert_type(pool.recreate(), sync.QueuePool[sqlite3.Connection])
    sync.QueuePool(open_blocking, listeners=[Settings()]).add_listener(Settings())


class Repository:
    """A class with an annotated attribute, as applications have them."""

    pool: sync.QueuePool[sqlite3.Connection]

    def __init__(self) -> None:
        self.pool = sync.QueuePool(open_blocking)

    def names(self) -> list[str]:
        with self.pool.connect() as conn:
            return [row[0] for row in conn.execute("select name from users")]


def use_any(pool: anypool.Pool[sqlite3.Connection]) -> None:
    """Functions may ask for the base class."""


use_any(anypool.QueuePool(open_blocking))
use_any(anypool.NullPool(open_blocking))
