"""over(): a blocking facade for a pool that lives in an event loop."""

from __future__ import annotations

from typing_extensions import TypeVar

from .._pools import base
from .base import Pool
from .bridge import Visit
from .lease import PooledConnection

ConnT = TypeVar("ConnT")


def over(pool: base.Pool[ConnT]) -> Pool[ConnT]:
    """Lay a blocking facade over an async pool, for its program's worker threads.

    Tasks and threads then share one budget of connections.

    Args:
        pool: an async pool. If no event loop has used it yet, call this inside the loop.
    """
    facade: Pool[ConnT] = Pool.__new__(Pool)
    facade._lease_type = PooledConnection
    facade._pool = pool
    facade._bridge = Visit(pool)
    pool._runtime.try_settle_in()
    return facade
