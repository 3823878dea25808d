"""QueuePool, blocking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, overload

from typing_extensions import TypeVar, Unpack

from .._core.options import QueuePoolOptions
from .._pools import queue
from .base import Pool
from .lease import PooledConnection

ConnT = TypeVar("ConnT")


class QueuePool(Pool[ConnT]):
    """Keeps up to ``pool_size`` connections, and opens ``max_overflow`` more at need.

    It starts empty. Idle connections go out first in, first out. When all are out, callers
    wait in a queue, first come, first served.

    Args:
        creator: returns a new connection, or an awaitable of one.
        pool_size: how many connections to keep; 0: no limit. Default 5.
        max_overflow: how many more may be open at a time; they are closed on return.
            -1: no limit. Default 10.
        timeout: seconds that a checkout may take; 0: never wait for a free connection;
            None: wait for ever. A blocking connect can't be interrupted: if it ends after
            the timeout, PoolTimeoutError is raised then, and the connection kept.
            Default 30.
        options: see QueuePoolOptions.

    Raises:
        TypeError, ValueError: an option is not what it should be; the message names it.
    """

    _pool_class = queue.QueuePool

    @overload
    def __init__(
        self,
        creator: Callable[[], Awaitable[ConnT]],
        **options: Unpack[QueuePoolOptions[Any, PooledConnection[Any]]],
    ) -> None: ...
    @overload
    def __init__(
        self,
        creator: Callable[[], Awaitable[ConnT] | ConnT],
        **options: Unpack[QueuePoolOptions[Any, PooledConnection[Any]]],
    ) -> None: ...
    def __init__(self, creator: Callable[[], Any], **options: Any) -> None:
        super().__init__(creator, **options)

    @property
    def async_pool(self) -> queue.QueuePool[ConnT]:
        """The pool that this facade wraps."""
        assert isinstance(self._pool, queue.QueuePool)
        return self._pool

    def size(self) -> int:
        """Return ``pool_size``."""
        return self.async_pool.size()

    def checkedin(self) -> int:
        """Return how many slots are idle."""
        return self.async_pool.checkedin()

    def overflow(self) -> int:
        """Return how many slots there are beyond ``pool_size``; negative below that."""
        return self.async_pool.overflow()

    def checkedout(self) -> int:
        """Return how many slots are out: always size - checkedin + overflow."""
        return self.async_pool.checkedout()

    def resize(self, pool_size: int, max_overflow: int | None = None) -> None:
        """Change the size of the pool while it is in use.

        What is too much is closed now if it is idle, else when it returns.

        Args:
            pool_size: how many connections to keep; 0: no limit.
            max_overflow: how many more may be open at a time; -1: no limit. Default: as
                many as up to now.

        Raises:
            TypeError, ValueError: one of them is not what it should be.
        """
        self._run(self.async_pool.resize, pool_size, max_overflow)

    def suspend(self) -> None:
        """Hold all checkouts back until resume(): they wait, as long as their timeout is.

        For a planned failover. What is out may be used and returned.
        """
        self._run(self.async_pool._hold_back, True)

    def resume(self) -> None:
        """Serve those who wait since suspend(), and all others, again."""
        self._run(self.async_pool._hold_back, False)
