"""AssertionPool: one connection, and at most one caller at a time."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .base import Pool

ConnT = TypeVar("ConnT")


class AssertionPool(Pool[ConnT]):
    """Allows one checked out connection at a time, and says who broke that.

    For finding code that uses more connections than it should. A second checkout raises an
    AssertionError that names the file and line of the first.
    """

    __slots__ = ("_holder", "_idle")

    def _clear_books(self) -> None:
        super()._clear_books()
        self._idle: ConnectionRecord[ConnT] | None = self._new_record()
        self._holder: weakref.ref[ConnectionRecord[ConnT]] = weakref.ref(self._idle)

    def _empty(self) -> list[ConnectionRecord[ConnT]]:
        self._epoch += 1
        disposed, self._idle = self._idle, None
        return [] if disposed is None else [disposed]

    def _claim(self, lease: Lease[ConnT], may_wait: bool, first: bool) -> None:
        if self._idle is None:
            # By hand: an assert statement would be gone under python -O.
            holder = self._holder()
            where = "{}:{}".format(*holder._line()) if holder is not None else "<unknown>"
            raise AssertionError(
                f"AssertionPool: a connection is out already; it was checked out at {where}"
            )
        self._holder = weakref.ref(self._idle)
        self._out[lease._ref], self._idle = self._idle, None

    def _restore(self, record: ConnectionRecord[ConnT]) -> bool:
        kept = record._epoch == self._epoch and self._idle is None and not self._closed
        if kept:
            self._idle = record
        return kept

    def _forget(self, record: ConnectionRecord[ConnT]) -> None:
        if self._idle is None:
            self._idle = self._new_record()
        super()._forget(record)

    def _is_idle(self, record: ConnectionRecord[ConnT]) -> bool:
        return record is self._idle

    def _records(self) -> Iterable[ConnectionRecord[ConnT]]:
        idle = [] if self._idle is None else [self._idle]
        return [*super()._records(), *idle]
