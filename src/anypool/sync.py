"""The blocking twins of anypool's pools: same names, same options, threads for tasks."""

from ._sync.assertion import AssertionPool
from ._sync.base import Pool
from ._sync.create import create_pool
from ._sync.cursor import PooledCursor
from ._sync.lease import PooledConnection
from ._sync.manager import Manager, clear_managers, manage
from ._sync.null import NullPool
from ._sync.over import over
from ._sync.queue import QueuePool
from ._sync.singleton import SingletonThreadPool
from ._sync.static import StaticPool

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
