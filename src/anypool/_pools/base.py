"""Pool: the base of all pools, and what users call on every one of them.

Blocking pools run the same coroutines (see _sync/).
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NoReturn, Self, overload

from typing_extensions import TypeVar, Unpack

from .._core.checkout import Checkout, new_checkout
from .._core.lease import PooledConnection
from .._core.listeners import Listener
from .._core.options import POOL_DEFAULT, PoolOptions, check_seconds, check_timeout
from .._core.report import Holder, PoolReport
from .._core.stats import PoolStats
from .._ledgers.snapshot import snapshot
from .assembly import Assembly

ConnT = TypeVar("ConnT")
T = TypeVar("T")

_getframe = sys._getframe


class Pool(Assembly[ConnT]):
    """A pool of connections that a creator makes; the base of all pools.

    Args:
        creator: returns a new connection, or an awaitable of one.
        options: see PoolOptions.

    Raises:
        TypeError, ValueError: an option is not what it should be; the message names it.
    """

    __slots__ = ()

    # Not "Callable[[], ConnT]" in the second, here and wherever there are two such forms:
    # a creator of awaitables would suit that as well, and if there is an Any in the type of
    # its connections, mypy would then take the call for ambiguous, and the pool for a
    # QueuePool[Any]. Of a union, on the other hand, mypy can't tell which half is meant by
    # an awaitable; so only the first form suits that.
    # And not "PoolOptions[ConnT, ...]": then a listener that takes any connection, by Any
    # or object, would say what the pool's are. add_listener() checks what it takes.
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
        if type(self) is Pool:
            raise TypeError("Pool is the base of the pools: use QueuePool or another")
        self._assemble(creator, options)

    # What users call.

    def connect(self, *, timeout: float | None = POOL_DEFAULT) -> Checkout[ConnT]:
        """Check a connection out: ``async with`` or ``await`` the result.

        A caller that has one already gets the same one again (unless
        ``use_threadlocal=False``).

        Args:
            timeout: seconds for the whole checkout, in place of the pool's own; 0: don't
                wait for a free connection; None: no limit.

        Raises:
            PoolTimeoutError: there was no connection within the timeout.
        """
        # The caller's code and position, cheaply: its line is worked out only when needed.
        frame = _getframe(1)
        if timeout is not POOL_DEFAULT:
            check_timeout(timeout)
        # new_checkout(), in place.
        checkout: Checkout[ConnT] = Checkout()
        checkout._lease = None
        checkout._order = (
            self,
            self._use_threadlocal,
            timeout,
            frame.f_code,
            frame.f_lasti,
        )
        return checkout

    def unique_connection(self, *, timeout: float | None = POOL_DEFAULT) -> Checkout[ConnT]:
        """Check out a connection that no other connect() of this caller shares.

        Args and errors are those of connect().
        """
        frame = _getframe(1)
        if timeout is not POOL_DEFAULT:
            check_timeout(timeout)
        return new_checkout(self, False, timeout, frame.f_code, frame.f_lasti)

    @overload
    async def call(
        self, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any
    ) -> T: ...
    @overload
    async def call(
        self, function: Callable[..., Awaitable[T] | T], /, *args: Any, **kwargs: Any
    ) -> T: ...
    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function that uses a connection, where that connection may be used.

        In a worker thread if the pool's driver blocks, else right here.
        """
        if kwargs:
            return await self._executor.call(lambda: function(*args, **kwargs))
        return await self._executor.call(function, *args)

    def add_listener(self, listener: Listener[ConnT, PooledConnection[ConnT]]) -> None:
        """Have `listener` told of this pool's connects, checkouts and checkins from now on.

        Raises:
            TypeError: it has none of the methods of a listener.
        """
        self._add_listener(listener)

    def _add_listener(self, listener: Any) -> None:
        self._parts.announcer.add(listener)
        self._note_settings()

    async def open(self) -> None:
        """Begin to look after the pool; the same as entering ``async with pool``.

        A pool that is never opened works, too. An opened one connects in the background, so
        that who waits gets the first connection that comes free, new or returned; it pings,
        renews and closes idle connections as the options say. Does nothing if it is open.

        Raises:
            PoolClosedError: the pool was closed.
            Exception: with ``fail_fast``, what the first connects raise; the pool is then
                closed.
        """
        self._runtime.caller()
        connector = self._parts.connector
        if connector.jitter is None and connector.recycle > 0:
            connector.jitter = connector.recycle / 10
        self._ledger.decide(self._ledger.open)
        await self._begin()

    async def wait(self, timeout: float | None = 30.0) -> None:
        """Wait until an opened pool has ``min_size`` connections.

        Args:
            timeout: seconds; None: no limit.

        Raises:
            PoolTimeoutError: they could not be opened in time; its cause is the driver's
                error, if there was one.
            PoolClosedError: the pool is closed.
        """
        check_seconds("timeout", timeout)
        self._runtime.caller()
        await self._wait_until_warm(timeout)

    async def close(self, timeout: float | None = 10.0) -> None:
        """Close the pool for good, with all its connections.

        From now on checkouts, and those who wait, get a PoolClosedError. Idle connections
        are closed at once, and the others when they return. Those that are still out after
        the timeout are terminated. Detached connections aren't the pool's any more.

        Args:
            timeout: seconds to wait for what is out; None: no limit; 0: don't wait.
        """
        check_seconds("timeout", timeout)
        self._runtime.caller()
        idle = self._ledger.decide(self._ledger.close)
        self._stop()
        await self._shutdown.close(idle, timeout)
        self._log.info("Pool closed. %s", self.status())

    async def drain(self) -> None:
        """Have all connections replaced by and by: those that are out when they return,
        idle ones in the background, or in a pool that isn't open when they are next used.
        """
        self._runtime.caller()
        self._ledger.decide(self._ledger.age)

    async def dispose(self) -> None:
        """Close the idle connections now, and those that are out when they return.

        The pool can be used afterwards; it starts anew.
        """
        self._runtime.caller()
        await self._parts.closer.close_slots(self._ledger.decide(self._ledger.empty))
        self._log.info("Pool disposed. %s", self.status())

    def recreate(self) -> Self:
        """Return a new, empty pool with the same creator, options and listeners."""
        self._log.info("Pool recreating")
        return type(self)(self._parts.connector.creator, **self._recreate_options())

    def holders(self) -> tuple[Holder, ...]:
        """Return who has a connection, and where it was checked out, the longest first."""
        self._leaks.look()
        return self._diagnosis.holders()

    def report(self) -> PoolReport:
        """Say how the pool is, who has its connections, and what to do about it.

        May be called at any time, from any thread, and from a signal handler.
        """
        self._leaks.look()
        return self._diagnosis.report()

    def stats(self) -> PoolStats:
        """Return a snapshot of the pool, and of what it has done since it was made."""
        self._leaks.look()
        if self._ledger.is_deciding():
            return snapshot(self._ledger)  # from a signal handler: about right will do
        return self._ledger.decide(snapshot, self._ledger)

    def status(self) -> str:
        """Describe the pool in one line."""
        return type(self).__name__

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None or isinstance(exc, Exception):
            await self.close()
        else:
            await self.close(timeout=0)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} can't be copied or pickled: make one in each "
            "process; recreate() makes a new one"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status()}>"

    def _recreate_options(self) -> dict[str, Any]:
        return self._options | {"listeners": self._parts.announcer.listeners.all}
