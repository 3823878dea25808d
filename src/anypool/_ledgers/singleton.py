"""The ledger of SingletonTaskPool: a slot for each caller."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from weakref import ref

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .shared import SharedLedger

ConnT = TypeVar("ConnT")


class SingletonLedger(SharedLedger[ConnT]):
    """Has a slot for each caller, and gives it to no other.

    Attributes:
        kept: the slots, by a weak reference to their callers.
        evicted: those that had to make room, to be closed.
    """

    __slots__ = ("_on_death", "_size", "evicted", "kept")

    def __init__(
        self, *args: Any, size: int, on_death: Callable[[Any], None], **kwargs: Any
    ) -> None:
        """Make an empty ledger.

        Args:
            args: see Ledger.
            size: how many callers' slots to keep.
            on_death: the finalizer of callers.
            kwargs: see Ledger.
        """
        super().__init__(*args, **kwargs)
        self._size = size
        self._on_death = on_death
        self.kept: dict[Any, ConnectionRecord[ConnT]] = {}
        self.evicted: list[ConnectionRecord[ConnT]] = []

    def claim(self, lease: Lease[ConnT], may_wait: bool, first: bool) -> None:
        caller: Any = lease._caller
        record = self.kept.get(caller)
        if record is None:
            self._make_room()
            record = self.kept[ref(caller(), self._on_death)] = self.new_record()
        self.share(lease, record)

    def _make_room(self) -> None:
        for caller in list(self.kept):
            if len(self.kept) < self._size:
                return
            record = self.kept.get(caller)
            if record is not None and not record._users:
                del self.kept[caller]
                self.evicted.append(record)

    def take_evicted(self) -> list[ConnectionRecord[ConnT]]:
        """Return what is to be closed."""
        evicted, self.evicted = self.evicted, []
        return evicted

    def keeps(self, record: ConnectionRecord[ConnT]) -> bool:
        return any(record is other for other in list(self.kept.values()))

    def empty(self) -> list[ConnectionRecord[ConnT]]:
        records = list(self.kept.values())
        self.kept.clear()
        return [record for record in records if not record._users]

    def forget_caller(self, caller: Any) -> list[ConnectionRecord[ConnT]]:
        """Take a caller's slot out of the pool; return it, if nobody uses it."""
        record = self.kept.pop(caller, None)
        return [] if record is None or record._users else [record]

    def clear(self) -> None:
        super().clear()
        self.kept.clear()
        self.evicted.clear()

    def records(self) -> Iterable[ConnectionRecord[ConnT]]:
        return {*super().records(), *self.kept.values(), *self.evicted}
