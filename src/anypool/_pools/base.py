"""Pool: the base of all pools: the public methods, and the putting together of the parts.

Blocking pools run the same coroutines (see _sync/).
"""

from __future__ import annotations

import math
import os
import sys
import weakref
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, ClassVar, Generic, NoReturn, Self, overload

from typing_extensions import TypeVar, Unpack

from .._core.checkout import Checkout, new_checkout
from .._core.disconnects import Disconnects
from .._core.lease import PooledConnection
from .._core.listeners import Listener
from .._core.log import PoolLog
from .._core.options import (
    POOL_DEFAULT,
    PoolOptions,
    check_creator,
    check_options,
    check_seconds,
    check_timeout,
)
from .._core.process import process
from .._core.stats import PoolStats
from .._core.waiter import Caller
from .._drivers.older import adapted
from .._ledgers.ledger import Ledger
from .._ledgers.snapshot import snapshot
from .._ledgers.surroundings import Calls
from .._parts.announcer import Announcer
from .._parts.background import Background
from .._parts.checkouts import Checkouts
from .._parts.connector import Connector
from .._parts.executor import Executor
from .._parts.finalizers import (
    dropped_callback,
    lost_callback,
    terminate,
    weak_call,
    weak_coroutine,
)
from .._parts.path import Path
from .._parts.reclaimer import Reclaimer
from .._parts.shutdown import Shutdown
from .._runtimes.loop import AnyioRuntime
from .parts import Kinds, Parts

ConnT = TypeVar("ConnT")
T = TypeVar("T")

_getframe = sys._getframe


class Pool(Generic[ConnT]):
    """A pool of connections that a creator makes; the base of all pools.

    Args:
        creator: returns a new connection, or an awaitable of one.
        options: see PoolOptions.

    Raises:
        TypeError, ValueError: an option is not what it should be; the message names it.
    """

    __slots__ = (
        "__weakref__",
        "_blocking",
        "_disconnects",
        "_executor",
        "_lease_type",
        "_ledger",
        "_log",
        "_options",
        "_parts",
        "_path",
        "_reclaimer",
        "_runtime",
        "_shutdown",
        "_use_threadlocal",
    )

    _kinds: ClassVar[Kinds] = Kinds()

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
        runtime = options.pop("_runtime", None)  # a facade's, for threads
        self._options = base = check_options(type(self).__name__, options)
        self._use_threadlocal: bool = base["use_threadlocal"]
        self._log = PoolLog(type(self).__name__, base["name"], base["echo"])
        self._disconnects: Disconnects[ConnT]
        self._disconnects = Disconnects(base["is_disconnect"], self._log)
        self._lease_type: type[Any] = PooledConnection
        # What calls the pool from below doesn't keep it alive.
        weak_self = weakref.ref(self)
        self._runtime: Any = runtime or AnyioRuntime(
            on_end=weak_coroutine(weak_self, "_on_loop_end"),
            on_move=weak_call(weak_self, "_on_move"),
            on_settle=weak_call(weak_self, "_on_settle"),
        )
        self._blocking: bool = self._runtime.blocking
        calls = Calls(
            on_decided=weak_call(weak_self, "_after_decision"),
            on_drop=dropped_callback(weak_self),
            on_lost=lost_callback(weak_self),
        )
        self._ledger = self._new_ledger(self._runtime, calls, self._is_timed(base))
        self._put_together(creator, Background(self._runtime, weak_self), base)
        self._note_settings()
        _all_pools.add(self)

    # Putting together.

    def _is_timed(self, options: dict[str, Any]) -> bool:
        """Tell whether the pool has to know when connections go out and come back."""
        return (
            options["use_times"]
            or options["recycle"] >= 0
            or _ping_after(options["pre_ping"]) < math.inf
        )

    def _new_ledger(self, runtime: Any, calls: Calls, timed: bool) -> Ledger[ConnT]:
        raise NotImplementedError

    def _put_together(
        self, creator: Callable[[], Any], background: Background, options: dict[str, Any]
    ) -> None:
        ledger, kinds = self._ledger, self._kinds
        lose_all = options["on_disconnect"] == "pool"
        announcer: Announcer[ConnT]
        announcer = Announcer(self._runtime, options["listeners"] or (), self._log)
        closer = kinds.closer(
            ledger, background, announcer, self._disconnects, lose_all=lose_all
        )
        connector: Connector[ConnT] = Connector(
            creator,
            ledger,
            background,
            announcer,
            closer,
            driver=options["driver"] and adapted(options["driver"]),
            recycle=options["recycle"],
            jitter=options["recycle_jitter"],
            quick=not lose_all,
            full=options["reset_on_return"] == "full",
        )
        ping_after = _ping_after(options["pre_ping"])
        inspector = kinds.inspector(
            ledger, background, closer, self._log, ping_after=ping_after
        )
        mode = options["reset_on_return"]
        resetter = kinds.resetter(self._runtime, announcer, closer, mode)
        checkins = kinds.checkins(ledger, self._runtime, announcer, closer, resetter)
        self._reclaimer: Reclaimer[ConnT]
        self._reclaimer = Reclaimer(ledger, background, closer, checkins, self._log)
        self._shutdown: Shutdown[ConnT]
        self._shutdown = Shutdown(ledger, self._runtime, announcer, closer)
        self._executor = Executor(ledger, background, closer, connector)
        self._parts = Parts(background, announcer, closer, connector, inspector, checkins)
        self._path: Path[ConnT] = self._new_path(self._parts)

    def _new_path(self, parts: Parts) -> Path[ConnT]:
        checkouts = self._new_checkouts(parts)
        return Path(self._ledger, self._runtime, checkouts, parts.checkins, self._reclaimer)

    def _new_checkouts(self, parts: Parts) -> Checkouts[ConnT]:
        return self._kinds.checkouts(
            self._ledger,
            self._runtime,
            parts.announcer,
            parts.closer,
            parts.connector,
            parts.inspector,
            parts.checkins,
            None,
        )

    def _note_settings(self) -> None:
        """Sum up what the quick path must know of listeners and logging."""

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
        """
        self._runtime.caller()
        connector = self._parts.connector
        if connector.jitter is None and connector.recycle > 0:
            connector.jitter = connector.recycle / 10
        self._ledger.decide(self._ledger.open)

    async def wait(self, timeout: float | None = 30.0) -> None:
        """Wait until an opened pool has the connections that it shall have at least.

        Args:
            timeout: seconds; None: no limit.

        Raises:
            PoolTimeoutError: they could not be opened in time; its cause is the driver's
                error, if there was one.
            PoolClosedError: the pool is closed.
        """
        check_seconds("timeout", timeout)
        self._ledger.decide(self._ledger.check_open)

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

    def stats(self) -> PoolStats:
        """Return a snapshot of the pool, and of what it has done since it was made."""
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

    # What is called from below.

    def _after_decision(self) -> None:
        """Do what could not be done in the middle of a decision."""
        if self._ledger.dropped and self._blocking:
            self._reclaimer.collect()

    def _on_settle(self, caller: Callable[[], Caller]) -> None:
        self._path.find_caller = caller

    async def _on_loop_end(self) -> None:
        self._stop()
        records = await self._shutdown.leave_loop()
        self._start_anew()  # at once: a task that goes on may use the pool meanwhile
        await self._shutdown.close_left(records)

    def _on_move(self) -> None:
        self._stop()
        self._shutdown.move()
        self._start_anew()

    def _after_fork(self) -> None:
        self._shutdown.leave_to_parent()
        self._start_anew()

    # For facades.

    def _was_opened(self) -> bool:
        """Tell whether somebody wanted this pool to be open."""
        return self._ledger.opened

    def _is_misplaced(self) -> bool:
        """Tell whether the creator of this blocking pool is one for an event loop."""
        return False

    # For subclasses.

    def _stop(self) -> None:
        """Have nobody look after the pool any more, for now."""

    def _start_anew(self) -> None:
        """The place where the pool lived is gone."""
        self._path.start_anew()

    def __del__(self) -> None:
        if hasattr(self, "_path"):
            records = self._ledger.records()
            if process.is_strange():
                process.spare(*records)
                return
            for record in records:
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
