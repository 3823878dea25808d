"""The blocking pools: each wraps its async twin, and drives its coroutines."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from types import CodeType, CoroutineType, TracebackType
from typing import Any, Generic, NoReturn, Self, overload

from typing_extensions import TypeVar, Unpack

from .._core import bounds
from .._core.errors import InvalidRequestError
from .._core.listeners import Listener
from .._core.options import (
    POOL_DEFAULT,
    PoolOptions,
    QueuePoolOptions,
    SizedOptions,
    check_timeout,
)
from .._core.stats import PoolStats
from .._pools import assertion, base, null, queue, singleton, static
from .._runtimes import callers
from .._runtimes.callers import caller_here, current_caller, find_caller, this_thread
from .._runtimes.thread import AwaitableCreator, ThreadRuntime, run
from .begun import first_then, without_first
from .bridge import Bridge, LoopThread, Visit
from .lease import PooledConnection

ConnT = TypeVar("ConnT")
T = TypeVar("T")

_getframe = sys._getframe


class Pool(Generic[ConnT]):
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

    _pool_class: type[base.Pool[Any]] = base.Pool

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
        self._lease_type = PooledConnection
        in_loop = iscoroutinefunction(creator)
        if not in_loop:
            options["_runtime"] = ThreadRuntime()
        self._pool: base.Pool[ConnT] = self._pool_class(creator, **options)
        # What runs the pool's coroutines, if it isn't a trampoline.
        self._bridge: Bridge | None = LoopThread() if in_loop else None
        self._switching = threading.Lock()
        _all_facades.add(self)

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

    def _checkout(
        self, share: bool, timeout: float | None, code: CodeType, lasti: int
    ) -> PooledConnection[ConnT]:
        caller, pool = current_caller(), self._pool
        if not pool._blocking:
            lease: PooledConnection[ConnT] = self._run(
                pool._path.checkout_for, self, caller, share, timeout, code, lasti
            )
            return lease
        lease = pool._path.checkout_nowait(self, caller, share, code, lasti)
        if lease._count:
            return lease
        return self._finish(pool, lease, share, timeout, code, lasti)

    def _finish(
        self,
        pool: base.Pool[ConnT],
        lease: PooledConnection[ConnT],
        share: bool,
        timeout: float | None,
        code: CodeType,
        lasti: int,
    ) -> PooledConnection[ConnT]:
        """Do what a checkout could not do without waiting or I/O."""
        try:
            pool._path.checkout_blocking(lease, share, timeout, code, lasti)
            return lease
        except AwaitableCreator as found:
            awaitable = found.awaitable
        self._switch_to_loop(awaitable)
        return self._checkout(share, timeout, code, lasti)

    def _switch_to_loop(self, first: Awaitable[ConnT] | None = None) -> None:
        """The driver turned out to be an async one: wrap a pool in an event loop.

        Other threads may be doing the same at this moment, each with its own awaitable.
        """
        with self._switching:
            blocking = self._pool
            if blocking._blocking:
                self._bridge = bridge = LoopThread()
                creator = first_then(first, blocking._parts.connector.creator)
                pool = type(blocking)(creator, **blocking._recreate_options())
                try:
                    if blocking._was_opened():
                        blocking._stop()
                        run(blocking._runtime.settle(bounds.CLOSE_TIMEOUT))
                        bridge.call(pool.open)
                finally:
                    # Not before it is open: who came would connect by itself. All that
                    # reads this goes by the pool's own mode.
                    self._pool = pool
            elif isinstance(first, CoroutineType):
                first.close()  # another thread was quicker

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        if self._bridge is None or self._pool._blocking:
            return run(function(*args))
        return self._bridge.call(function, *args)

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

    def _run_in_place(self, name: str, *args: Any) -> None:
        pool = self._pool
        self._run(getattr(pool, name), *args)
        if pool._blocking and pool._is_misplaced():
            self._switch_to_loop()
            self._run(getattr(self._pool, name), *args)

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

    def _end_loop(self) -> None:
        bridge = self._bridge
        # Detached connections need their loop; it ends with the facade then.
        if isinstance(bridge, LoopThread) and not self._pool._ledger.leases.detached:
            bridge.stop()
            bridge.thread.join(bounds.CLOSE_TIMEOUT)

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


class NullPool(Pool[ConnT]):
    """Opens a connection for every checkout, and closes it on return."""

    _pool_class = null.NullPool


class StaticPool(Pool[ConnT]):
    """Gives all callers one and the same connection, opened at the first checkout.

    Several threads may have it at a time, so the driver must allow that. It is reset
    whenever one of them returns it.
    """

    _pool_class = static.StaticPool


class AssertionPool(Pool[ConnT]):
    """Allows one checked out connection at a time, and says who broke that.

    A second checkout raises an AssertionError that names the file and line of the first.
    """

    _pool_class = assertion.AssertionPool


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


_all_facades: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for facade in list(_all_facades):
        facade._switching = threading.Lock()  # a thread of the parent may have had it


if hasattr(os, "register_at_fork"):  # pragma: no branch  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
