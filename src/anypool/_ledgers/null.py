"""The ledger of NullPool: each lease gets a slot of its own, which is never kept."""

from __future__ import annotations

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .ledger import Ledger

ConnT = TypeVar("ConnT")


class NullLedger(Ledger[ConnT]):
    """Keeps nothing."""

    __slots__ = ()

    def claim(self, lease: Lease[ConnT], may_wait: bool, first: bool) -> None:
        self.leases.out[lease._ref] = self.new_record()

    def take_back(self, record: ConnectionRecord[ConnT]) -> bool:
        return False

    def empty(self) -> list[ConnectionRecord[ConnT]]:
        self.generation += 1
        return []
