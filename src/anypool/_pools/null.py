"""NullPool: no pooling."""

from __future__ import annotations

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .base import Pool

ConnT = TypeVar("ConnT")


class NullPool(Pool[ConnT]):
    """Opens a connection for every checkout, and closes it on return.

    For when the pooling is done elsewhere, and for tests.
    """

    __slots__ = ()

    def _empty(self) -> list[ConnectionRecord[ConnT]]:
        self._epoch += 1
        return []

    def _claim(self, lease: Lease[ConnT], may_wait: bool, first: bool) -> None:
        self._out[lease._ref] = self._new_record()

    def _restore(self, record: ConnectionRecord[ConnT]) -> bool:
        return False
