"""Lines that must be errors: an ignore that ignores nothing is an error itself."""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import sqlite3

import aiosqlite

import anypool
from anypool import sync


def open_blocking() -> sqlite3.Connection:
    return sqlite3.connect("app.db")


async def open_async() -> aiosqlite.Connection:
    return await aiosqlite.connect("app.db")


class WrongSignature:
    def connect(self, connection: sqlite3.Connection) -> None: ...


class WrongConnection:
    def checkin(
        self,
        connection: aiosqlite.Connection | None,
        record: anypool.ConnectionRecord[aiosqlite.Connection],
    ) -> None: ...


async def is_later(error: Exception, connection: sqlite3.Connection) -> bool:
    return False


class NoListener:
    def conect(self, connection: object, record: object) -> None: ...


async def wrong_async() -> None:
    pool = anypool.QueuePool(open_async)
    async with pool.connect() as conn:
        await conn.exekute("select 1")  # type: ignore[attr-defined]  # no such method
    pool.connect().execute("select 1")  # type: ignore[attr-defined]  # not awaited
    pool.connect().close()  # type: ignore[attr-defined]  # not awaited
    with pool.connect() as conn:  # type: ignore[attr-defined]  # needs async with
        pass
    lease = await pool.connect()
    lease.connection.exekute("select 1")  # type: ignore[attr-defined]  # no such method
    with lease:  # type: ignore[attr-defined]  # needs async with
        pass
    lease.close()  # type: ignore[unused-coroutine]  # not awaited
    _: int = lease.close()  # type: ignore[assignment]  # a coroutine
    anypool.QueuePool(open_async, listeners=[WrongConnection()], pool_size=1).size().x  # type: ignore[attr-defined]  # an int


def wrong_blocking() -> None:
    pool = sync.QueuePool(open_blocking)
    with pool.connect() as conn:
        conn.exekute("select 1")  # type: ignore[attr-defined]  # no such method
    sync.QueuePool(open_blocking, pool_sise=1)  # type: ignore[call-overload]  # misspelt
    sync.QueuePool(open_blocking, pool_size="1")  # type: ignore[call-overload]  # a string
    sync.QueuePool(open_blocking, reset_on_return="x")  # type: ignore[call-overload]  # no such mode
    sync.QueuePool("app.db")  # type: ignore[call-overload]  # not a creator
    sync.NullPool(open_blocking, pool_size=1)  # type: ignore[call-overload]  # has no size
    pool.add_listener(WrongSignature())  # type: ignore[arg-type]  # too few parameters
    pool.add_listener(WrongConnection())  # type: ignore[arg-type]  # another connection
    pool.add_listener(NoListener())  # type: ignore[arg-type]  # misspelt
    sync.QueuePool(open_blocking, listeners=[NoListener()])  # type: ignore[arg-type,list-item]  # misspelt
    sync.QueuePool(open_blocking, is_disconnect="40001")  # type: ignore[call-overload]  # no class
    sync.QueuePool(open_blocking, is_disconnect=int)  # type: ignore[arg-type]  # no error
    sync.QueuePool(open_blocking, is_disconnect=(OSError, int))  # type: ignore[arg-type]  # no error
    sync.QueuePool(open_blocking, is_disconnect=[OSError])  # type: ignore[call-overload]  # no tuple
    sync.QueuePool(open_blocking, is_disconnect=is_later)  # type: ignore[arg-type]  # a coroutine
