"""StaticPool: one connection for all."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .shared import SharedSlots

ConnT = TypeVar("ConnT")


class StaticPool(SharedSlots[ConnT]):
    """Gives all callers one and the same connection, opened at the first checkout.

    Several callers may have it at a time, so the driver must allow that. It is reset
    whenever one of them returns it.
    """

    __slots__ = ("_record",)

    def _clear_books(self) -> None:
        super()._clear_books()
        self._record = self._new_record()

    def _empty(self) -> list[ConnectionRecord[ConnT]]:
        self._epoch += 1
        disposed, self._record = self._record, self._new_record()
        return [] if disposed._users else [disposed]

    def _claim(self, lease: Lease[ConnT], may_wait: bool, first: bool) -> None:
        self._share(lease, self._record)

    def _is_kept(self, record: ConnectionRecord[ConnT]) -> bool:
        return record is self._record

    def _records(self) -> Iterable[ConnectionRecord[ConnT]]:
        return {*super()._records(), self._record}
