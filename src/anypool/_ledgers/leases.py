"""Leases: who has which slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic
from weakref import ref

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .._core.waiter import Caller
from .guard import listed

ConnT = TypeVar("ConnT")


class Leases(Generic[ConnT]):
    """The leases that are out.

    Attributes:
        out: Maps a weak reference to each lease to the record of its slot. Popping an entry
            is the claim to return that slot: whoever pops it (close, the finalizer, an
            interrupt's handler) is the only one to do so. Work on a slot that nobody waits
            for any more is here in its own name, as a Job.
        detached: The same, of connections that were taken out of the pool.
        callers: Each caller's own lease, which its nested checkouts share.
        on_drop: The finalizer of leases.
    """

    __slots__ = ("callers", "detached", "on_drop", "out")

    def __init__(self, on_drop: Callable[[ref[Any]], None] | None) -> None:
        self.out: dict[Any, ConnectionRecord[ConnT]] = {}
        self.detached: dict[Any, ConnectionRecord[ConnT]] = {}
        self.callers: dict[Caller, ref[Any]] = {}
        self.on_drop = on_drop

    def clear(self) -> None:
        self.out.clear()
        self.detached.clear()
        self.callers.clear()

    def nested(self, caller: Caller) -> Any:
        """Return the caller's own lease for another use, or None."""
        current = self.callers.get(caller)
        lease = None if current is None else current()
        if lease is None or lease._record is None:
            return None
        lease._count += 1
        return lease

    def new(self, owner: Any, caller: Caller) -> Any:
        """Make a lease without a connection.

        Args:
            owner: the pool or facade that it is for.
            caller: whose it is.
        """
        lease = owner._lease_type()
        lease._owner = owner
        lease._caller = caller
        lease._count = 0
        lease._record = lease._connection = None
        lease._ref = ref(lease, self.on_drop)
        return lease

    def hand_over(
        self, lease: Lease[ConnT], record: ConnectionRecord[ConnT], share: bool
    ) -> None:
        """Give the lease its slot's connection.

        Args:
            lease: has this slot by now.
            record: the slot.
            share: whether the caller's nested checkouts get the same.
        """
        if share:
            assert lease._ref is not None
            self.callers[lease._caller] = lease._ref
        lease._record, lease._connection, lease._count = record, record.connection, 1
        record._checkouts += 1

    def clear_caller(self, lease: Lease[ConnT], own: bool) -> None:
        """Have the lease's caller share it no more.

        Args:
            lease: is over.
            own: whether it is that caller who ends it. Another thread's entry may change at
                any time; it is left, and does no harm.
        """
        key = lease._ref
        if not own:
            self.forget_dead_callers()
        elif key is not None and self.callers.get(lease._caller) is key:
            del self.callers[lease._caller]

    def forget_dead_callers(self) -> None:
        """Drop entries that were left: of leases that other threads returned, or nobody."""
        if len(self.callers) > 2 * len(self.out) + 100:
            for caller in list(self.callers):
                if caller() is None:
                    self.callers.pop(caller, None)

    def detach(self, lease: Lease[ConnT]) -> ConnectionRecord[ConnT] | None:
        """Move the lease's connection to a record of its own, outside of the pool.

        Returns:
            The slot, which is empty now; None: the lease had none.
        """
        key = lease._ref
        record = self.out.pop(key, None)
        if key is None or record is None:
            return None
        detached: ConnectionRecord[ConnT] = ConnectionRecord(record._generation, None)
        detached._driver = record._driver
        detached.info.update(record.info)
        detached._serial, detached._code = record._serial, record._code
        detached._lasti, lease._record = record._lasti, None
        self.detached[key] = detached
        # On one line: an interrupt finds the connection in one place or the other.
        detached.connection, record.connection = record.connection, None
        return record

    def has(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether a slot is out."""
        return record in listed(self.out.values())

    def records(self) -> set[ConnectionRecord[ConnT]]:
        """Return the slots that are out."""
        return set(listed(self.out.values()))
