"""A model of the original QueuePool's semantics, for one caller: no locks, no I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass
class Slot:
    """A record: its connection's number, and its info."""

    connection: int | None = None
    info: dict[str, int] = field(default_factory=dict)


@dataclass
class ModelLease:
    """A checkout."""

    pool: ModelPool
    slot: Slot | None
    connection: int | None
    count: int = 1
    detached_info: dict[str, int] = field(default_factory=dict)

    def close(self) -> None:
        """Count down; return at zero."""
        if self.count > 1:
            self.count -= 1
        elif self.count == 1:
            self.count = 0
            self.end()

    def end(self) -> None:
        """Return the connection, or close it if it was detached."""
        pool, slot, connection = self.pool, self.slot, self.connection
        self.slot = self.connection = None
        self.count = 0
        if pool.mapped is self:
            pool.mapped = None
        if slot is not None:
            pool.tell("checkin", connection)
            if connection is not None:
                pool.tell("rollback", connection)
            pool.give_back(slot)
        elif connection is not None:
            pool.tell("close", connection)

    def drop(self) -> None:
        """Lose the last reference."""
        if self.connection is not None:
            self.end()

    def invalidate(self) -> str:
        """Close now; the slot goes back without a connection."""
        if self.connection is None:
            return "InvalidRequestError"
        self.pool.tell("close", self.connection)
        if self.slot is not None:
            self.slot.connection = None
        self.connection = None
        if self.slot is not None:
            self.end()
        self.count = 0
        return "ok"

    def detach(self) -> str:
        """Keep the connection; the slot goes back without it, and without a checkin."""
        if self.slot is not None:
            slot, self.slot = self.slot, None
            self.detached_info = dict(slot.info)
            slot.connection = None
            if self.pool.mapped is self:
                self.pool.mapped = None
            self.pool.give_back(slot)
        return "ok"

    def cursor(self, fails: bool) -> str:
        """Open a cursor; if that fails, invalidate."""
        if self.connection is None:
            return "InvalidRequestError"
        self.pool.tell("cursor", self.connection)
        if fails:
            self.invalidate()
            return "OSError"
        return "ok"

    def info(self) -> dict[str, int] | str:
        """The info of the slot, or the copy that was detached."""
        if self.connection is None:
            return "InvalidRequestError"
        return self.slot.info if self.slot is not None else self.detached_info


class ModelPool:
    """QueuePool(timeout=0), told by what is done to it.

    Attributes:
        events: what happened to connections and what listeners heard.
        rejected: the numbers of connections that the checkout listener rejects.
        connect_fails: whether the creator fails.
    """

    def __init__(self, pool_size: int, max_overflow: int, use_threadlocal: bool) -> None:
        self.pool_size = pool_size
        self.max_overflow = max_overflow
        self.use_threadlocal = use_threadlocal
        self.idle: deque[Slot] = deque()
        self.out_of = -pool_size  # the original's _overflow
        self.made = 0
        self.events: list[tuple[str, int | None]] = []
        self.mapped: ModelLease | None = None
        self.rejected: set[int] = set()
        self.connect_fails = False

    def tell(self, what: str, connection: int | None) -> None:
        self.events.append((what, connection))

    def counts(self) -> tuple[int, int, int, int]:
        """Return size, checkedin, overflow, checkedout."""
        checkedin = len(self.idle)
        return (
            self.pool_size,
            checkedin,
            self.out_of,
            self.pool_size - checkedin + self.out_of,
        )

    def connect(self) -> ModelLease | str:
        """Check out, or share what the caller has."""
        if self.use_threadlocal and self.mapped is not None:
            self.mapped.count += 1
            return self.mapped
        lease = self.unique()
        if isinstance(lease, ModelLease) and self.use_threadlocal:
            self.mapped = lease
        return lease

    def unique(self) -> ModelLease | str:
        """Check out a connection of its own, in two attempts."""
        slot = self._slot()
        if slot is None:
            return "PoolTimeoutError"
        if not self._open(slot):
            self.give_back(slot)
            return "OSError"
        for attempt in (1, 2):
            assert slot.connection is not None
            self.tell("checkout", slot.connection)
            if slot.connection not in self.rejected:
                return ModelLease(self, slot, slot.connection)
            self.tell("close", slot.connection)
            slot.connection = None
            if attempt == 1 and not self._open(slot):
                self.tell("checkin", None)
                self.give_back(slot)
                return "OSError"
        self.tell("checkin", None)
        self.give_back(slot)
        return "InvalidRequestError"

    def _slot(self) -> Slot | None:
        if self.idle:
            return self.idle.popleft()
        if self.max_overflow > -1 and self.out_of >= self.max_overflow:
            return None
        self.out_of += 1
        return Slot()

    def _open(self, slot: Slot) -> bool:
        if slot.connection is None:
            self.tell("connect", 0)
            if self.connect_fails:
                return False
            self.made += 1
            slot.connection = self.made
            slot.info.clear()
            self.tell("connected", self.made)
        return True

    def give_back(self, slot: Slot) -> None:
        """Take a slot back, or discard what is too much."""
        if len(self.idle) < self.pool_size:
            self.idle.append(slot)
        else:
            if slot.connection is not None:
                self.tell("close", slot.connection)
            self.out_of -= 1
