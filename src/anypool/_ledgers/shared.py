"""What the ledgers of StaticPool and SingletonTaskPool have in common: shared slots."""

from __future__ import annotations

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .ledger import Ledger

ConnT = TypeVar("ConnT")


class SharedLedger(Ledger[ConnT]):
    """Counts the users of each slot: its leases, and its returns that are under way.

    Only a slot without users may be closed by anybody else.
    """

    __slots__ = ()

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

    def note_use(self, record: ConnectionRecord[ConnT]) -> None:
        if record._users == 1:
            super().note_use(record)

    def is_in_use(self, record: ConnectionRecord[ConnT]) -> bool:
        return self.blocking and record._mutex is not None and record._mutex.locked()
