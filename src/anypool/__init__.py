"""anypool: a connection pool for any driver, tasks or threads, fully typed.

The async pools are here, their blocking twins in ``anypool.sync``.
"""

from ._core.checkout import Checkout
from ._core.cursor import PooledCursor
from ._core.driver import CannotReset, ConnectionState, Driver
from ._core.errors import (
    DisconnectionError,
    InvalidRequestError,
    PoolClosedError,
    PoolDeadlockError,
    PoolError,
    PoolTimeoutError,
    TooManyWaitersError,
)
from ._core.histogram import Histogram
from ._core.lease import PooledConnection
from ._core.listeners import (
    BeforeConnectListener,
    CheckinListener,
    CheckoutListener,
    CloseListener,
    ConnectListener,
    DetachListener,
    FirstConnectListener,
    InvalidateListener,
    Listener,
    ResetListener,
)
from ._core.options import PoolOptions, QueuePoolOptions, SizedOptions
from ._core.record import ConnectionRecord
from ._core.report import Cause, Holder, PoolReport
from ._core.resetmode import ResetMode
from ._core.stats import CloseReason, PoolStats
from ._drivers.registry import register_driver
from ._pools.assertion import AssertionPool
from ._pools.base import Pool
from ._pools.create import create_pool
from ._pools.manager import Manager, clear_managers, manage
from ._pools.null import NullPool
from ._pools.queue import QueuePool
from ._pools.singleton import SingletonTaskPool
from ._pools.static import StaticPool

__all__ = [
    "AssertionPool",
    "BeforeConnectListener",
    "CannotReset",
    "Cause",
    "CheckinListener",
    "Checkout",
    "CheckoutListener",
    "CloseListener",
    "CloseReason",
    "ConnectListener",
    "ConnectionRecord",
    "ConnectionState",
    "DetachListener",
    "DisconnectionError",
    "Driver",
    "FirstConnectListener",
    "Histogram",
    "Holder",
    "InvalidRequestError",
    "InvalidateListener",
    "Listener",
    "Manager",
    "NullPool",
    "Pool",
    "PoolClosedError",
    "PoolDeadlockError",
    "PoolError",
    "PoolOptions",
    "PoolReport",
    "PoolStats",
    "PoolTimeoutError",
    "PooledConnection",
    "PooledCursor",
    "QueuePool",
    "QueuePoolOptions",
    "ResetListener",
    "ResetMode",
    "SingletonTaskPool",
    "SizedOptions",
    "StaticPool",
    "TooManyWaitersError",
    "clear_managers",
    "create_pool",
    "manage",
    "register_driver",
]
