"""The blocking twins of anypool's pools: same names, same options, threads for tasks."""

from ._sync.create import create_pool
from ._sync.cursor import PooledCursor
from ._sync.lease import PooledConnection
from ._sync.manager import Manager, clear_managers, manage
from ._sync.pools import (
    AssertionPool,
    NullPool,
    Pool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
    over,
)

__all__ = [
    "AssertionPool",
    "Manager",
    "NullPool",
    "Pool",
    "PooledConnection",
    "PooledCursor",
    "QueuePool",
    "SingletonThreadPool",
    "StaticPool",
    "clear_managers",
    "create_pool",
    "manage",
    "over",
]
