"""Pool: what every pool does with its slots, from checkout to return.

A subclass decides which slot a caller gets and what becomes of it afterwards, in plain
methods; everything that may wait is here, in coroutines that touch the outside only
through a Runtime and a Driver. Blocking pools run the same coroutines (see
``_sync/bridge.py``).

The books. ``_out`` says who has which slot: it maps a weak reference to the lease to the
record. Popping an entry is the claim to return that slot; whoever pops it (close, the
finalizer, an interrupt's handler) is the only one to do so. There are no counters beside
the books that an interrupted step could leave wrong.
"""

from __future__ import annotations

import os
import sys
import warnings
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from inspect import isawaitable, iscoroutinefunction
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, overload

from typing_extensions import TypeVar, Unpack

from .._core.checkout import Checkout
from .._core.errors import DisconnectionError, InvalidRequestError, PoolTimeoutError
from .._core.lease import PooledConnection
from .._core.listeners import Listener, Listeners
from .._core.log import PoolLog
from .._core.options import (
    PoolOptions,
    ResetMode,
    check_creator,
    check_options,
    check_timeout,
)
from .._core.record import ConnectionRecord
from .._core.waiter import Caller
from .._drivers.registry import driver_for
from .._runtimes.loop import AnyioRuntime
from .._runtimes.thread import AwaitableCreator, ThreadRuntime
from .job import Job

if TYPE_CHECKING:
    from .._core.lease import Lease
    from .._drivers.protocol import Driver

ConnT = TypeVar("ConnT")
T = TypeVar("T")

POOL_DEFAULT: Final = -1.0
"""Stands for "the pool's own timeout" in connect()."""

_getframe = sys._getframe


class Pool(Generic[ConnT]):
    """A pool of connections that a creator makes; the base of all pools.

    Args:
        creator: returns a new connection, or an awaitable of one.
        options: see PoolOptions.

    Raises:
        TypeError, ValueError: an option is not what it should be; the message names it.
    """

    # Slots, for speed: an instance with more than 29 attributes in a dict is slow to read.
    __slots__ = (
        "__weakref__",
        "_blocking",
        "_caller",
        "_callers",
        "_chatty",
        "_creator",
        "_detached",
        "_driver",
        "_dropped",
        "_epoch",
        "_inline",
        "_listeners",
        "_log",
        "_on_drop",
        "_on_lost",
        "_options",
        "_out",
        "_plain_checkin",
        "_plain_checkout",
        "_recycle",
        "_reset_mode",
        "_runtime",
        "_serial",
        "_timeout",
        "_use_threadlocal",
    )

    _lease_type: ClassVar[type[Any]] = PooledConnection
    _timeout: float | None

    @overload
    def __init__(
        self,
        creator: Callable[[], Awaitable[ConnT]],
        **options: Unpack[PoolOptions[ConnT, PooledConnection[ConnT]]],
    ) -> None: ...
    @overload
    def __init__(
        self,
        creator: Callable[[], ConnT],
        **options: Unpack[PoolOptions[ConnT, PooledConnection[ConnT]]],
    ) -> None: ...
    def __init__(self, creator: Callable[[], Any], **options: Any) -> None:
        if type(self) is Pool:
            raise TypeError("Pool is the base of the pools: use QueuePool or another")
        check_creator(creator)
        self._timeout = None
        base = check_options(type(self).__name__, options)
        self._creator = creator
        self._options = base
        self._recycle: float = base["recycle"]
        self._use_threadlocal: bool = base["use_threadlocal"]
        self._reset_mode: ResetMode | None = base["reset_on_return"]
        self._log = PoolLog(type(self).__name__, base["name"], base["echo"])
        self._listeners: Listeners[ConnT, Any] = Listeners(base["listeners"] or ())
        self._driver: Driver[ConnT] | None = base["driver"]
        # Set where a coroutine function, or a driver that doesn't block, shows that the
        # creator may be called in the event loop itself.
        self._inline = iscoroutinefunction(creator) or (
            self._driver is not None and not self._driver.blocking
        )
        weak_self = weakref.ref(self)
        self._on_drop = _dropped_callback(weak_self)
        self._on_lost = _lost_callback(weak_self)
        self._serial = 0
        self._epoch = 0
        self._dropped: deque[ConnectionRecord[ConnT]] = deque()
        self._clear_books()
        self._runtime: Any = AnyioRuntime(
            on_end=_weak_coroutine(weak_self, "_on_loop_end"),
            on_move=_weak_call(weak_self, "_on_move"),
            on_settle=_weak_call(weak_self, "_on_settle"),
        )
        self._blocking = False
        self._caller = self._runtime.caller
        self._note_settings()
        _all_pools.add(self)

    def _clear_books(self) -> None:
        # Who has which slot; detached connections; and each caller's own lease.
        self._out: dict[Any, ConnectionRecord[ConnT]] = {}
        self._detached: dict[Any, ConnectionRecord[ConnT]] = {}
        self._callers: dict[Caller, weakref.ref[Any]] = {}

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
        return Checkout(self, self._use_threadlocal, timeout, frame.f_code, frame.f_lasti)

    def unique_connection(self, *, timeout: float | None = POOL_DEFAULT) -> Checkout[ConnT]:
        """Check out a connection that no other connect() of this caller shares.

        Args and errors are those of connect().
        """
        frame = _getframe(1)
        if timeout is not POOL_DEFAULT:
            check_timeout(timeout)
        return Checkout(self, False, timeout, frame.f_code, frame.f_lasti)

    async def call(
        self, function: Callable[..., Awaitable[T] | T], /, *args: Any, **kwargs: Any
    ) -> T:
        """Call a function that uses a connection, where that connection may be used.

        In a worker thread if the pool's driver blocks, else right here.
        """
        if kwargs:
            return await self.call(lambda: function(*args, **kwargs))
        blocking = self._driver is not None and self._driver.blocking
        in_thread = blocking and not iscoroutinefunction(function)
        results: list[T] = []

        async def work() -> None:
            results.append(await self._runtime.call(in_thread, function, *args))

        if in_thread and not self._runtime.blocking:
            # A thread that uses a connection can't be stopped; nobody else may have that
            # connection before it is done.
            await Job(self._runtime, work()).run(to_the_end=True)
        else:
            await work()
        return results[0]

    def add_listener(self, listener: Listener[ConnT, PooledConnection[ConnT]]) -> None:
        """Have `listener` told of this pool's connects, checkouts and checkins from now on.

        Raises:
            TypeError: it has none of the methods of a listener.
        """
        self._add_listener(listener)

    def _add_listener(self, listener: Any) -> None:
        self._listeners.add(listener)
        self._note_settings()

    def recreate(self) -> Self:
        """Return a new, empty pool with the same creator, options and listeners."""
        self._log.info("Pool recreating")
        return type(self)(self._creator, **self._recreate_options())

    async def dispose(self) -> None:
        """Close the idle connections now, and those that are out when they return.

        The pool can be used afterwards; it starts anew.
        """
        raise NotImplementedError

    def status(self) -> str:
        """Describe the pool in one line."""
        return type(self).__name__

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status()}>"

    # What a subclass decides. Plain methods, called with the runtime's lock held.

    def _claim(self, lease: Lease[ConnT], may_wait: bool) -> Any:
        """Note in the books which slot `lease` gets; or return the Waiter that it became.

        Returns:
            None, or the waiter. If the lease may not wait: a waiter that is in no queue.
        """
        raise NotImplementedError

    def _restore(self, record: ConnectionRecord[ConnT]) -> bool:
        """Take a slot back. False: it is not wanted; close its connection, then _forget."""
        raise NotImplementedError

    def _forget(self, record: ConnectionRecord[ConnT]) -> None:
        """A slot that was not wanted is gone."""
        record._on_lost = None

    def _new_record(self) -> ConnectionRecord[ConnT]:
        return ConnectionRecord(self._epoch, self._on_lost)

    async def _close_slot(self, record: ConnectionRecord[ConnT]) -> None:
        """Close an idle slot's connection for good."""
        if record.connection is not None:
            await self._complete(record, self._close(record))
        self._decide(self._forget, record)

    def _is_idle(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether the pool itself has this slot."""
        return False

    def _records(self) -> Iterable[ConnectionRecord[ConnT]]:
        """Return all slots that have or may have a connection."""
        return [*self._out.values(), *self._detached.values(), *self._dropped]

    def _tidy(self) -> None:
        """Make up for what an interrupted return may have left undone."""

    def _withdraw(self, ref: Any) -> None:
        """Take a lease's waiter out of the queue; it is given nothing from now on."""

    def _timed_out(self, phase: str, timeout: float) -> PoolTimeoutError:
        return PoolTimeoutError(
            f"{type(self).__name__}: {phase} timed out, timeout {timeout:g}"
        )

    def _recreate_options(self) -> dict[str, Any]:
        return self._options | {"listeners": self._listeners.all}

    # Checkout.

    def _checkout_nowait(
        self, owner: Any, caller: Caller, share: bool, code: CodeType, lasti: int
    ) -> Any:
        """Return the caller's own lease once more, or a new one.

        The lease has a connection if that could be had without waiting and without I/O.
        Otherwise its count is 0, and _checkout() has to follow.
        """
        if share:
            current = self._callers.get(caller)
            lease = None if current is None else current()
            if lease is not None and lease._record is not None:
                lease._count += 1
                return lease
        return self._new_lease(owner, caller)

    def _new_lease(self, owner: Any, caller: Caller) -> Any:
        lease = owner._lease_type(owner, caller, 0, None, None)
        lease._ref = weakref.ref(lease, self._on_drop)
        return lease

    async def _checkout(
        self,
        lease: Lease[ConnT],
        share: bool,
        timeout: float | None,
        code: CodeType,
        lasti: int,
    ) -> None:
        """Do all that a checkout may need: a slot, a connection, the listeners."""
        ref = lease._ref
        assert ref is not None
        if timeout is POOL_DEFAULT:
            timeout = self._timeout
        # With a timeout of 0 there is no waiting for others; connecting takes its time.
        deadline = self._runtime.now() + timeout if timeout else None
        touched = False
        try:
            if ref not in self._out:
                self._forget_dead_callers()
                await self._acquire(lease, timeout)
            record = self._out[ref]
            record._code, record._lasti = code, lasti
            left = None if deadline is None else deadline - self._runtime.now()
            touched = True
            if not await self._runtime.within(left, self._prepare(lease, record, share)):
                assert timeout is not None
                raise self._timed_out("connecting", timeout)
            if ref not in self._out and ref not in self._detached:
                raise InvalidRequestError(
                    "This connection is closed: a checkout listener closed it"
                )
        except BaseException as error:
            await self._undo_checkout(lease, error, touched)
            raise

    async def _acquire(self, lease: Lease[ConnT], timeout: float | None) -> None:
        """Get a slot for the lease, in turn."""
        waiter = self._decide(self._claim, lease, timeout is None or timeout > 0)
        if waiter is None:
            return
        try:
            if timeout is None or timeout > 0:
                await self._runtime.wait(waiter.gate, timeout)
        finally:
            # From here on nothing can be given to this waiter. If it was given a slot
            # already, that stands in the books; who leaves has to give it back.
            if waiter.record is None:
                self._decide(self._withdraw, waiter.ref)
        if waiter.record is None:
            assert timeout is not None
            raise self._timed_out("waiting", timeout)

    async def _prepare(
        self, lease: Lease[ConnT], record: ConnectionRecord[ConnT], share: bool
    ) -> None:
        """Make the slot's connection fit to be handed out, and hand it to the lease."""
        await self._ready(lease, record)
        lease._record, lease._connection, lease._count = record, record.connection, 1
        if share:
            # Before the listeners, so that what they connect to is this connection.
            assert lease._ref is not None
            self._callers[lease._caller] = lease._ref
        if self._listeners.on_checkout:
            await self._tell_checkout(lease, record)
        if self._chatty:
            self._log.debug("Connection %s checked out", _Label(record))

    async def _tell_checkout(
        self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]
    ) -> None:
        for attempt in (1, 2):
            try:
                for listener in self._listeners.on_checkout:
                    await self._tell(
                        record, listener.checkout, record.connection, record, lease
                    )
                return
            except DisconnectionError as error:
                self._log.info("Disconnection detected on checkout of %s", _Label(record))
                await self._invalidate_record(record, error)
            if attempt == 1:
                await self._ready(lease, record)
                lease._connection = record.connection
        raise InvalidRequestError(
            "This connection is closed: checkout listeners reported a disconnection twice"
        )

    async def _undo_checkout(
        self, lease: Lease[ConnT], error: BaseException, touched: bool
    ) -> None:
        """Give back what a failed checkout had got hold of so far."""
        untold = lease._record is None
        self._decide(self._withdraw, lease._ref)
        record = self._end(lease)
        if record is None:
            return
        if not touched:
            # As clean as it was given to this caller, who left in the same moment.
            self._put_back(record)
        elif isinstance(error, Exception):
            await self._complete(record, self._checkin(record, quiet=untold))
        else:
            self._drop(record)

    def _forget_dead_callers(self) -> None:
        # Leases that other threads returned, or nobody did, leave their callers' entries.
        if len(self._callers) > 2 * len(self._out) + 100:
            for caller in list(self._callers):
                if caller() is None:
                    self._callers.pop(caller, None)

    def _put_back(self, record: ConnectionRecord[ConnT]) -> None:
        """Return a slot that has no connection, or a clean one."""
        if self._decide(self._restore, record):
            return
        if record.connection is None:
            self._decide(self._forget, record)
        else:
            self._spawn(self._close_slot(record))

    # Connecting and closing.

    async def _ready(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        """See to it that the slot has a connection, and that it is not too old."""
        if record.connection is not None and self._is_stale(record):
            self._log.info("Connection %s exceeded its age; recycling", _Label(record))
            await self._close(record)
        if record.connection is None:
            await self._open(lease, record)

    async def _open(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        if self._runtime.blocking or self._inline:
            await self._connect(record)
            return
        # A blocking creator runs in a worker thread, where nothing can stop it. If its
        # caller leaves before it is done, the slot stays taken, in the job's own name,
        # until the connection has arrived and can serve somebody else.
        job = Job(self._runtime, self._connect(record))
        try:
            await job.run()
        except BaseException:
            if not job.done:
                self._out[job] = self._out.pop(lease._ref)
                job.afterwards = self._adopt
            raise

    def _adopt(self, job: Job) -> None:
        """A connect that nobody waits for any more has ended."""
        record = self._out.pop(job, None)
        if record is not None:
            self._put_back(record)

    async def _connect(self, record: ConnectionRecord[ConnT]) -> None:
        """Open the slot's connection and tell the connect listeners."""
        record.info.clear()
        try:
            awaited = await self._runtime.open(record, self._creator, inline=self._inline)
        except Exception as error:
            if not isinstance(error, AwaitableCreator):
                self._log.info("Error on connect: %s", type(error).__name__)
            raise
        if self._driver is None or self._options["driver"] is None:
            self._driver = driver_for(record.connection, awaited=awaited)
        self._inline = self._inline or not self._driver.blocking
        self._serial += 1
        record._driver, record._serial = self._driver, self._serial
        record._epoch, record._opened_at = self._epoch, self._runtime.now()
        self._log.info("Created new connection %s", _Label(record))
        try:
            await self._tell_connect(record)
        except Exception as error:
            # Half initialised: nobody may ever get this one.
            self._log.info("Connect listener failed: %s", type(error).__name__)
            await self._close(record)
            raise

    async def _tell_connect(self, record: ConnectionRecord[ConnT]) -> None:
        for listener in self._listeners.on_connect:
            await self._tell(record, listener.connect, record.connection, record)

    def _is_stale(self, record: ConnectionRecord[ConnT]) -> bool:
        return record._epoch != self._epoch or (
            self._recycle >= 0 and self._runtime.now() - record._opened_at > self._recycle
        )

    async def _invalidate_record(
        self, record: ConnectionRecord[ConnT], error: BaseException | None
    ) -> None:
        """Close a connection that is of no use any more. The slot stays."""
        if record.connection is not None:
            reason = "" if error is None else f" (reason: {type(error).__name__})"
            self._log.info("Invalidate connection %s%s", _Label(record), reason)
            await self._close(record)

    async def _close(self, record: ConnectionRecord[ConnT]) -> None:
        """Close the slot's connection in the orderly way. An error is only logged."""
        # One line, so that an interrupt finds the connection either open or gone.
        record.connection = await self._closed(record)

    async def _closed(self, record: ConnectionRecord[ConnT]) -> ConnT | None:
        driver, connection = record._driver, record.connection
        assert connection is not None
        self._log.info("Closing connection %s", _Label(record))
        try:
            await self._runtime.call(driver.blocking, driver.close, connection)
        except Exception as error:
            self._log.info("Error on close: %s", type(error).__name__)
        return None

    async def _tell(
        self, record: ConnectionRecord[ConnT], method: Callable[..., Any], *args: Any
    ) -> None:
        in_thread = record._driver.blocking and not iscoroutinefunction(method)
        await self._runtime.call(in_thread, method, *args)

    # Return.

    def _checkin_nowait(
        self, lease: Lease[ConnT], own: bool, hurried: bool = False
    ) -> ConnectionRecord[ConnT] | None:
        """Take the lease's slot back. If work is left to do on it, return its record.

        Args:
            lease: is over.
            own: whether this is the caller that checked out.
            hurried: whether that caller was cancelled.
        """
        return self._end(lease, own)

    def _end(self, lease: Lease[ConnT], own: bool = True) -> ConnectionRecord[ConnT] | None:
        """End a lease; return its record, which is the ender's to deal with."""
        ref = lease._ref
        record = self._out.pop(ref, None)
        if record is None and ref is not None:
            record = self._detached.pop(ref, None)
        # Another thread's entry may change at any time; it is left, and does no harm.
        if own and self._callers.get(lease._caller) is ref:
            del self._callers[lease._caller]
        lease._clear()
        return record

    async def _checkin(
        self,
        record: ConnectionRecord[ConnT],
        hurried: bool = False,
        quiet: bool = False,
    ) -> None:
        """Return a slot whose lease is over: listeners, reset, back to the pool.

        Args:
            record: is nobody's now but this coroutine's.
            hurried: the caller was cancelled; what the connection does now is not known.
            quiet: don't tell the checkin listeners.
        """
        failure: Exception | None = None
        restored = False
        try:
            if record._on_lost is None:  # it was detached
                await self._close(record)
                return
            if not quiet:
                failure = await self._tell_checkin(record)
            if record.connection is not None and self._reset_mode is not None:
                await self._reset(record, hurried)
            if self._chatty:
                self._log.debug("Connection %s returned", _Label(record))
            restored = self._decide(self._restore, record)
            if not restored:
                if record.connection is not None:
                    await self._close(record)
                self._decide(self._forget, record)
                restored = True
        except BaseException:
            if not restored:
                self._drop(record)
            raise
        if failure is not None:
            raise failure

    async def _tell_checkin(self, record: ConnectionRecord[ConnT]) -> Exception | None:
        for listener in self._listeners.on_checkin:
            try:
                await self._tell(record, listener.checkin, record.connection, record)
            except Exception as error:
                # What it did to the connection is not known.
                await self._invalidate_record(record, error)
                return error
        return None

    async def _reset(self, record: ConnectionRecord[ConnT], hurried: bool) -> None:
        driver, connection = record._driver, record.connection
        assert connection is not None
        try:
            if hurried:
                await self._runtime.call(driver.blocking, driver.interrupt, connection)
            full = self._reset_mode == "full"
            if hurried or full or driver.needs_reset(connection):
                await self._runtime.call(
                    driver.blocking, driver.reset, connection, self._reset_mode
                )
            if full:
                # What the application's own listeners set is gone as well.
                await self._tell_connect(record)
        except Exception as error:
            await self._invalidate_record(record, error)

    async def _return(self, record: ConnectionRecord[ConnT], hurried: bool = False) -> None:
        """Return a slot whose lease is over, in spite of a cancellation."""
        await self._complete(record, self._checkin(record, hurried))

    async def _complete(
        self, record: ConnectionRecord[ConnT], work: Coroutine[Any, Any, None]
    ) -> None:
        """Run work on a slot to its end, whatever happens to the caller meanwhile."""
        if self._runtime.blocking:
            await work
        elif record.connection is not None and record._driver.blocking:
            # A thread can't be stopped. If the caller leaves, the work goes on.
            await Job(self._runtime, work).run()
        else:
            await self._runtime.complete(work)

    async def _invalidate(self, lease: Lease[ConnT], error: BaseException | None) -> None:
        """Close the lease's connection, and return its slot."""
        record = self._end(lease)
        if record is not None:
            await self._complete(record, self._invalidate_and_return(record, error))

    async def _invalidate_and_return(
        self, record: ConnectionRecord[ConnT], error: BaseException | None
    ) -> None:
        try:
            await self._invalidate_record(record, error)
        except BaseException:
            self._drop(record)
            raise
        if record._on_lost is not None:
            await self._checkin(record)

    # The same once more as coroutines, for callers in threads beside an event loop.

    async def _checkout_for(
        self,
        owner: Any,
        caller: Caller,
        share: bool,
        timeout: float | None,
        code: CodeType,
        lasti: int,
    ) -> Any:
        self._runtime.caller()
        lease = self._checkout_nowait(owner, caller, share, code, lasti)
        if not lease._count:
            await self._checkout(lease, share, timeout, code, lasti)
        return lease

    async def _checkin_lease(self, lease: Lease[ConnT]) -> None:
        record = self._checkin_nowait(lease, False)
        if record is not None:
            await self._return(record)

    async def _detach_lease(self, lease: Lease[ConnT]) -> None:
        self._detach(lease)

    def _detach(self, lease: Lease[ConnT]) -> None:
        record = self._out.pop(lease._ref, None)
        if record is None:
            return
        ref = lease._ref
        assert ref is not None
        # A record of its own, outside of the pool's count.
        detached: ConnectionRecord[ConnT] = ConnectionRecord(record._epoch, None)
        detached._driver, detached.info = record._driver, record.info.copy()
        detached._serial, detached._code = record._serial, record._code
        detached._lasti, lease._record = record._lasti, None
        self._detached[ref] = detached
        # On one line: an interrupt finds the connection in one place or the other.
        detached.connection, record.connection = record.connection, None
        self._put_back(record)

    def _drop(self, record: ConnectionRecord[ConnT]) -> None:
        """Close a slot's connection in whatever state it is, and free the slot."""
        if self._is_idle(record):  # interrupted after it was restored
            self._tidy()
        elif not self._terminated(record):
            self._spawn(self._close_and_restore(record))
        elif record._on_lost is not None:
            self._put_back(record)

    def _terminated(self, record: ConnectionRecord[ConnT]) -> bool:
        """Close the slot's connection without waiting, if that is possible."""
        if record.connection is not None:
            if record._driver.blocking and not self._runtime.blocking:
                return False
            if not _terminate_connection(record):
                return False
            record.connection = None
        return True

    async def _close_and_restore(self, record: ConnectionRecord[ConnT]) -> None:
        await self._runtime.within(_CLOSE_TIMEOUT, self._close(record))
        record.connection = None
        if record._on_lost is not None:
            self._put_back(record)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work beside the callers; as far as it gets, if there is no loop any more."""
        if not self._runtime.spawn(work):
            _run_first_step(work)

    # The finalizer.

    def _checkin_later(self, record: ConnectionRecord[ConnT]) -> None:
        """Return a slot that nobody is there to return: from any thread, at any time."""
        self._dropped.append(record)
        if self._blocking and self._runtime.lock.locked():
            # Some thread, maybe this one, is inside the books. It looks for dropped slots
            # when it leaves; if it has left before the append, the lock is free now.
            return
        if not self._runtime.post(self._collect_dropped):
            self._terminate_dropped()

    def _collect_dropped(self) -> None:
        while self._dropped:
            try:
                record = self._dropped.popleft()
            except IndexError:
                return
            self._spawn(self._checkin_dropped(record))

    async def _checkin_dropped(self, record: ConnectionRecord[ConnT]) -> None:
        try:
            await self._checkin(record, hurried=True)
        except Exception as error:
            self._log.exception("A checkin listener failed for a dropped lease", error)

    def _terminate_dropped(self) -> None:
        while self._dropped:
            record = self._dropped.popleft()
            _terminate(record)

    def _decide(self, decision: Callable[..., T], *args: Any) -> T:
        """Call one of the plain decisions with the books locked.

        On one line, so that a tracer's interrupt can't strike between the end of the
        decision and the release of the lock.
        """
        with self._runtime.lock: result = decision(*args)  # fmt: skip # noqa: E701
        if self._dropped and self._runtime.blocking:
            self._collect_dropped()
        return result

    # The end of the pool's event loop, and of the pool.

    async def _on_loop_end(self) -> None:
        records = [record for record in self._records() if record.connection is not None]
        self._abandon_books()
        self._runtime.depart()
        for record in records:
            await self._runtime.within(_CLOSE_TIMEOUT, self._close(record))

    def _after_fork(self) -> None:
        """In a forked child: leave everything to the parent, whose sockets they are."""
        # Kept for ever: a driver's own finalizer might say goodbye on the shared socket.
        _graveyard.extend(list(self._records()))
        self._abandon_books()
        self._runtime.after_fork()

    def _on_settle(self, caller: Callable[[], Caller]) -> None:
        self._caller = caller

    def _on_move(self) -> None:
        records = list(self._records())
        self._abandon_books()
        for record in records:
            _terminate(record)

    def _abandon_books(self) -> None:
        for record in self._records():
            record._on_lost = None
        self._dropped.clear()
        self._clear_books()

    def __del__(self) -> None:
        if hasattr(self, "_runtime"):
            for record in self._records():
                _terminate(record)
            self._runtime.depart()


_CLOSE_TIMEOUT = 5.0  # seconds that closing may take where nobody waits for it


_all_pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()
_graveyard: list[ConnectionRecord[Any]] = []


def _after_fork_in_child() -> None:
    for pool in list(_all_pools):
        pool._after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)


class _Label:
    """Names a record's connection in a log line, if that is written at all."""

    def __init__(self, record: ConnectionRecord[Any]) -> None:
        self._record = record

    def __str__(self) -> str:
        return self._record._label()


def _terminate_connection(record: ConnectionRecord[Any]) -> bool:
    try:
        return record._driver.terminate(record.connection)
    except Exception:
        return True  # it has done what it could; the connection is dropped anyway


def _terminate(record: ConnectionRecord[Any]) -> None:
    """Close a connection without a loop, without waiting, without complaint."""
    record._on_lost = None
    if record.connection is not None and not _terminate_connection(record):
        try:
            closing = record._driver.close(record.connection)
            if isawaitable(closing):
                _run_first_step(closing)
        except Exception:
            pass
    record.connection = None


def _run_first_step(work: Any) -> None:
    """Run a coroutine up to where it would wait: the part that needs no event loop."""
    steps = work if isinstance(work, Coroutine) else work.__await__()
    try:
        steps.send(None)
        steps.close()
    except (StopIteration, RuntimeError):
        return


def _dropped_callback(weak_pool: weakref.ref[Any]) -> Callable[[Any], None]:
    """Make the finalizer of a pool's leases. It must not keep the pool alive."""

    def dropped(ref: weakref.ref[Any]) -> None:
        pool = weak_pool()
        if pool is None:
            return
        record = pool._out.pop(ref, None)
        if record is None:
            detached = pool._detached.pop(ref, None)
            if detached is None:
                return
            record = detached
        if sys.is_finalizing():
            _terminate(record)
            return
        filename, line = record._line()
        pool._checkin_later(record)
        warnings.warn_explicit(
            f"a lease of {type(pool).__name__} was dropped without close(); it was checked "
            f"out at {filename}:{line}",
            ResourceWarning,
            filename,
            line,
        )

    return dropped


def _lost_callback(weak_pool: weakref.ref[Any]) -> Callable[[Any], None]:
    """Make the finalizer of a pool's records, for slots lost by an interrupt."""

    def lost(record: ConnectionRecord[Any]) -> None:
        pool = weak_pool()
        _terminate(record)
        if pool is not None:
            # An empty slot takes the place of the one that is gone.
            pool._checkin_later(pool._new_record())

    return lost


def _weak_call(weak_self: weakref.ref[Any], name: str) -> Callable[..., None]:
    def call(*args: Any) -> None:
        me = weak_self()
        if me is not None:
            getattr(me, name)(*args)

    return call


def _weak_coroutine(
    weak_self: weakref.ref[Any], name: str
) -> Callable[[], Coroutine[Any, Any, None]]:
    async def call() -> None:
        me = weak_self()
        if me is not None:
            await getattr(me, name)()

    return call
