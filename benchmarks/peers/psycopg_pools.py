"""psycopg_pool, over fake connections with what it looks at in psycopg's."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from ..fakes import AsyncConnection, Connection
from .peer import AsyncPeer, BlockingPeer, Size

_IDLE = SimpleNamespace(transaction_status=TransactionStatus.IDLE)

# What it says about workers that are late to end when a short run closes it.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def _connection_class(size: Size) -> Any:
    class FakeConnection(Connection):
        pgconn = _IDLE

        @classmethod
        def connect(cls, conninfo: str, **kwargs: object) -> FakeConnection:
            size.sleep()
            return cls()

    return FakeConnection


def _async_connection_class(size: Size) -> Any:
    class FakeConnection(AsyncConnection):
        pgconn = _IDLE

        @classmethod
        async def connect(cls, conninfo: str, **kwargs: object) -> FakeConnection:
            await size.sleep_async()
            return cls()

    return FakeConnection


async def asynchronous(size: Size) -> AsyncPeer:
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        connection_class=_async_connection_class(size),
        min_size=size.at_start,
        max_size=size.limit,
        open=False,
    )
    await pool.open(wait=not size.connect_time)

    async def explicit(count: int) -> None:
        for _ in range(count):
            connection = await pool.getconn()
            await pool.putconn(connection)

    return AsyncPeer(pool.connection, explicit, pool.close)


def blocking(size: Size) -> BlockingPeer:
    pool: ConnectionPool[Any] = ConnectionPool(
        connection_class=_connection_class(size),
        min_size=size.at_start,
        max_size=size.limit,
        open=False,
    )
    pool.open(wait=not size.connect_time)

    def explicit(count: int) -> None:
        for _ in range(count):
            pool.putconn(pool.getconn())

    return BlockingPeer(pool.connection, explicit, pool.close)
