"""AssertionPool: one connection, and at most one caller at a time."""

from __future__ import annotations

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

    __slots__ = ("_free", "_record")

    def _clear_books(self) -> None:
        super()._clear_books()
        self._record = self._new_record()
        self._free = True

    async def dispose(self) -> None:
        disposed = self._decide(self._replace)
        if disposed is not None:
            await self._close_slot(disposed)
        self._log.info("Pool disposed. %s", self.status())

    def _replace(self) -> ConnectionRecord[ConnT] | None:
        disposed, self._record = self._record, self._new_record()
        return disposed if self._free else None

    def _claim(self, lease: Lease[ConnT], may_wait: bool) -> None:
        if not self._free:
            holders = [record._line() for record in self._out.values()]
            where = "is being returned"
            if holders:
                where = "was checked out at {}:{}".format(*holders[0])
            raise AssertionError(f"AssertionPool: a connection is out already; it {where}")
        self._free = False
        self._out[lease._ref] = self._record

    def _restore(self, record: ConnectionRecord[ConnT]) -> bool:
        self._free = True
        return record is self._record

    def _records(self) -> Iterable[ConnectionRecord[ConnT]]:
        return {*super()._records(), self._record}
