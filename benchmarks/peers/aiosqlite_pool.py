"""aiosqlitepool, which takes any connection with aiosqlite's methods."""

from __future__ import annotations

from aiosqlitepool import SQLiteConnectionPool

from ..fakes import AsyncConnection
from .peer import AsyncPeer, Size


async def asynchronous(size: Size) -> AsyncPeer:
    async def create() -> AsyncConnection:
        await size.sleep_async()
        return AsyncConnection()

    pool = SQLiteConnectionPool(create, pool_size=size.limit)
    return AsyncPeer(pool.connection, close=pool.close)
