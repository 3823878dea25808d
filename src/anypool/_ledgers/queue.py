"""The ledger of QueuePool: idle slots, and a queue of those who wait for one."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import ref

from typing_extensions import TypeVar

from .._core.errors import TooManyWaitersError
from .._core.lease import Lease
from .._core.record import UNTOLD, ConnectionRecord
from .._core.waiter import Waiter
from .growth import Growth
from .guard import guarded_pop, guarded_put, listed
from .ledger import Ledger

ConnT = TypeVar("ConnT")


class QueueLedger(Ledger[ConnT]):
    """Hands slots out in turn, first come, first served.

    The quick path (_parts/quickpath.py) takes no lock: it may take idle slots, or bring
    some, at any moment. Without the GIL, it does so between decisions.

    Attributes:
        idle: the slots that the pool itself has; they go out from the left.
        pop_idle: takes the first, for the quick path. Raises IndexError.
        put_idle: adds one: on the right, or for use_lifo on the left.
        waiters: by their leases' references, so that leaving from the middle is quick, too.
        total: how many slots there are, idle and out.
        keep: how many connections to keep.
        capacity: how many there may be at a time.
        max_waiting: how many callers may wait; None: no limit.
        suspended: whether all checkouts are held back.
        growth: what is known of connects.
        calm: whether checkouts and returns go on without a look at others: nobody waits,
            and nothing is held back.
        plain_checkout: whether a checkout has nobody to tell.
        plain_checkin: whether a return has nobody to tell, and at most a quick reset to do.
        simple_checkout: whether the quick path may be taken; see weigh().
        simple_checkin: the same for returns.
    """

    __slots__ = (
        "calm",
        "capacity",
        "growth",
        "idle",
        "keep",
        "max_waiting",
        "plain_checkin",
        "plain_checkout",
        "pop_idle",
        "put_idle",
        "simple_checkin",
        "simple_checkout",
        "suspended",
        "total",
        "waiters",
    )

    capacity: float
    keep: float

    def __init__(
        self,
        *args: Any,
        min_size: int = 0,
        max_waiting: int | None = None,
        use_lifo: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.growth = Growth(min_size)
        self.idle: deque[ConnectionRecord[ConnT]] = deque()
        self.pop_idle: Callable[[], ConnectionRecord[ConnT]] = self.idle.popleft
        self.put_idle: Callable[[ConnectionRecord[ConnT]], None]
        self.put_idle = self.idle.appendleft if use_lifo else self.idle.append
        if self.guarded:
            self.pop_idle = guarded_pop(ref(self))
            self.put_idle = guarded_put(ref(self), use_lifo)
        self.waiters: OrderedDict[Any, Waiter[ConnT]] = OrderedDict()
        self.total = 0
        self.max_waiting = max_waiting
        self.suspended = False
        self.plain_checkout = self.plain_checkin = False
        self.simple_checkout = self.simple_checkin = self.calm = False
        self.keep = self.capacity = 0

    def clear(self) -> None:
        super().clear()
        self.growth.clear()
        self.idle.clear()
        self.waiters.clear()
        self.total = 0

    @property
    def size(self) -> int:
        """The option ``pool_size``: how many connections to keep; 0: no limit."""
        return 0 if math.isinf(self.keep) else int(self.keep)

    def set_size(self, pool_size: int, max_overflow: int) -> None:
        """Set how many connections to keep, and how many more there may be; see options."""
        self.keep = pool_size or math.inf
        self.capacity = math.inf if max_overflow < 0 else self.keep + max_overflow

    # Whose turn it is.

    def claim(
        self, lease: Lease[ConnT], may_wait: bool, first: bool
    ) -> Waiter[ConnT] | None:
        assert lease._ref is not None
        if (first or not self.waiters) and not self.suspended:
            record = self._free_slot(not (self.opened and may_wait))
            if record is not None:
                self.leases.out[lease._ref] = record
                return None
        if may_wait and not first and self.max_waiting is not None:
            self._check_queue(self.max_waiting)
        gate, since = self.surroundings.gate(), self.surroundings.now()
        waiter: Waiter[ConnT] = Waiter(lease._ref, gate, since)
        if not self.waiters:
            self.growth.rush.begin(since)
        self.waiters[waiter.ref] = waiter
        if first:
            self.waiters.move_to_end(waiter.ref, last=False)
        # What weigh() would say; before the look at what is idle, so that no return is
        # missed.
        self.simple_checkout = self.simple_checkin = self.calm = False
        if self.idle or self.total < self.capacity:
            self._serve()
        if waiter.record is not None:
            return None
        if not may_wait:
            self.waiters.pop(waiter.ref)
            self.weigh()
        elif self.opened and self.total < self.capacity:
            self.growth.grow(self)
            self.wants_look = True
        return waiter

    def _check_queue(self, most: int) -> None:
        """See whether one more may wait; a connection that can be opened is for one."""
        room = self.capacity - self.total if self.opened else 0
        if len(self.waiters) - len(self.connecting) - room >= most:
            raise TooManyWaitersError(
                f"QueuePool: {len(self.waiters)} callers wait for a connection, and "
                f"max_waiting is {most}"
            )

    def _serve(self) -> None:
        """Give slots to the first waiters, as long as there are both."""
        waiters, out = self.waiters, self.leases.out
        while waiters and not self.suspended:
            waiter = next(iter(waiters.values()))
            if waiter.record is None and waiter.ref() is not None:
                if not self.idle and (self.opened or self.total >= self.capacity):
                    break
                record = self._free_slot(not self.opened)
                if record is None:
                    break
                try:
                    # On one line: it is the waiter's, or it is idle.
                    out[waiter.ref] = waiter.record = record
                    self._note_wait(waiter)
                except BaseException:  # pragma: no cover  # test_interrupts.py, by a tracer
                    if not self.leases.has(record):
                        self.idle.appendleft(record)
                    raise
            # Else it was interrupted, and is gone without a word; or whoever served it
            # was, and perhaps had no time to tell it.
            try:  # noqa: SIM105  # suppress() takes 0.7 µs (CPython 3.11), this nothing
                waiter.gate.release()
            except RuntimeError:  # a thread that was told already
                pass
            waiters.pop(waiter.ref, None)
        self.weigh()

    def _note_wait(self, waiter: Waiter[ConnT]) -> None:
        self.growth.rush.served += 1
        self.statistics.note_wait(self.surroundings.now() - waiter.since)

    def withdraw(self, lease_ref: Any) -> None:
        waiter = self.waiters.pop(lease_ref, None)
        if waiter is not None:
            self._note_wait(waiter)
        self.weigh()

    def _free_slot(self, connects: bool) -> ConnectionRecord[ConnT] | None:
        """Take a slot that is idle, or a new one if the caller `connects` itself."""
        if self.idle:
            try:
                return self.idle.popleft()
            except IndexError:
                pass  # the quick path takes no lock
        if not connects:
            return None
        return self.new_slot()

    def new_slot(self) -> ConnectionRecord[ConnT] | None:
        """Make a slot, if there may be another one."""
        if self.total >= self.capacity:
            return None
        record = self._uncounted_record()
        # On one line: from here on the record counts, and if it is lost, it tells.
        record._on_lost, self.total = self.calls.on_lost, self.total + 1
        self.weigh()
        return record

    def take_back(self, record: ConnectionRecord[ConnT]) -> bool:
        wanted = (
            record._generation == self.generation
            and not self.closed  # one just being renewed is as young as the pool
            and (record._holds_data or self.is_room())
            # An opened pool has no empty slots: it connects when one is needed.
            and (record.connection is not None or not self.opened)
        )
        if wanted:
            record._told = UNTOLD
            self.put_idle(record)
            self._serve()
        return wanted

    def is_room(self) -> bool:
        """Tell whether a connection that comes back is for a waiter, or to be kept."""
        awaited = bool(self.waiters) and not self.suspended
        return self.total <= self.capacity and (awaited or len(self.idle) < self.keep)

    def forget(self, record: ConnectionRecord[ConnT]) -> None:
        if record._on_lost is not None:
            record._on_lost, self.total = None, self.total - 1
        self.connecting.pop(ref(record), None)
        super().forget(record)
        self._serve()
        self.growth.grow(self)
        if self.growth.backoff.error is not None:
            self.wants_look = True  # what may not be replaced yet has to be when it may

    def weigh(self) -> None:
        """Sum up in one attribute each whether the quick path may be taken.

        To be called whenever something changes that counts here.
        """
        # With somebody waiting, nobody may overtake.
        self.calm = calm = not self.waiters and not self.suspended and not self.closed
        checkin = self.plain_checkin and calm and self.total <= self.keep
        self.simple_checkout, self.simple_checkin = self.plain_checkout and calm, checkin

    def set_plain(self, checkout: bool, checkin: bool) -> None:
        """Note whether checkouts and returns have nobody to tell."""
        self.plain_checkout, self.plain_checkin = checkout, checkin
        self.weigh()

    # What is of no use.

    def empty(self) -> list[ConnectionRecord[ConnT]]:
        self.generation += 1
        idle: list[ConnectionRecord[ConnT]] = []
        with suppress(IndexError):
            while True:  # one by one, as the quick path takes no lock
                idle.append(self.idle.popleft())
        self.growth.grow(self)
        return idle

    def surplus(self) -> list[ConnectionRecord[ConnT]]:
        self._serve()
        surplus = [
            record
            for record in list(self.idle)
            if record._generation != self.generation and self.take_idle(record)
        ]
        for record in reversed(list(self.idle)):
            room = len(self.idle) <= self.keep
            if room and self.total - len(surplus) <= self.capacity:
                break
            if not record._holds_data and self.take_idle(record):
                surplus.append(record)
        return surplus

    def take_idle(self, record: ConnectionRecord[ConnT]) -> bool:
        """Take this very slot out of the idle ones; False if somebody was quicker."""
        try:
            self.idle.remove(record)
        except ValueError:
            return False
        return True

    def resize(self, pool_size: int, max_overflow: int) -> list[ConnectionRecord[ConnT]]:
        """Change how many there may be; return what is too much by now."""
        self.set_size(pool_size, max_overflow)
        surplus = self.surplus()
        self.growth.grow(self)
        return surplus

    def suspend(self, suspended: bool) -> None:
        """Hold all checkouts back, or no longer."""
        self.suspended = suspended
        self._serve()
        self.growth.grow(self)

    def age(self) -> None:
        super().age()
        self.weigh()
        self.want_look()

    def may_hold(self, record: ConnectionRecord[ConnT], data: Any) -> bool:
        # Any of several connections may be the one that a caller gets.
        return data is True or not any(
            other.connection is not None
            and other._generation == record._generation
            and other._holds_data == data
            for other in self.known_records()
        )

    @contextmanager
    def no_replacement(self) -> Iterator[None]:
        self.growth.ebbing = True
        try:
            yield
        finally:
            self.growth.ebbing = False

    # The life of an opened pool.

    def open(self) -> None:
        super().open()
        # An opened pool has no empty slots.
        for record in list(self.idle):
            if record.connection is None and self.take_idle(record):
                self.forget(record)
        self.growth.grow(self)

    def close(self) -> list[ConnectionRecord[ConnT]]:
        idle = super().close()
        # By its error's traceback, it may hold who called open().
        self.growth.backoff.succeeded()
        self.weigh()
        while self.waiters:
            _, waiter = self.waiters.popitem(last=False)
            waiter.gate.release()
        self.growth.tell_watchers()
        return idle

    # What others ask.

    def is_home(self, record: ConnectionRecord[ConnT]) -> bool:
        return record in listed(self.idle) or self.leases.has(record)

    def records(self) -> Iterable[ConnectionRecord[ConnT]]:
        return [*super().records(), *listed(self.idle)]

    def slot_count(self) -> int:
        return self.total

    def idle_count(self) -> int:
        return len(self.idle)

    def is_suspended(self) -> bool:
        return self.suspended

    def is_exhausted(self) -> bool:
        full = self.total >= self.capacity and len(self.leases.out) >= self.total
        return full and not (self.connecting or self.suspended)

    def limit(self) -> int | None:
        return None if math.isinf(self.capacity) else int(self.capacity)

    def waiting(self) -> list[Waiter[ConnT]]:
        return listed(self.waiters.values())

    def waiting_count(self) -> int:
        return len(self.waiters)

    def oldest_wait(self) -> float:
        oldest = next(iter(listed(self.waiters.values())), None)
        return 0.0 if oldest is None else self.surroundings.now() - oldest.since
