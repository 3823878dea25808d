"""QueuePool: a limited number of connections, and a queue for who comes too late."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from types import CodeType
from typing import Any, overload
from weakref import ref

from typing_extensions import TypeVar, Unpack

from .._core.errors import PoolTimeoutError, TooManyWaitersError
from .._core.lease import Lease, PooledConnection
from .._core.options import (
    QueuePoolOptions,
    check_bool,
    check_count,
    check_seconds,
    check_timeout,
)
from .._core.record import ConnectionRecord
from .._core.waiter import Caller, Waiter
from .._runtimes.thread import run
from .checkouts import POOL_DEFAULT
from .upkeep import Upkeep

ConnT = TypeVar("ConnT")


class QueuePool(Upkeep[ConnT]):
    """Keeps up to ``pool_size`` connections, and opens ``max_overflow`` more at need.

    It starts empty. Idle connections go out first in, first out. When all are out, callers
    wait in a queue, first come, first served.

    Args:
        creator: returns a new connection, or an awaitable of one.
        pool_size: how many connections to keep; 0: no limit. Default 5.
        max_overflow: how many more may be open at a time; they are closed on return.
            -1: no limit. Default 10.
        timeout: seconds that a checkout may take, waiting and connecting included; 0: never
            wait for a free connection; None: wait for ever. Default 30.
        min_size: how many connections an opened pool keeps at least. Default 0.
        max_idle: seconds after which an opened pool closes an idle connection that isn't
            needed; None: never. Default None.
        keepalive: seconds after which an opened pool pings an idle connection; None: never.
            Default None.
        max_waiting: how many callers may wait; None: no limit. Default None.
        use_lifo: whether the connection that came back last goes out first. Default False.
        fail_fast: whether opening waits for the first connections and raises their errors.
            Default False.
        options: see PoolOptions.

    Raises:
        TypeError, ValueError: an option is not what it should be; the message names it.
    """

    __slots__ = (
        "_capacity",
        "_idle",
        "_keep",
        "_max_overflow",
        "_max_waiting",
        "_put_idle",
        "_simple_checkin",
        "_simple_checkout",
        "_size",
        "_total",
        "_use_lifo",
        "_waiters",
    )

    @overload
    def __init__(
        self,
        creator: Callable[[], Awaitable[ConnT]],
        **options: Unpack[QueuePoolOptions[ConnT, PooledConnection[ConnT]]],
    ) -> None: ...
    @overload
    def __init__(
        self,
        creator: Callable[[], ConnT],
        **options: Unpack[QueuePoolOptions[ConnT, PooledConnection[ConnT]]],
    ) -> None: ...
    def __init__(
        self,
        creator: Callable[[], Any],
        *,
        pool_size: int = 5,
        max_overflow: int = 10,
        timeout: float | None = 30.0,
        min_size: int = 0,
        max_idle: float | None = None,
        keepalive: float | None = None,
        max_waiting: int | None = None,
        use_lifo: bool = False,
        fail_fast: bool = False,
        **options: Any,
    ) -> None:
        self._min_size = 0
        self._set_size(pool_size, max_overflow)
        check_timeout(timeout)
        check_count("min_size", min_size, minimum=0)
        if min_size > self._keep:
            raise ValueError(f"min_size: expected at most pool_size, not {min_size}")
        check_seconds("max_idle", max_idle)
        check_seconds("keepalive", keepalive)
        if max_waiting is not None:
            check_count("max_waiting", max_waiting, minimum=0)
        check_bool("use_lifo", use_lifo)
        check_bool("fail_fast", fail_fast)
        self._min_size = min_size
        self._max_idle = max_idle
        self._keepalive = keepalive
        self._max_waiting = max_waiting
        self._use_lifo = use_lifo
        self._fail_fast = fail_fast
        self._suspended = False
        super().__init__(creator, **options)
        self._timeout = timeout
        self._keeps_time |= max_idle is not None or keepalive is not None

    def _set_size(self, pool_size: int, max_overflow: int) -> None:
        check_count("pool_size", pool_size, minimum=0)
        check_count("max_overflow", max_overflow, minimum=-1)
        unlimited = pool_size == 0
        if not unlimited and pool_size < self._min_size:
            raise ValueError(f"pool_size: expected at least min_size, not {pool_size}")
        self._size = pool_size
        self._max_overflow = max_overflow
        self._keep = math.inf if unlimited else pool_size
        self._capacity = (
            math.inf if unlimited or max_overflow < 0 else pool_size + max_overflow
        )

    def _clear_books(self) -> None:
        super()._clear_books()
        self._idle: deque[ConnectionRecord[ConnT]] = deque()
        # Idle connections go out from the left.
        self._put_idle = self._idle.appendleft if self._use_lifo else self._idle.append
        # By their leases' references, so that leaving from the middle is quick, too.
        self._waiters: OrderedDict[Any, Waiter[ConnT]] = OrderedDict()
        self._total = 0  # slots, idle and out

    def _recreate_options(self) -> dict[str, Any]:
        return super()._recreate_options() | {
            "pool_size": self._size,
            "max_overflow": self._max_overflow,
            "timeout": self._timeout,
            "min_size": self._min_size,
            "max_idle": self._max_idle,
            "keepalive": self._keepalive,
            "max_waiting": self._max_waiting,
            "use_lifo": self._use_lifo,
            "fail_fast": self._fail_fast,
        }

    # What users ask.

    def size(self) -> int:
        """Return ``pool_size``."""
        return self._size

    def checkedin(self) -> int:
        """Return how many slots are idle."""
        return len(self._idle)

    def overflow(self) -> int:
        """Return how many slots there are beyond ``pool_size``; negative below that."""
        return self._total - self._size

    def checkedout(self) -> int:
        """Return how many slots are out: always size - checkedin + overflow."""
        return self._total - len(self._idle)

    def status(self) -> str:
        return (
            f"Pool size: {self.size()} Connections in pool: {self.checkedin()} "
            f"Current Overflow: {self.overflow()} "
            f"Current Checked out connections: {self.checkedout()}"
        )

    async def resize(self, pool_size: int, max_overflow: int | None = None) -> None:
        """Change the size of the pool while it is in use.

        What is too much is closed now if it is idle, else when it returns.

        Args:
            pool_size: how many connections to keep; 0: no limit.
            max_overflow: how many more may be open at a time; -1: no limit. Default: as
                many as up to now.

        Raises:
            TypeError, ValueError: one of them is not what it should be.
        """
        self._runtime.caller()
        overflow = self._max_overflow if max_overflow is None else max_overflow
        await self._close_slots(self._decide(self._resize, pool_size, overflow), "overflow")

    def _resize(self, pool_size: int, max_overflow: int) -> list[ConnectionRecord[ConnT]]:
        self._set_size(pool_size, max_overflow)
        surplus = self._surplus()
        self._grow()
        return surplus

    def suspend(self) -> None:
        """Hold all checkouts back until resume(): they wait, as long as their timeout is.

        For a planned failover. What is out may be used and returned.
        """
        self._decide(self._suspend, True)

    def resume(self) -> None:
        """Serve those who wait since suspend(), and all others, again."""
        self._decide(self._suspend, False)

    async def _hold_back(self, suspended: bool) -> None:
        self._decide(self._suspend, suspended)

    def _suspend(self, suspended: bool) -> None:
        self._suspended = suspended
        self._weigh()
        self._serve()
        self._grow()

    def _empty(self) -> list[ConnectionRecord[ConnT]]:
        self._epoch += 1
        # One by one: the uncontended path may take some, or bring some, meanwhile.
        idle: list[ConnectionRecord[ConnT]] = []
        with suppress(IndexError):
            while True:
                idle.append(self._idle.popleft())
        self._grow()
        return idle

    # The uncontended path. Written for speed: lock-free, since each step that matters is
    # one atomic operation on a deque or a dict. Measured on CPython 3.11, a lock costs
    # 0.21 µs each time, and the whole cycle is some 1.2 µs.

    def _checkout_nowait(
        self, owner: Any, caller: Caller, share: bool, code: CodeType, lasti: int
    ) -> Any:
        if share:
            current = self._callers.get(caller)
            if current is not None:
                lease = current()
                if lease is not None and lease._record is not None:
                    lease._count += 1
                    return lease
        else:
            hash(caller)  # while it lives: who returns the lease may outlive it
        record = lease = None
        try:
            if not self._simple_checkout:
                return self._new_lease(owner, caller)
            record = self._idle.popleft()
            connection = record.connection
            if (
                connection is not None
                and record._epoch == self._epoch
                and (not self._timed or self._is_fit(record))
            ):
                record._checkouts += 1
                record._code = code
                record._lasti = lasti
                new = owner._lease_type()
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
                lease = self._new_lease(owner, caller)
                self._out[lease._ref] = record
            return lease
        except IndexError:
            return self._new_lease(owner, caller)
        except BaseException:
            if record is not None:
                self._undo_take(lease, record)
            raise

    def _is_fit(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether a connection is neither too old nor to be pinged; note the time."""
        now: float = self._runtime.now()
        fit = now <= record._expires_at and now - record._since <= self._ping_after
        if fit:
            record._since = now
        return fit

    def _undo_take(
        self, lease: Lease[ConnT] | None, record: ConnectionRecord[ConnT]
    ) -> None:
        """An interrupt came between two steps: put the slot back, wherever it is."""
        if lease is not None:
            self._end(lease)
        if not self._is_idle(record):
            self._idle.appendleft(record)
        self._tidy()

    def _checkin_nowait(
        self, lease: Lease[ConnT], own: bool, hurried: bool = False
    ) -> ConnectionRecord[ConnT] | None:
        key = lease._ref
        record = self._out.pop(key, None)
        if record is None:
            return self._end(lease, own)
        try:
            if self._timed:
                self._note_use(record)
            if own and self._callers.get(lease._caller) is key:
                del self._callers[lease._caller]
            lease._count = 0
            lease._connection = lease._record = lease._ref = None
            connection = record.connection
            if (
                connection is None
                or not (self._simple_checkin or self._is_wanted())
                or record._epoch != self._epoch
            ):
                record._only_reset = False
                return record
            mode = self._reset_mode
            if mode is not None and (
                # A generic driver always says yes: not asking it saves 0.06 µs.
                record._resets_blindly or hurried or record._driver.needs_reset(connection)
            ):
                if not self._blocking or self._lose_all:
                    record._only_reset = not (
                        hurried or record._driver.blocking or self._lose_all
                    )
                    return record
                # In place: a call of a method of ours takes 0.06 µs on CPython 3.11.
                try:
                    record._driver.reset(connection, mode)
                except Exception as error:
                    self._spawn(self._invalidate_record(record, error, "reset"))
                    return record
            if self._simple_checkin:
                self._put_idle(record)
                # Again: in another thread, somebody may have come to wait, or disposed.
                if not self._simple_checkin or record._epoch != self._epoch:
                    self._tidy()
                return None
            if self._decide(self._restore, record):
                return None
        except BaseException:
            self._drop(record)
            raise
        return record

    def _is_wanted(self) -> bool:
        """Tell whether a slot that comes back clean is for a waiter, or to be kept."""
        return self._plain_checkin and self._is_room()

    def _is_room(self) -> bool:
        return self._total <= self._capacity and (
            bool(self._waiters) or len(self._idle) < self._keep
        )

    async def _return(self, record: ConnectionRecord[ConnT], hurried: bool = False) -> None:
        if not record._only_reset:
            await super()._return(record, hurried)
            return
        # Written for speed: no shield, which costs 2.7 µs (CPython 3.11). If a cancellation
        # strikes, the reset is made once more in its shelter, as for any connection that
        # was left in the middle of a statement.
        driver: Any = record._driver
        try:
            reset = driver.reset(record.connection, self._reset_mode)
            if reset is not None:
                await reset
        except BaseException as error:
            await self._reset_failed(record, error)
        else:
            if not self._take_back(record):
                await self._close_slot(record, self._surplus_reason(record))

    def _take_back(self, record: ConnectionRecord[ConnT]) -> bool:
        if self._simple_checkin and record._epoch == self._epoch:
            self._put_idle(record)
            return True
        return super()._take_back(record)

    def _tidy(self) -> None:
        """Make up for what happened between a look at the books and an entry in them."""
        for record in self._decide(self._surplus):
            self._drop_surplus(record)

    def _weigh(self) -> None:
        """Sum up in one attribute each whether the uncontended path may be taken.

        To be called, with the books locked, whenever something changes that counts here.
        """
        # With somebody waiting, nobody may overtake.
        calm = not self._waiters and not self._suspended and not self._closed
        checkin = self._plain_checkin and calm and self._total <= self._keep
        self._simple_checkout, self._simple_checkin = self._plain_checkout and calm, checkin

    def _note_settings(self) -> None:
        super()._note_settings()
        self._decide(self._weigh)

    def _surplus(self) -> list[ConnectionRecord[ConnT]]:
        self._serve()
        # The uncontended path may take any of these meanwhile.
        surplus: list[ConnectionRecord[ConnT]] = []
        for record in list(self._idle):
            if record._epoch != self._epoch:
                with suppress(ValueError):
                    self._idle.remove(record)
                    surplus.append(record)
        while self._idle and (
            len(self._idle) > self._keep or self._total - len(surplus) > self._capacity
        ):
            with suppress(IndexError):
                surplus.append(self._idle.pop())
        return surplus

    def _drop_surplus(self, record: ConnectionRecord[ConnT]) -> None:
        if self._terminated(record):
            self._decide(self._forget, record)
        else:
            self._spawn(self._close_slot(record, self._surplus_reason(record)))

    def _checkout_blocking(
        self,
        lease: Lease[ConnT],
        share: bool,
        timeout: float | None,
        code: CodeType,
        lasti: int,
    ) -> None:
        # _checkout() and _acquire() once more, without coroutines: threads that take turns
        # find nothing of what they need in the processor's caches, so each frame counts.
        # 32 threads on 8 connections, time for a cycle beside psycopg_pool's, with
        # coroutines and without: 0.94 and 0.70 on CPython 3.11.
        key = lease._ref
        if timeout is POOL_DEFAULT:
            timeout = self._timeout
        deadline = self._runtime.now() + timeout if timeout else None
        touched = False
        try:
            if key not in self._out:
                self._forget_dead_callers()
                self._resume_care()
                may_wait = timeout is None or timeout > 0
                waiter = self._decide(self._admit, lease, may_wait, False)
                if waiter is not None:
                    try:
                        if may_wait:
                            self._runtime.block(waiter.gate, timeout)
                    except BaseException:
                        self._decide(self._note_cancelled)
                        raise
                    finally:
                        if waiter.record is None:
                            self._decide(self._withdraw, key)
                    if waiter.record is None:
                        self._fail_unserved(timeout)
            record = self._out[key]
            record._code, record._lasti = code, lasti
            if self._is_ready(record):
                self._hand_over(lease, record, share)
                return
            touched = True
            run(self._fit_out(lease, share, timeout, deadline))
        except BaseException as error:
            run(self._undo_checkout(lease, error, touched))
            raise

    # Decisions, with the books locked.

    def _claim(
        self, lease: Lease[ConnT], may_wait: bool, first: bool
    ) -> Waiter[ConnT] | None:
        assert lease._ref is not None
        if (first or not self._waiters) and not self._suspended:
            record = self._free_slot(not (self._opened and may_wait))
            if record is not None:
                self._out[lease._ref] = record
                return None
        if may_wait and not first and self._max_waiting is not None:
            self._check_queue(self._max_waiting)
        gate, since = self._runtime.gate(), self._runtime.now()
        waiter: Waiter[ConnT] = Waiter(lease._ref, gate, since)
        if not self._waiters:
            self._rush_since, self._rush_served = since, 0
        self._waiters[waiter.ref] = waiter
        if first:
            self._waiters.move_to_end(waiter.ref, last=False)
        # What _weigh() would say; before the look at what is idle, so that no return is
        # missed.
        self._simple_checkout = self._simple_checkin = False
        if self._idle or self._total < self._capacity:
            self._serve()
        if waiter.record is not None:
            return None
        if not may_wait:
            self._waiters.pop(waiter.ref)
            self._weigh()
        elif self._opened and self._total < self._capacity:
            self._grow()
            self._kick()
        return waiter

    def _check_queue(self, most: int) -> None:
        """See whether one more may wait; a connection that can be opened is for one."""
        room = self._capacity - self._total if self._opened else 0
        if len(self._waiters) - len(self._connecting) - room >= most:
            raise TooManyWaitersError(
                f"QueuePool: {len(self._waiters)} callers wait for a connection, and "
                f"max_waiting is {most}"
            )

    def _serve(self) -> None:
        """Give slots to the first waiters, as long as there are both."""
        waiters = self._waiters
        while waiters and not self._suspended:
            waiter = next(iter(waiters.values()))
            if waiter.record is None and waiter.ref() is not None:
                if not self._idle and (self._opened or self._total >= self._capacity):
                    break
                record = self._free_slot(not self._opened)
                if record is None:
                    break
                try:
                    # On one line: it is the waiter's, or it is idle.
                    self._out[waiter.ref] = waiter.record = record
                    self._note_wait(waiter)
                except BaseException:
                    if not self._is_out(record):
                        self._idle.appendleft(record)
                    raise
            # Else it was interrupted, and is gone without a word; or whoever served it
            # was, and perhaps had no time to tell it.
            try:  # noqa: SIM105  # suppress() takes 0.7 µs (CPython 3.11), this nothing
                waiter.gate.release()
            except RuntimeError:  # a thread that was told already
                pass
            waiters.pop(waiter.ref, None)
        self._weigh()

    def _note_wait(self, waiter: Waiter[ConnT]) -> None:
        self._rush_served += 1
        self._counts.waits += 1
        self._counts.wait_time += self._runtime.now() - waiter.since

    def _free_slot(self, connects: bool) -> ConnectionRecord[ConnT] | None:
        """Take a slot that is idle, or a new one if the caller `connects` itself."""
        if self._idle:
            try:
                return self._idle.popleft()
            except IndexError:
                pass  # the uncontended path takes no lock
        if not connects:
            return None
        return self._new_slot()

    def _new_slot(self) -> ConnectionRecord[ConnT] | None:
        if self._total >= self._capacity:
            return None
        record = self._uncounted_record()
        # On one line: from here on the record counts, and if it is lost, it tells.
        record._on_lost, self._total = self._on_lost, self._total + 1
        self._weigh()
        return record

    def _is_ready(self, record: ConnectionRecord[ConnT]) -> bool:
        return self._plain_checkout and self._is_as_it_should_be(record)

    def _is_as_it_should_be(self, record: ConnectionRecord[ConnT]) -> bool:
        return (
            record.connection is not None
            and record._epoch == self._epoch
            and (not self._timed or self._is_fit(record))
        )

    def _withdraw(self, ref: Any) -> None:
        waiter = self._waiters.pop(ref, None)
        if waiter is not None:
            self._note_wait(waiter)
        self._weigh()

    def _restore(self, record: ConnectionRecord[ConnT]) -> bool:
        wanted = (
            record._epoch == self._epoch
            and not self._closed  # one that was just being renewed is as young as the pool
            and self._is_room()
            # An opened pool has no empty slots: it connects when one is needed.
            and (record.connection is not None or not self._opened)
        )
        if wanted:
            self._put_idle(record)
            self._serve()
        return wanted

    def _forget(self, record: ConnectionRecord[ConnT]) -> None:
        if record._on_lost is not None:
            record._on_lost, self._total = None, self._total - 1
        self._connecting.pop(ref(record), None)
        super()._forget(record)
        self._serve()
        self._grow()

    def _is_out(self, record: ConnectionRecord[ConnT]) -> bool:
        return any(record is other for other in self._out.values())

    def _is_idle(self, record: ConnectionRecord[ConnT]) -> bool:
        return record in self._idle or self._is_out(record)

    def _records(self) -> Iterable[ConnectionRecord[ConnT]]:
        return [*super()._records(), *self._idle]

    def _waiting(self) -> int:
        return len(self._waiters)

    def _oldest_wait(self) -> float:
        oldest = next(iter(list(self._waiters.values())), None)
        waited: float = 0.0 if oldest is None else self._runtime.now() - oldest.since
        return waited

    def _slots(self) -> int:
        return self._total

    def _idle_slots(self) -> int:
        return len(self._idle)

    def _timed_out(self, phase: str, timeout: float) -> PoolTimeoutError:
        cause = self._backoff.error
        if cause is not None:
            error = PoolTimeoutError(
                f"QueuePool: no connection within the timeout of {timeout:g}; connecting "
                f"failed with {type(cause).__name__}"
            )
            error.__cause__ = cause
            return error
        return PoolTimeoutError(
            f"QueuePool limit of size {self._size} overflow {self.overflow()} reached, "
            f"connection timed out, timeout {timeout:g}"
            if phase == "waiting"
            else f"QueuePool: {phase} timed out, timeout {timeout:g}"
        )
