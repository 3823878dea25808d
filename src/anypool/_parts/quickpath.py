"""QuickPath: the uncontended checkout and return, and a thread's turn.

Written for speed: without locks, since each step that matters is one atomic operation on a
deque or a dict. Measured on CPython 3.11, a lock costs 0.21 µs each time, and the whole
cycle is some 1.2 µs. Without the GIL, the ledger's pop_idle() and put_idle() have one.
"""

from __future__ import annotations

from collections.abc import Coroutine
from inspect import isawaitable
from types import CodeType
from typing import Any
from weakref import ref

from typing_extensions import TypeVar

from .._core import bounds
from .._core.driver import CLEAN, OPEN
from .._core.lease import Lease
from .._core.options import POOL_DEFAULT
from .._core.record import ConnectionRecord
from .._core.resetmode import ResetMode
from .._core.waiter import Caller
from .._ledgers.queue import QueueLedger
from .._ledgers.surroundings import Interrupting
from .._runtimes.thread import run
from .background import Background
from .closer import Closer
from .inspector import Inspector
from .leakwatch import LeakWatch
from .path import Path
from .plainlisteners import PlainListeners
from .resetwatch import ResetWatch

ConnT = TypeVar("ConnT")


class QuickPath(Path[ConnT]):
    """What most checkouts and returns of a QueuePool are, in as few steps as possible.

    Attributes:
        reset_mode: what a reset is; None: nothing is reset.
        watches_resets: whether somebody sees to it that no reset goes on for ever.
    """

    __slots__ = (
        "_background",
        "_callers",
        "_closer",
        "_in_place",
        "_inspector",
        "_leaks",
        "_listeners",
        "_on_drop",
        "_out",
        "_queue",
        "_runtime",
        "_timed",
        "reset_mode",
        "watches_resets",
    )

    def __init__(
        self,
        ledger: QueueLedger[ConnT],
        *args: Any,
        background: Background,
        closer: Closer[ConnT],
        inspector: Inspector[ConnT],
        listeners: PlainListeners[ConnT],
        leaks: LeakWatch,
        reset_mode: ResetMode | None,
        lose_all: bool,
    ) -> None:
        """Make one for a pool.

        Args:
            ledger: see Path.
            args: see Path.
            background: closes what can't be reset.
            closer: closes what isn't wanted back.
            inspector: knows what may be handed out.
            listeners: are told of what they want to hear.
            leaks: looks for leaks.
            reset_mode: see Attributes.
            lose_all: whether a failed reset may concern other connections, too.
        """
        super().__init__(ledger, *args)
        self._queue = ledger
        self._background = background
        self._runtime = background.runtime
        self._closer = closer
        self._inspector = inspector
        self._leaks = leaks
        self._listeners = listeners
        self.reset_mode: ResetMode | None = reset_mode
        self.watches_resets = False
        # Whether resets are made here and now.
        self._in_place = self._runtime.blocking and not lose_all
        # Of the ledger's, what each cycle needs: one look in place of two.
        self._out = self._queue.leases.out
        self._callers = self._queue.leases.callers
        self._on_drop = self._queue.leases.on_drop
        self._timed = self._queue.statistics.timed

    def start_anew(self) -> None:
        self.watches_resets = False

    def checkout_nowait(
        self, owner: Any, caller: Caller, share: bool, code: CodeType, lasti: int
    ) -> Any:
        if share:
            # Leases.nested() once more, in place.
            if caller in self._callers:
                current = self._callers.get(caller)
                lease = None if current is None else current()
                if lease is not None and lease._record is not None:
                    lease._count += 1
                    return lease
        else:
            hash(caller)  # while it lives: who returns the lease may outlive it
        ledger = self._queue
        if not ledger.simple_checkout:
            return self._listeners.take(owner, caller)
        record = lease = None
        try:
            record = ledger.pop_idle()
            connection = record.connection
            if (
                connection is not None
                and record._generation == ledger.generation
                and (not self._timed or self._inspector.is_fit(record))
            ):
                if not self._timed:  # else is_fit() has looked at the clock
                    record._since = self._runtime.now()
                if record._since >= self._leaks.due:
                    self._leaks.look()
                record._checkouts += 1
                record._code = code
                record._lasti = lasti
                lease_type = owner._lease_type
                new = lease_type()
                new._owner = owner
                new._caller = caller
                new._count = 1
                new._record = record
                new._connection = connection
                new._ref = key = ref(new, self._on_drop)
                lease = new
                self._out[key] = record
                if share:
                    self._callers[caller] = key
            else:
                lease = ledger.leases.new(owner, caller)
                self._out[lease._ref] = record
            return lease
        except IndexError:
            return ledger.leases.new(owner, caller)
        except BaseException:
            if record is not None:  # pragma: no branch  # test_interrupts.py, by a tracer
                self._undo_take(lease, record)
            raise

    def _undo_take(
        self, lease: Lease[ConnT] | None, record: ConnectionRecord[ConnT]
    ) -> None:
        """An interrupt came between two steps: put the slot back."""
        if lease is not None:  # pragma: no cover  # test_interrupts.py, by a tracer
            self._queue.end(lease)
        with self._queue.guard:
            self._queue.idle.appendleft(record)
        self._closer.tidy()

    def checkin_nowait(
        self, lease: Lease[ConnT], caller: Caller | None, hurried: bool = False
    ) -> ConnectionRecord[ConnT] | None:
        key = lease._ref
        record = self._out.pop(key, None)
        ledger = self._queue
        if record is None:
            return ledger.end(lease, caller is lease._caller)
        try:
            if self._timed:
                ledger.note_use(record)
            # An entry is only ever taken away by the caller whose own it is.
            callers: dict[Any, Any] = self._callers
            own = callers.pop(caller, None)
            if own is not key:
                if own is not None:
                    callers[caller] = own
                if caller is not lease._caller:
                    ledger.leases.forget_dead_callers()
            lease._count = 0
            lease._connection = lease._record = lease._ref = None
            connection = record.connection
            if (
                connection is None
                or not (ledger.simple_checkin or self._is_wanted(record))
                or record._generation != ledger.generation
            ):
                record._only_reset = False
                return record
            mode = self.reset_mode
            if record._resets_blindly and mode is not None:
                state = OPEN  # as a generic driver always says: not asking saves 0.06 µs
            else:
                state = record._driver.state(connection, record._baseline)
            if mode is None:
                if state is not CLEAN and state is not OPEN:
                    record._only_reset = False
                    return record
            elif hurried or state is not CLEAN:
                if hurried or state is not OPEN:
                    record._only_reset = False
                    return record
                if not self._in_place:
                    record._only_reset = record._quick_reset
                    record._dirty += record._only_reset and not record._resets_blindly
                    return record
                record._dirty += not record._resets_blindly
                # In place: a call of a method of ours takes 0.06 µs on CPython 3.11.
                try:
                    reset = record._driver.reset(connection, mode)
                    if reset is not None and isawaitable(reset):
                        run(reset)
                except Exception as error:
                    self._background.spawn(self._closer.invalidate(record, error, "reset"))
                    return record
            if ledger.simple_checkin:
                ledger.put_idle(record)
                # Again: in another thread, somebody may have come to wait, or disposed.
                if not ledger.simple_checkin or record._generation != ledger.generation:
                    self._closer.tidy()
                return None
            if self._listeners.take_back(record):
                return None
        except Interrupting:
            ledger.dropped.append(record)  # what this one interrupts sees to it
            return None
        except BaseException:
            self._closer.drop(record)
            raise
        return record

    def _is_wanted(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether a slot that comes back clean is for a waiter, or to be kept."""
        queue = self._queue
        told = queue.plain_checkin or self._listeners.are_told(record)
        return told and queue.is_room()

    async def give_back(
        self, record: ConnectionRecord[ConnT], hurried: bool = False
    ) -> None:
        if not record._only_reset:
            await super().give_back(record, hurried)
            return
        # Written for speed: no shield, which costs 2.7 µs (CPython 3.11), and a watch in
        # place of a deadline. If a cancellation strikes, the reset is made once more in its
        # shelter, as for any connection that was left in the middle of a statement.
        driver: Any = record._driver
        try:
            reset = driver.reset(record.connection, self.reset_mode)
            if reset is not None:
                find_caller = self.find_caller
                record._resetting = find_caller()
                if not self.watches_resets:
                    self.begin_watch()
                await reset
                record._resetting = None
        except BaseException as error:
            await self.reset_failed(record, error)
        else:
            ledger = self._queue
            if ledger.simple_checkin and record._generation == ledger.generation:
                ledger.put_idle(record)
            else:
                await self.put_back(record)

    def begin_watch(self) -> None:
        """See to it that no reset goes on for ever."""
        ResetWatch(self, self._runtime, bounds.RETURN_TIMEOUT).begin()

    def reset_failed(
        self, record: ConnectionRecord[ConnT], error: BaseException
    ) -> Coroutine[Any, Any, None]:
        """Deal with a slot whose reset was all that was left to do, and failed."""
        return self._checkins.reset_failed(record, error)

    async def put_back(self, record: ConnectionRecord[ConnT]) -> None:
        """Return a slot that was reset."""
        closer = self._closer
        if not self._queue.decide(self._queue.take_back, record):
            await closer.close_slot(record, closer.surplus_reason(record))

    def checkout_blocking(
        self,
        lease: Lease[ConnT],
        share: bool,
        timeout: float | None,
        code: CodeType,
        lasti: int,
    ) -> None:
        # Checkouts.checkout() once more, without coroutines: threads that
        # take turns find nothing of what they need in the processor's caches, so each
        # frame counts. 32 threads on 8 connections, time for a cycle beside
        # psycopg_pool's, with coroutines and without: 0.94 and 0.70 on CPython 3.11.
        checkouts, ledger, key = self._checkouts, self._queue, lease._ref
        if timeout is POOL_DEFAULT:
            timeout = checkouts.timeout
        deadline = self._runtime.now() + timeout if timeout else None
        touched = False
        try:
            if key not in self._out:
                ledger.leases.forget_dead_callers()
                waiter = checkouts.enter(lease, timeout, False)
                if waiter is not None:
                    waiting, failure = checkouts.waiting, None
                    try:
                        if timeout is None or timeout > 0:
                            waiting.begin(lease, waiter, timeout, code, lasti)
                            self._runtime.block(waiter.gate, timeout)
                        failure = waiting.end(waiter, timeout)
                    except BaseException as error:
                        waiting.note_left(error)
                        raise
                    finally:
                        waiting.leave(lease, waiter)
                    if failure is not None and waiter.record is None:
                        try:
                            raise failure
                        finally:
                            del failure  # it and its traceback would hold each other
            record = self._out[key]
            record._code, record._lasti = code, lasti
            if checkouts.is_ready(record):
                ledger.hand_over(lease, record, share)
                touched = checkouts.tells
                rest = touched and checkouts.tell_at_once(lease, record, timeout, deadline)
                if rest:
                    run(rest)
                return
            touched = True
            run(checkouts.fit_out(lease, share, timeout, deadline))
        except BaseException as error:
            run(checkouts.undo(lease, error, touched))
            raise
