"""anypool."""

from __future__ import annotations

import anypool
from anypool import sync

from ..fakes import AsyncConnection, Connection
from .peer import AsyncPeer, BlockingPeer, Size


def pool(size: Size) -> anypool.QueuePool[AsyncConnection]:
    """Make an async pool."""

    async def create() -> AsyncConnection:
        await size.sleep_async()
        return AsyncConnection()

    return anypool.QueuePool(create, pool_size=size.keep, max_overflow=size.extra)


def sync_pool(size: Size) -> sync.QueuePool[Connection]:
    """Make a blocking pool."""

    def create() -> Connection:
        size.sleep()
        return Connection()

    return sync.QueuePool(create, pool_size=size.keep, max_overflow=size.extra)


async def asynchronous(size: Size) -> AsyncPeer:
    made = pool(size)

    async def explicit(count: int) -> None:
        for _ in range(count):
            lease = await made.connect()
            await lease.close()

    return AsyncPeer(made.connect, explicit, made.dispose)


def blocking(size: Size) -> BlockingPeer:
    made = sync_pool(size)

    def explicit(count: int) -> None:
        for _ in range(count):
            made.connect().close()

    return BlockingPeer(made.connect, explicit, made.dispose)
