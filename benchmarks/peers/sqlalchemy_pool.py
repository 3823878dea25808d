"""SQLAlchemy's QueuePool and AsyncAdaptedQueuePool, used by themselves."""

from __future__ import annotations

import asyncio
from contextlib import closing
from types import TracebackType
from typing import Any

from sqlalchemy.pool import (
    AsyncAdaptedQueuePool,
    PoolProxiedConnection,
    QueuePool,
)
from sqlalchemy.util.concurrency import await_only, greenlet_spawn

from ..fakes import AsyncConnection, Connection
from .peer import AsyncPeer, BlockingPeer, Size


class _Adapted:
    """An async connection as SQLAlchemy's async dialects present it to its pool."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    def cursor(self) -> None: ...

    def commit(self) -> None:
        await_only(self._connection.commit())

    def rollback(self) -> None:
        await_only(self._connection.rollback())

    def close(self) -> None:
        await_only(self._connection.close())


class _Block:
    """What AsyncConnection does around the pool: a greenlet for each of its steps."""

    __slots__ = ("_connection", "_pool")

    _connection: PoolProxiedConnection

    def __init__(self, pool: AsyncAdaptedQueuePool) -> None:
        self._pool = pool

    async def __aenter__(self) -> PoolProxiedConnection:
        self._connection = await greenlet_spawn(self._pool.connect)
        return self._connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await greenlet_spawn(self._connection.close)


async def asynchronous(size: Size) -> AsyncPeer:
    def create() -> Any:
        if size.connect_time:
            await_only(asyncio.sleep(size.connect_time))
        return _Adapted(AsyncConnection())

    pool = AsyncAdaptedQueuePool(create, pool_size=size.keep, max_overflow=size.extra)

    async def explicit(count: int) -> None:
        for _ in range(count):
            connection = await greenlet_spawn(pool.connect)
            await greenlet_spawn(connection.close)

    return AsyncPeer(lambda: _Block(pool), explicit, lambda: greenlet_spawn(pool.dispose))


def pool(size: Size) -> QueuePool:
    """Make a blocking pool."""

    def create() -> Any:
        size.sleep()
        return Connection()

    return QueuePool(create, pool_size=size.keep, max_overflow=size.extra)


def blocking(size: Size) -> BlockingPeer:
    made = pool(size)

    def explicit(count: int) -> None:
        for _ in range(count):
            made.connect().close()

    return BlockingPeer(
        lambda: closing(made.connect()), explicit, made.dispose, only_explicit=True
    )
