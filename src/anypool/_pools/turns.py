"""Turns: who gets which slot of a QueuePool, and when."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import ref

from typing_extensions import TypeVar

from .._core.errors import TooManyWaitersError
from .._core.record import ConnectionRecord
from .._core.waiter import Waiter
from .base import Pool

if TYPE_CHECKING:
    from .._core.lease import Lease

ConnT = TypeVar("ConnT")


class Turns(Pool[ConnT]):
    """The idle slots, those who wait for one, and the decisions on both.

    All of it is plain, and is called with the books locked.
    """

    __slots__ = (
        "_capacity",
        "_idle",
        "_keep",
        "_max_waiting",
        "_put_idle",
        "_rush_served",
        "_rush_since",
        "_simple_checkin",
        "_simple_checkout",
        "_suspended",
        "_total",
        "_use_lifo",
        "_waiters",
    )

    _capacity: float
    _keep: float
    _max_waiting: int | None
    _suspended: bool
    _use_lifo: bool

    def _clear_books(self) -> None:
        super()._clear_books()
        self._idle: deque[ConnectionRecord[ConnT]] = deque()
        # Idle connections go out from the left.
        self._put_idle = self._idle.appendleft if self._use_lifo else self._idle.append
        # By their leases' references, so that leaving from the middle is quick, too.
        self._waiters: OrderedDict[Any, Waiter[ConnT]] = OrderedDict()
        self._total = 0  # slots, idle and out
        # Since when callers have been waiting, and how many were served meanwhile.
        self._rush_since = 0.0
        self._rush_served = 0

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
                except BaseException:  # pragma: no cover  # test_interrupts.py, by a tracer
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

    def _withdraw(self, ref: Any) -> None:
        waiter = self._waiters.pop(ref, None)
        if waiter is not None:
            self._note_wait(waiter)
        self._weigh()

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

    def _restore(self, record: ConnectionRecord[ConnT]) -> bool:
        wanted = (
            record._epoch == self._epoch
            and not self._closed  # one that was just being renewed is as young as the pool
            and (record._holds_data or self._is_room())
            # An opened pool has no empty slots: it connects when one is needed.
            and (record.connection is not None or not self._opened)
        )
        if wanted:
            self._put_idle(record)
            self._serve()
        return wanted

    def _is_room(self) -> bool:
        awaited = bool(self._waiters) and not self._suspended
        return self._total <= self._capacity and (awaited or len(self._idle) < self._keep)

    def _forget(self, record: ConnectionRecord[ConnT]) -> None:
        if record._on_lost is not None:
            record._on_lost, self._total = None, self._total - 1
        self._connecting.pop(ref(record), None)
        super()._forget(record)
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

    def _surplus(self) -> list[ConnectionRecord[ConnT]]:
        self._serve()
        # The uncontended path may take any of these meanwhile.
        surplus: list[ConnectionRecord[ConnT]] = []
        for record in list(self._idle):
            if record._epoch != self._epoch:
                with suppress(ValueError):
                    self._idle.remove(record)
                    surplus.append(record)
        for record in reversed(list(self._idle)):
            room = len(self._idle) <= self._keep
            if room and self._total - len(surplus) <= self._capacity:
                break
            if not record._holds_data:
                with suppress(ValueError):
                    self._idle.remove(record)
                    surplus.append(record)
        return surplus

    def _drop_surplus(self, record: ConnectionRecord[ConnT]) -> None:
        if self._terminated(record):
            self._decide(self._forget, record)
        else:
            self._spawn(self._close_slot(record, self._surplus_reason(record)))

    def _tidy(self) -> None:
        """Make up for what happened between a look at the books and an entry in them."""
        for record in self._decide(self._surplus):
            self._drop_surplus(record)

    def _suspend(self, suspended: bool) -> None:
        self._suspended = suspended
        self._weigh()
        self._serve()
        self._grow()

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

    def _is_as_it_should_be(self, record: ConnectionRecord[ConnT]) -> bool:
        return (
            record.connection is not None
            and record._epoch == self._epoch
            and (not self._timed or self._is_fit(record))
        )

    def _is_fit(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether a connection is neither too old nor to be pinged; note the time."""
        now: float = self._runtime.now()
        fit = now <= record._expires_at and now - record._since <= self._ping_after
        if fit:
            record._since = now
        return fit

    def _is_out(self, record: ConnectionRecord[ConnT]) -> bool:
        return record in self._out.values()  # in one step, since other threads go on

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

    # What an opened pool does beside its callers.

    def _grow(self) -> None:
        """Begin as many connects as are of use now."""
        raise NotImplementedError
