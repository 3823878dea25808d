"""generic-connection-pool, with a connection manager that rolls back on release."""

from __future__ import annotations

from functools import partial

from generic_connection_pool import asyncio as for_tasks
from generic_connection_pool import threading as for_threads

from ..fakes import AsyncConnection, Connection
from .peer import AsyncPeer, BlockingPeer, Size

_ENDPOINT = "fake"


class _AsyncManager(for_tasks.BaseConnectionManager[str, AsyncConnection]):
    def __init__(self, size: Size) -> None:
        self._size = size

    async def create(self, endpoint: str) -> AsyncConnection:
        await self._size.sleep_async()
        return AsyncConnection()

    async def dispose(self, endpoint: str, conn: AsyncConnection) -> None:
        await conn.close()

    async def on_release(self, endpoint: str, conn: AsyncConnection) -> None:
        await conn.rollback()


class _Manager(for_threads.BaseConnectionManager[str, Connection]):
    def __init__(self, size: Size) -> None:
        self._size = size

    def create(self, endpoint: str, timeout: float | None = None) -> Connection:
        self._size.sleep()
        return Connection()

    def dispose(
        self, endpoint: str, conn: Connection, timeout: float | None = None
    ) -> None:
        conn.close()

    def on_release(self, endpoint: str, conn: Connection) -> None:
        conn.rollback()


async def asynchronous(size: Size) -> AsyncPeer:
    pool = for_tasks.ConnectionPool[str, AsyncConnection](
        _AsyncManager(size),
        min_idle=size.keep,
        max_size=size.limit,
        total_max_size=size.limit,
    )

    async def explicit(count: int) -> None:
        for _ in range(count):
            connection = await pool.acquire(_ENDPOINT)
            await pool.release(connection, _ENDPOINT)

    return AsyncPeer(partial(pool.connection, _ENDPOINT), explicit, pool.close)


def blocking(size: Size) -> BlockingPeer:
    pool = for_threads.ConnectionPool[str, Connection](
        _Manager(size), min_idle=size.keep, max_size=size.limit, total_max_size=size.limit
    )

    def explicit(count: int) -> None:
        for _ in range(count):
            connection = pool.acquire(_ENDPOINT)
            pool.release(connection, _ENDPOINT)

    return BlockingPeer(partial(pool.connection, _ENDPOINT), explicit, pool.close)
