"""A reference model of a pool with many callers: what is where, and who waits."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field


@dataclass(eq=False)
class Connection:
    """A connection of the model's."""

    epoch: int
    opened_at: float


@dataclass(eq=False)
class Slot:
    """A place for a connection."""

    epoch: int
    connection: Connection | None = None


@dataclass(eq=False)
class Lease:
    """A checkout, or the wish for one.

    Attributes:
        state: "waits", "out", "detached", "closed", "failed".
    """

    caller: int
    share: bool
    state: str = "waits"
    slot: Slot | None = None
    connection: Connection | None = None
    count: int = 0


@dataclass
class Model:
    """QueuePool; with keep=0 and no capacity also NullPool.

    Attributes:
        open: all open connections.
        checkins: what checkin listeners were told: whether there was a connection.
        failing_connects, failing_resets: how many of the next ones fail.
    """

    keep: float
    capacity: float
    recycle: float
    threadlocal: bool
    resets: bool = True
    pools: bool = True
    now: float = 0.0
    epoch: int = 0
    total: int = 0
    idle: deque[Slot] = field(default_factory=deque)
    waiters: deque[Lease] = field(default_factory=deque)
    mapped: dict[int, Lease] = field(default_factory=dict)
    open: set[Connection] = field(default_factory=set)
    checkins: list[bool] = field(default_factory=list)
    failing_connects: int = 0
    failing_resets: int = 0

    def connect(self, caller: int, *, share: bool, patience: bool = True) -> Lease | None:
        """Check out. None: there is no connection, and the caller doesn't wait."""
        share = share and self.threadlocal
        if share and caller in self.mapped:
            lease = self.mapped[caller]
            lease.count += 1
            return lease
        lease = Lease(caller, share)
        slot = None if self.waiters else self._free_slot()
        if slot is not None:
            self._prepare(lease, slot)
        elif patience:
            self.waiters.append(lease)
        else:
            return None
        return lease

    def give_up(self, lease: Lease) -> None:
        """A waiter leaves the queue."""
        self.waiters.remove(lease)
        lease.state = "closed"

    def close(self, lease: Lease, *, all_of_it: bool = False) -> None:
        """Count down; return at zero."""
        if lease.state not in ("out", "detached"):
            return
        lease.count = 0 if all_of_it else lease.count - 1
        if lease.count:
            return
        slot, connection = self._end(lease)
        if slot is None:
            assert connection is not None
            self.open.discard(connection)
            return
        self.checkins.append(slot.connection is not None)
        if slot.connection is not None and self.resets and self.failing_resets:
            self.failing_resets -= 1
            self._close(slot)
        self._release(slot)

    def invalidate(self, lease: Lease) -> None:
        if lease.connection is not None:
            slot, connection = self._end(lease)
            assert connection is not None
            self.open.discard(connection)
            if slot is not None:
                slot.connection = None
                self.checkins.append(False)
                self._release(slot)

    def detach(self, lease: Lease) -> None:
        if lease.slot is not None:
            slot, lease.slot = lease.slot, None
            lease.state = "detached"
            if self.mapped.get(lease.caller) is lease:
                del self.mapped[lease.caller]
            slot.connection = None
            self._release(slot)

    def dispose(self) -> None:
        self.epoch += 1
        idle, self.idle = self.idle, deque()
        for slot in idle:
            self._close(slot)
            self.total -= 1
        self._serve()

    # Inside.

    def _end(self, lease: Lease) -> tuple[Slot | None, Connection | None]:
        slot, connection = lease.slot, lease.connection
        lease.slot = lease.connection = None
        lease.state = "closed"
        if self.mapped.get(lease.caller) is lease:
            del self.mapped[lease.caller]
        return slot, connection

    def _free_slot(self) -> Slot | None:
        if self.idle:
            return self.idle.popleft()
        if self.total < self.capacity:
            self.total += 1
            return Slot(self.epoch)
        return None

    def _prepare(self, lease: Lease, slot: Slot) -> None:
        connection = slot.connection
        if connection is not None and (
            slot.epoch != self.epoch or 0 <= self.recycle < self.now - connection.opened_at
        ):
            self._close(slot)
        if slot.connection is None:
            if self.failing_connects:
                self.failing_connects -= 1
                lease.state = "failed"
                self._release(slot)
                return
            slot.connection = Connection(self.epoch, self.now)
            slot.epoch = self.epoch
            self.open.add(slot.connection)
        lease.slot, lease.connection = slot, slot.connection
        lease.state, lease.count = "out", 1
        if lease.share:
            self.mapped[lease.caller] = lease

    def _close(self, slot: Slot) -> None:
        if slot.connection is not None:
            self.open.discard(slot.connection)
            slot.connection = None

    def _release(self, slot: Slot) -> None:
        if (
            self.pools
            and slot.epoch == self.epoch
            and (self.waiters or len(self.idle) < self.keep)
        ):
            self.idle.append(slot)
        else:
            self._close(slot)
            self.total -= 1
        self._serve()

    def _serve(self) -> None:
        while self.waiters:
            slot = self._free_slot()
            if slot is None:
                return
            self._prepare(self.waiters.popleft(), slot)


def limits(pool_size: int, max_overflow: int) -> tuple[float, float]:
    """Return how many connections a QueuePool keeps, and how many there may be."""
    if pool_size == 0:
        return math.inf, math.inf
    return pool_size, math.inf if max_overflow < 0 else pool_size + max_overflow
