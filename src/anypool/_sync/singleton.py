"""SingletonThreadPool: one connection for each thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, overload

from typing_extensions import TypeVar, Unpack

from .._core.options import SizedOptions
from .._pools import singleton
from .._runtimes.callers import current_caller
from .base import Pool
from .lease import PooledConnection

ConnT = TypeVar("ConnT")


class SingletonThreadPool(Pool[ConnT]):
    """Keeps one connection for each thread: SingletonTaskPool, with threads for tasks.

    The connection is opened at the thread's first checkout and closed when the thread has
    ended. It never goes to another thread.

    Args:
        creator: returns a new connection, or an awaitable of one.
        pool_size: how many threads' connections to keep. Beyond that, those that nobody
            has checked out are closed. Not a limit on how many can be in use. Default 5.
        options: see PoolOptions. ``use_threadlocal`` is always true.

    Raises:
        TypeError, ValueError: an option is not what it should be; the message names it.
    """

    _pool_class = singleton.SingletonTaskPool

    @overload
    def __init__(
        self,
        creator: Callable[[], Awaitable[ConnT]],
        **options: Unpack[SizedOptions[Any, PooledConnection[Any]]],
    ) -> None: ...
    @overload
    def __init__(
        self,
        creator: Callable[[], Awaitable[ConnT] | ConnT],
        **options: Unpack[SizedOptions[Any, PooledConnection[Any]]],
    ) -> None: ...
    def __init__(self, creator: Callable[[], Any], **options: Any) -> None:
        super().__init__(creator, **options)

    @property
    def async_pool(self) -> singleton.SingletonTaskPool[ConnT]:
        """The pool that this facade wraps."""
        assert isinstance(self._pool, singleton.SingletonTaskPool)
        return self._pool

    def size(self) -> int:
        """Return ``pool_size``."""
        return self.async_pool.size()

    def status(self) -> str:
        return f"SingletonThreadPool size: {self.async_pool.kept()}"

    def dispose_local(self) -> None:
        """Close the current thread's connection; if it is out, when it returns."""
        self._run(self.async_pool._dispose_caller, current_caller())
