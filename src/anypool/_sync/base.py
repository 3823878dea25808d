"""Pool, blocking: wraps its async twin, and drives its coroutines."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NoReturn, Self, overload

from typing_extensions import TypeVar, Unpack

from .._core.errors import InvalidRequestError
from .._core.listeners import Listener
from .._core.options import (
    POOL_DEFAULT,
    PoolOptions,
    check_timeout,
)
from .._core.report import Holder, PoolReport
from .._core.stats import PoolStats
from .._pools import base
from .._runtimes import callers
from .._runtimes.callers import caller_here, find_caller, this_thread
from .begun import without_first
from .bridge import LoopThread, Visit
from .facade import Facade
from .lease import PooledConnection

ConnT = TypeVar("ConnT")
T = TypeVar("T")

_getframe = sys._getframe


class Pool(Facade[ConnT]):
    """A blocking pool of connections that a creator makes; the base of all of them.

    It wraps an async pool, ``async_pool``, and behaves as that does, with threads in place
    of tasks. If the creator returns awaitables, the async pool runs in an event loop in a
    background thread; use ``call()`` to use its connections.

    Args:
        creator: returns a new connection, or an awaitable of one.
        options: see PoolOptions.

    Raises:
        TypeError, ValueError: an option is not what it should be; the message names it.
    """

    @overload
    def __init__(
        self,
        creator: Callable[[], Awaitable[ConnT]],
        **options: Unpack[PoolOptions[Any, PooledConnection[Any]]],
    ) -> None: ...
    @overload
    def __init__(
        self,
        creator: Callable[[], Awaitable[ConnT] | ConnT],
        **options: Unpack[PoolOptions[Any, PooledConnection[Any]]],
    ) -> None: ...
    def __init__(self, creator: Callable[[], Any], **options: Any) -> None:
        self._wrap(creator, options)

    @property
    def async_pool(self) -> base.Pool[ConnT]:
        """The pool that this facade wraps."""
        return self._pool

    def connect(self, *, timeout: float | None = POOL_DEFAULT) -> PooledConnection[ConnT]:
        """Check a connection out. ``with`` the result to use the driver's connection.

        A thread that has one already gets the same one again (unless
        ``use_threadlocal=False``).

        Args:
            timeout: seconds for the whole checkout, in place of the pool's own; 0: don't
                wait for a free connection; None: no limit.

        Raises:
            PoolTimeoutError: there was no connection within the timeout.
        """
        # Written for speed: what is left out of here is in _checkout().
        frame = _getframe(1)
        if timeout is not POOL_DEFAULT:
            check_timeout(timeout)
        pool = self._pool
        if pool._blocking:
            # current_caller(), in place.
            caller = this_thread.caller
            if caller is None or caller_here() is not caller or callers.running_loop():
                caller = find_caller()
            lease: PooledConnection[ConnT] = pool._path.checkout_nowait(
                self, caller, pool._use_threadlocal, frame.f_code, frame.f_lasti
            )
            if lease._count:
                return lease
            return self._finish(
                pool, lease, pool._use_threadlocal, timeout, frame.f_code, frame.f_lasti
            )
        return self._checkout(pool._use_threadlocal, timeout, frame.f_code, frame.f_lasti)

    def unique_connection(
        self, *, timeout: float | None = POOL_DEFAULT
    ) -> PooledConnection[ConnT]:
        """Check out a connection that no other connect() of this thread shares.

        Args and errors are those of connect().
        """
        frame = _getframe(1)
        if timeout is not POOL_DEFAULT:
            check_timeout(timeout)
        return self._checkout(False, timeout, frame.f_code, frame.f_lasti)

    @overload
    def call(
        self, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any
    ) -> T: ...
    @overload
    def call(
        self, function: Callable[..., Awaitable[T] | T], /, *args: Any, **kwargs: Any
    ) -> T: ...
    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function that uses a connection, where that connection may be used.

        With an async driver: in the pool's event loop, where its result is awaited.
        """
        if kwargs:
            return self.call(lambda: function(*args, **kwargs))
        return self._run(self._pool.call, function, *args)

    def add_listener(self, listener: Listener[ConnT, PooledConnection[ConnT]]) -> None:
        """Have `listener` told of this pool's connects, checkouts and checkins from now on.

        Raises:
            TypeError: it has none of the methods of a listener.
        """
        self._pool._add_listener(listener)

    def recreate(self) -> Self:
        """Return a new, empty pool with the same creator, options and listeners."""
        if isinstance(self._bridge, Visit):
            raise InvalidRequestError("recreate the async pool, not the facade over it")
        creator = without_first(self._pool._parts.connector.creator)
        return type(self)(creator, **self._pool._recreate_options())

    def open(self) -> None:
        """Begin to look after the pool; the same as entering ``with pool``.

        A pool that is never opened works, too. An opened one connects in the background, so
        that who waits gets the first connection that comes free, new or returned; it pings,
        renews and closes idle connections as the options say. Does nothing if it is open.

        Raises:
            PoolClosedError: the pool was closed.
            Exception: with ``fail_fast``, what the first connects raise; the pool is then
                closed.
        """
        try:
            self._run_in_place("open")
        except BaseException:
            if self._pool._ledger.closed:
                self._end_loop()
            raise

    def wait(self, timeout: float | None = 30.0) -> None:
        """Wait until an opened pool has ``min_size`` connections.

        Args:
            timeout: seconds; None: no limit.

        Raises:
            PoolTimeoutError: they could not be opened in time; its cause is the driver's
                error, if there was one.
            PoolClosedError: the pool is closed.
        """
        self._run_in_place("wait", timeout)

    def close(self, timeout: float | None = 10.0) -> None:
        """Close the pool for good, with all its connections.

        From now on checkouts, and those who wait, get a PoolClosedError. Idle connections
        are closed at once, and the others when they return. Those that are still out after
        the timeout are terminated. Detached connections aren't the pool's any more.

        Args:
            timeout: seconds to wait for what is out; None: no limit; 0: don't wait.
        """
        bridge = self._bridge
        if isinstance(bridge, LoopThread) and bridge.has_ended():
            return
        self._run(self._pool.close, timeout)
        self._end_loop()

    def drain(self) -> None:
        """Have all connections replaced by and by: those that are out when they return,
        idle ones in the background, or in a pool that isn't open when they are next used.
        """
        self._run(self._pool.drain)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None or isinstance(exc, Exception):
            self.close()
        else:
            self.close(timeout=0)

    def holders(self) -> tuple[Holder, ...]:
        """Return who has a connection, and where it was checked out, the longest first."""
        return self._pool.holders()

    def report(self) -> PoolReport:
        """Say how the pool is, who has its connections, and what to do about it.

        May be called at any time, from any thread, and from a signal handler.
        """
        return self._pool.report()

    def stats(self) -> PoolStats:
        """Return a snapshot of the pool, and of what it has done since it was made."""
        return self._pool.stats()

    def dispose(self) -> None:
        """Close the idle connections now, and those that are out when they return.

        The pool can be used afterwards; it starts anew.
        """
        self._run(self._pool.dispose)

    def status(self) -> str:
        """Describe the pool in one line."""
        return self._pool.status()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} can't be copied or pickled: make one in each "
            "process; recreate() makes a new one"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self.status()}>"
