"""What the ledgers of StaticPool and SingletonTaskPool have in common: shared slots."""

from __future__ import annotations

from typing import Any, TypeAlias
from weakref import ref

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .guard import listed
from .ledger import Ledger

ConnT = TypeVar("ConnT")


Returning: TypeAlias = tuple[ConnectionRecord[ConnT], bool, bool]
"""A return that is about to begin: of which slot, whether its caller was cut short, and
whether nobody is to be told. Two that are equal stand for each other."""


class SharedLedger(Ledger[ConnT]):
    """Counts the users of each slot: its leases, and its returns that are under way.

    Only a slot without users may be closed by anybody else.

    Attributes:
        returning: in event loops, the returns that are about to begin. The next caller who
            gets the same slot may see to them first.
    """

    __slots__ = ("returning",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.returning: list[Returning[ConnT]] = []

    def clear(self) -> None:
        super().clear()
        self.returning.clear()

    def share(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        """Give the lease this slot, whoever else may have it."""
        # On one line, so that an interrupt finds both or neither.
        self.leases.out[lease._ref], record._users = record, record._users + 1

    def take_back(self, record: ConnectionRecord[ConnT]) -> bool:
        record._users -= 1
        return record._users > 0 or (self.keeps(record) and not self.closed)

    def keeps(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether the pool keeps this slot when nobody uses it."""
        raise NotImplementedError

    def claim_return(self, returning: Returning[ConnT]) -> bool:
        """Tell whether nobody else has seen to a return; from now on somebody has."""
        try:
            self.returning.remove(returning)
        except ValueError:
            return False
        return True

    def take_return(self, record: ConnectionRecord[ConnT]) -> Returning[ConnT] | None:
        """Claim one of those of a slot, those of dropped leases included."""
        if record in self.dropped:
            self.dropped.remove(record)
            return record, False, False
        for returning in list(self.returning):
            if returning[0] is record and self.claim_return(returning):
                return returning
        return None

    def is_held(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether a caller has been given the slot's connection."""
        for key, each in listed(self.leases.out.items()):
            lease = key() if each is record and isinstance(key, ref) else None
            if lease is not None and lease._connection is not None:
                return True
        return False

    def note_use(self, record: ConnectionRecord[ConnT]) -> None:
        if record._users == 1:
            super().note_use(record)

    def is_in_use(self, record: ConnectionRecord[ConnT]) -> bool:
        return self.blocking and record._mutex is not None and record._mutex.locked()
