"""The ledger of AssertionPool: one slot, and at most one lease."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import ref

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .ledger import Ledger

ConnT = TypeVar("ConnT")


class AssertionLedger(Ledger[ConnT]):
    """Has one slot.

    Attributes:
        idle: the slot, unless it is out.
    """

    __slots__ = ("_holder", "idle")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.idle: ConnectionRecord[ConnT] | None = self.new_record()
        self._holder = ref(self.idle)

    def claim(self, lease: Lease[ConnT], may_wait: bool, first: bool) -> None:
        if self.idle is None:
            # By hand: an assert statement would be gone under python -O.
            holder = self._holder()
            where = "<unknown>" if holder is None else "{}:{}".format(*holder._line())
            raise AssertionError(
                f"AssertionPool: a connection is out already; it was checked out at {where}"
            )
        self._holder = ref(self.idle)
        self.leases.out[lease._ref], self.idle = self.idle, None

    def take_back(self, record: ConnectionRecord[ConnT]) -> bool:
        kept = (
            record._generation == self.generation and self.idle is None and not self.closed
        )
        if kept:
            self.idle = record
        return kept

    def forget(self, record: ConnectionRecord[ConnT]) -> None:
        if self.idle is None:
            self.idle = self.new_record()
        super().forget(record)

    def empty(self) -> list[ConnectionRecord[ConnT]]:
        self.generation += 1
        disposed, self.idle = self.idle, None
        return [] if disposed is None else [disposed]

    def clear(self) -> None:
        super().clear()
        self.idle = self.new_record()
        self._holder = ref(self.idle)

    def is_home(self, record: ConnectionRecord[ConnT]) -> bool:
        return record is self.idle

    def records(self) -> Iterable[ConnectionRecord[ConnT]]:
        idle = [] if self.idle is None else [self.idle]
        return [*super().records(), *idle]
