"""asyncpg's pool, over connections whose protocol does nothing.

The connections are a subclass of asyncpg's own, as its pool demands, with the reset query
left out: a round trip to a server is not the pool's work.
"""

from __future__ import annotations

from typing import Any

import asyncpg

from .peer import AsyncPeer, Size


class _Protocol:
    """As much of asyncpg's protocol as its pool looks at."""

    queries_count = 0

    def _is_cancelling(self) -> bool:
        return False


class _Connection(asyncpg.Connection):
    def __init__(self) -> None:
        # asyncpg.Connection's own __init__ wants a server.
        self._protocol = _Protocol()
        self._proxy = None
        self._pool_holder = None
        self._pool_release_ctr = 0
        self._listeners: dict[Any, Any] = {}
        self._log_listeners: set[Any] = set()

    def __del__(self) -> None: ...

    def is_closed(self) -> bool:
        return False

    async def reset(self, *, timeout: float | None = None) -> None: ...

    async def close(self, *, timeout: float | None = None) -> None: ...

    def terminate(self) -> None: ...


async def asynchronous(size: Size) -> AsyncPeer:
    async def connect(*args: object, **kwargs: object) -> _Connection:
        await size.sleep_async()
        return _Connection()

    library: Any = asyncpg  # the stubs here know of connections only
    pool = await library.create_pool(
        connect=connect,
        connection_class=_Connection,
        min_size=size.at_start,
        max_size=size.limit,
    )

    async def explicit(count: int) -> None:
        for _ in range(count):
            connection = await pool.acquire()
            await pool.release(connection)

    return AsyncPeer(pool.acquire, explicit, pool.close)
