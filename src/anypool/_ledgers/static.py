"""The ledger of StaticPool: one slot for all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .shared import SharedLedger

ConnT = TypeVar("ConnT")


class StaticLedger(SharedLedger[ConnT]):
    """Has one slot, which all leases share."""

    __slots__ = ("_record",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._record: ConnectionRecord[ConnT] = self.new_record()

    def claim(self, lease: Lease[ConnT], may_wait: bool, first: bool) -> None:
        self.share(lease, self._record)

    def keeps(self, record: ConnectionRecord[ConnT]) -> bool:
        return record is self._record

    def empty(self) -> list[ConnectionRecord[ConnT]]:
        self.generation += 1
        disposed, self._record = self._record, self.new_record()
        return [] if disposed._users else [disposed]

    def clear(self) -> None:
        super().clear()
        self._record = self.new_record()

    def records(self) -> Iterable[ConnectionRecord[ConnT]]:
        return {*super().records(), self._record}
