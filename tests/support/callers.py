"""A reference model of a pool with many callers: what is where, and who waits."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field

import anypool

from .witness import STUCK

UNDER_WAY = {"busy", *STUCK}


@dataclass(eq=False)
class Connection:
    """A connection of the model's.

    Attributes:
        left: what callers have left behind on it.
    """

    epoch: int
    opened_at: float
    left: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Slot:
    """A place for a connection."""

    epoch: int
    connection: Connection | None = None
    returned_at: float = 0.0
    users: int = 0


@dataclass(eq=False)
class Lease:
    """A checkout, or the wish for one.

    Attributes:
        state: "waits", "out", "detached", "closed", "failed".
        error: with which it failed.
    """

    caller: int
    share: bool
    state: str = "waits"
    error: type[Exception] = Exception
    slot: Slot | None = None
    connection: Connection | None = None
    count: int = 0


@dataclass
class Model:
    """A pool that is not opened.

    QueuePool; with keep=0 and no capacity NullPool; if nobody may wait AssertionPool.

    Attributes:
        asserts: whether it is a bug to come when all is out.
        ping_after: seconds of idling after which a connection is pinged.
        most: how many may wait.
        tells: whether the driver can tell what a connection is in. If not, each return
            resets, and a full reset closes.
        full: whether resets are full ones.
        open: all open connections.
        out: how many leases have a slot.
        checkins: what checkin listeners were told: whether there was a connection.
        failing_connects, failing_resets, failing_pings: how many of the next ones fail.
        counts: what was done: "checkouts", "opened", and so on.
        reasons: why connections were closed.
    """

    keep: float
    capacity: float
    recycle: float
    threadlocal: bool
    resets: bool = True
    pools: bool = True
    asserts: bool = False
    lifo: bool = False
    ping_after: float = math.inf
    most: float = math.inf
    tells: bool = False
    full: bool = False
    now: float = 0.0
    epoch: int = 0
    total: int = 0
    suspended: bool = False
    closed: bool = False
    idle: deque[Slot] = field(default_factory=deque)
    out: list[Lease] = field(default_factory=list)
    waiters: deque[Lease] = field(default_factory=deque)
    mapped: dict[int, Lease] = field(default_factory=dict)
    open: set[Connection] = field(default_factory=set)
    checkins: list[bool] = field(default_factory=list)
    failing_connects: int = 0
    failing_resets: int = 0
    failing_pings: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def connect(self, caller: int, *, share: bool, patience: bool = True) -> Lease:
        """Check out, or wait, or fail."""
        share = share and self.threadlocal
        if share and caller in self.mapped:
            lease = self.mapped[caller]
            lease.count += 1
            return lease
        lease = Lease(caller, share)
        if self.closed:
            self._fail(lease, anypool.PoolClosedError)
        else:
            self._admit(lease, patience)
        return lease

    def _admit(self, lease: Lease, patience: bool) -> None:
        held_back = self.suspended or self.waiters
        slot = None if held_back else self._free_slot()
        if slot is not None:
            self._prepare(lease, slot)
        elif self.asserts:
            self._fail(lease, AssertionError)
        elif not patience:
            self.counts["timeouts"] += 1
            self._fail(lease, anypool.PoolTimeoutError)
        elif len(self.waiters) >= self.most:
            self._fail(lease, anypool.TooManyWaitersError)
        else:
            self.waiters.append(lease)

    def give_up(self, lease: Lease) -> None:
        """A waiter leaves the queue."""
        self.waiters.remove(lease)
        self.counts["waits"] += 1
        self.counts["cancelled"] += 1
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
        if slot.connection is not None:
            self._quiet(slot, slot.connection)
        self._release(slot)

    def _quiet(self, slot: Slot, connection: Connection) -> None:
        """Undo what was left; what can't be undone goes."""
        left = connection.left
        if left & UNDER_WAY and slot.users > 1:
            return  # it is perhaps theirs
        if left & {*STUCK}:
            self._close(slot, "reset")
            return
        left.discard("busy")
        if self.resets and (left or self.full or not self.tells):
            if self.full and not self.tells:
                self._close(slot, "reset")
            elif self.failing_resets:
                self.failing_resets -= 1
                self._close(slot, "reset")
            elif "prepared" in left:
                self._close(slot, "reset")
            else:
                left.clear()

    def invalidate(self, lease: Lease) -> None:
        if lease.connection is not None:
            slot, connection = self._end(lease)
            assert connection is not None
            if slot is not None:
                self._close(slot, "invalid")
                self.checkins.append(False)
                self._release(slot)
            else:
                self.open.discard(connection)

    def detach(self, lease: Lease) -> None:
        if lease.slot is not None:
            slot, lease.slot = lease.slot, None
            lease.state = "detached"
            self.out.remove(lease)
            if self.mapped.get(lease.caller) is lease:
                del self.mapped[lease.caller]
            slot.connection = None
            self._release(slot)

    def dispose(self) -> None:
        self.epoch += 1
        idle, self.idle = self.idle, deque()
        for slot in idle:
            self._discard(slot, "dispose")

    def drain(self) -> None:
        """Each connection is replaced when it comes back, or is next used."""
        self.epoch += 1

    def resize(self, keep: float, capacity: float) -> None:
        self.keep, self.capacity = keep, capacity
        self._serve()
        surplus = [slot for slot in self.idle if slot.epoch != self.epoch]
        for slot in surplus:
            self.idle.remove(slot)
        while self.idle and (len(self.idle) > keep or self.total - len(surplus) > capacity):
            surplus.append(self.idle.pop())
        for slot in surplus:
            self._discard(slot, "overflow")

    def suspend(self) -> None:
        self.suspended = True

    def resume(self) -> None:
        self.suspended = False
        self._serve()

    def shut(self, *, at_once: bool) -> None:
        """Close the pool; what is out goes when it returns, or at once."""
        self.closed = True
        self.dispose()
        while self.waiters:
            self._fail(self.waiters.popleft(), anypool.PoolClosedError)
        while at_once and self.out:
            slot, _ = self._end(self.out[-1])
            assert slot is not None
            self._discard(slot, "lost")

    # Inside.

    def _fail(self, lease: Lease, error: type[Exception]) -> None:
        lease.state, lease.error = "failed", error

    def _end(self, lease: Lease) -> tuple[Slot | None, Connection | None]:
        slot, connection = lease.slot, lease.connection
        lease.slot = lease.connection = None
        lease.state = "closed"
        if slot is not None:
            self.out.remove(lease)
            slot.returned_at = self.now
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

    def size(self) -> int:
        """Return how many connections and leases there are, or slots if those count."""
        if not self.asserts:
            return self.total
        return len(self.out) + self.spare()

    def spare(self) -> int:
        """Return how many of them are idle."""
        if not self.asserts:
            return len(self.idle)
        return sum(slot.connection is not None for slot in self.idle)

    def _prepare(self, lease: Lease, slot: Slot) -> None:
        self._part_with_unfit(slot)
        self._equip(lease, slot)

    def _part_with_unfit(self, slot: Slot) -> None:
        connection = slot.connection
        if connection is not None:
            if (
                slot.epoch != self.epoch
                or 0 <= self.recycle < self.now - connection.opened_at
            ):
                self._close(slot, "recycle")
            elif self.now - slot.returned_at > self.ping_after and self.failing_pings:
                self.failing_pings -= 1
                self._close(slot, "ping")

    def _equip(self, lease: Lease, slot: Slot) -> None:
        if slot.connection is None:
            if self.failing_connects:
                self.failing_connects -= 1
                self.counts["failed"] += 1
                self._fail(lease, ConnectionRefusedError)
                self._release(slot)
                return
            slot.connection = Connection(self.epoch, self.now)
            slot.epoch = self.epoch
            self.open.add(slot.connection)
            self.counts["opened"] += 1
        lease.slot, lease.connection = slot, slot.connection
        lease.state, lease.count = "out", 1
        self.counts["checkouts"] += 1
        self.out.append(lease)
        if lease.share:
            self.mapped[lease.caller] = lease

    def _close(self, slot: Slot, reason: str) -> None:
        if slot.connection is not None:
            self.open.discard(slot.connection)
            slot.connection = None
            self.reasons[reason] += 1

    def _discard(self, slot: Slot, reason: str) -> None:
        self._close(slot, reason)
        self.total -= 1
        self._serve()

    def _release(self, slot: Slot) -> None:
        young = slot.epoch == self.epoch
        awaited = self.waiters and not self.suspended
        if (
            self.pools
            and young
            and not self.closed
            and self.total <= self.capacity
            and (awaited or len(self.idle) < self.keep)
        ):
            if self.lifo:
                self.idle.appendleft(slot)
            else:
                self.idle.append(slot)
            self._serve()
        else:
            self._discard(slot, "overflow" if young else "dispose")

    def _serve(self) -> None:
        while self.waiters and not self.suspended:
            slot = self._free_slot()
            if slot is None:
                return
            self.counts["waits"] += 1
            self._prepare(self.waiters.popleft(), slot)


def limits(pool_size: int, max_overflow: int) -> tuple[float, float]:
    """Return how many connections a QueuePool keeps, and how many there may be."""
    if pool_size == 0:
        return math.inf, math.inf
    return pool_size, math.inf if max_overflow < 0 else pool_size + max_overflow
