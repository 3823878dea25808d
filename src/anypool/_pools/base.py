"""Pool: the base of all pools, and what users call on every one of them.

A pool is layered, one file each: Slots (the books) under Closes, Connects, Fitness,
Returns, Checkouts, and Life, that of the pool as a whole. A subclass decides which slot a
caller gets and what becomes of it afterwards, in plain methods; everything that may wait is
a coroutine that touches the outside only through a Runtime and a Driver. Blocking pools
run the same coroutines (see _sync/).
"""

from __future__ import annotations

import math
import os
import sys
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, NoReturn, Self, overload

from typing_extensions import TypeVar, Unpack

from .._core.checkout import Checkout, new_checkout
from .._core.disconnects import Disconnects
from .._core.lease import PooledConnection
from .._core.listeners import Listener, Listeners
from .._core.log import PoolLog
from .._core.options import PoolOptions, check_creator, check_options, check_timeout
from .._core.process import process
from .._core.record import ConnectionRecord
from .._core.stats import Counts
from .._core.waiter import Caller
from .._drivers.older import adapted
from .._runtimes.loop import END_TIMEOUT, AnyioRuntime
from .._runtimes.thread import ThreadRuntime
from .checkouts import POOL_DEFAULT
from .closes import CLOSE_TIMEOUT
from .finalizers import (
    dropped_callback,
    lost_callback,
    terminate,
    weak_call,
    weak_coroutine,
)
from .job import Job
from .life import Life

ConnT = TypeVar("ConnT")
T = TypeVar("T")

_getframe = sys._getframe


class Pool(Life[ConnT]):
    """A pool of connections that a creator makes; the base of all pools.

    Args:
        creator: returns a new connection, or an awaitable of one.
        options: see PoolOptions.

    Raises:
        TypeError, ValueError: an option is not what it should be; the message names it.
    """

    __slots__ = ()

    _timeout: float | None

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
        check_creator(creator)
        self._timeout = None
        base = check_options(type(self).__name__, options)
        self._creator = creator
        self._options = base
        self._recycle = base["recycle"]
        self._jitter = base["recycle_jitter"]
        self._ping_after = _ping_after(base["pre_ping"])
        self._keeps_time = self._recycle >= 0 or self._ping_after < math.inf
        self._timed = True
        self._timed_uses = 0
        self._use_threadlocal: bool = base["use_threadlocal"]
        self._reset_mode = base["reset_on_return"]
        self._lose_all = base["on_disconnect"] == "pool"
        self._log = PoolLog(type(self).__name__, base["name"], base["echo"])
        self._disconnects = Disconnects(base["is_disconnect"], self._log)
        self._listeners = Listeners(base["listeners"] or ())
        self._untold = deque(self._listeners.on_first_connect)
        self._counts = Counts()
        self._lease_type: type[Any] = PooledConnection
        self._driver = base["driver"] and adapted(base["driver"])
        # Set where a coroutine function, or a driver that doesn't block, shows that the
        # creator may be called in the event loop itself.
        self._inline = iscoroutinefunction(creator) or (
            self._driver is not None and not self._driver.blocking
        )
        weak_self = weakref.ref(self)
        self._on_drop = dropped_callback(weak_self)
        self._on_lost = lost_callback(weak_self)
        self._serial = 0
        self._epoch = 0
        self._opened = self._closed = False
        self._dropped: deque[ConnectionRecord[ConnT]] = deque()
        self._clear_books()
        self._runtime: Any = AnyioRuntime(
            on_end=weak_coroutine(weak_self, "_on_loop_end"),
            on_move=weak_call(weak_self, "_on_move"),
            on_settle=weak_call(weak_self, "_on_settle"),
        )
        self._blocking = False
        self._caller = self._runtime.caller
        self._note_settings()
        _all_pools.add(self)

    def _use_threads(self) -> None:
        """Be the pool of a blocking facade; to be called before anything else."""
        self._runtime = ThreadRuntime()
        self._blocking = True

    def _note_settings(self) -> None:
        """Sum up what the uncontended path must know, in one attribute each."""
        self._chatty = self._log.enabled(10)
        self._plain_checkout = not self._listeners.on_checkout and not self._chatty
        self._plain_checkin = (
            not self._listeners.on_checkin
            and not self._listeners.on_reset
            and not self._chatty
            and self._reset_mode != "full"
        )

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
            return await self.call(lambda: function(*args, **kwargs))
        self._runtime.caller()
        blocking = self._driver is not None and self._driver.blocking
        in_thread = blocking and not iscoroutinefunction(function)
        results: list[Any] = []

        async def work() -> None:
            results.append(await self._runtime.call(in_thread, function, *args))

        if in_thread and not self._runtime.blocking:
            # A thread that uses a connection can't be stopped; nobody else may have that
            # connection before it is done.
            caller = self._caller()
            job = Job(self._runtime, work())
            await job.run(interrupt=lambda: self._interrupt(caller))
        else:
            await work()
        return results[0]

    async def _interrupt(self, caller: Caller) -> None:
        """Stop what a caller's connections are doing in worker threads."""
        for key in list(self._out):
            # A connect that nobody waits for any more is there in its own name.
            lease = key() if isinstance(key, weakref.ref) else None
            if lease is None or lease._caller != caller:
                continue
            record = self._out.get(key)
            connection = None if record is None else record.connection
            if record is None or connection is None:
                continue
            driver = record._driver
            interrupt = getattr(driver, "interrupt_thread", driver.interrupt)
            try:
                await self._runtime.call(driver.blocking, interrupt, connection)
            except Exception:
                await self._cut_off(record)  # else it is waited for

    def add_listener(self, listener: Listener[ConnT, PooledConnection[ConnT]]) -> None:
        """Have `listener` told of this pool's connects, checkouts and checkins from now on.

        Raises:
            TypeError: it has none of the methods of a listener.
        """
        self._add_listener(listener)

    def _add_listener(self, listener: Any) -> None:
        told = len(self._listeners.on_first_connect)
        self._listeners.add(listener)
        self._untold.extend(self._listeners.on_first_connect[told:])
        self._note_settings()

    def recreate(self) -> Self:
        """Return a new, empty pool with the same creator, options and listeners."""
        self._log.info("Pool recreating")
        return type(self)(self._creator, **self._recreate_options())

    async def dispose(self) -> None:
        """Close the idle connections now, and those that are out when they return.

        The pool can be used afterwards; it starts anew.
        """
        self._runtime.caller()
        await self._close_slots(self._decide(self._empty))
        self._log.info("Pool disposed. %s", self.status())

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} can't be copied or pickled: make one in each "
            "process; recreate() makes a new one"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status()}>"

    def _recreate_options(self) -> dict[str, Any]:
        return self._options | {"listeners": self._listeners.all}

    # The end of the pool's event loop, and of the pool.

    async def _on_loop_end(self) -> None:
        self._stop_looking_after()
        self._runtime.settled = False  # what is cancelled now is not to be replaced
        # What was begun beside the callers comes first: it may hold connections.
        await self._runtime.settle(END_TIMEOUT)
        records = [record for record in self._records() if record.connection is not None]
        self._abandon_books()
        self._runtime.depart()
        for record in records:
            await self._runtime.within(CLOSE_TIMEOUT, self._close(record, "dispose"))

    def _after_fork(self) -> None:
        """In a forked child: leave everything to the parent, whose sockets they are."""
        # The slots as well that a task or thread of the parent has at this moment.
        for record in [*self._records(), *self._known_records()]:
            process.spare(record, record.connection)
            record.connection = None
        self._abandon_books()
        self._counts = Counts()
        self._runtime.after_fork()

    def _on_settle(self, caller: Callable[[], Caller]) -> None:
        self._caller = caller

    def _on_move(self) -> None:
        self._stop_looking_after()
        records = {*self._records(), *self._known_records()}
        self._abandon_books()
        for record in records:
            if record.connection is not None:
                self._note_close("lost")
            terminate(record)

    def _abandon_books(self) -> None:
        # Those that something is being done to as well: they can't come back from it.
        self._epoch += 1
        for record in [*self._records(), *self._known_records()]:
            record._on_lost = None
            self._count_in(record)
        self._dropped.clear()
        self._clear_books()

    def __del__(self) -> None:
        if hasattr(self, "_runtime"):
            if process.is_strange():
                process.spare(*self._records())
                return
            self._let_care_go()
            for record in self._records():
                terminate(record)
            self._runtime.depart()


def _ping_after(pre_ping: bool | float) -> float:
    """Return the seconds of idling after which a connection has to be pinged."""
    if isinstance(pre_ping, bool):
        return -1.0 if pre_ping else math.inf
    return pre_ping


_all_pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    process.settle()
    for pool in list(_all_pools):
        pool._after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
