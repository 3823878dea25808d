"""AssertionPool: one connection, and at most one caller at a time."""

from __future__ import annotations

from collections.abc import Iterable

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .shared import SharedSlots

ConnT = TypeVar("ConnT")


class AssertionPool(SharedSlots[ConnT]):
    """Allows one checked out connection at a time, and says who broke that.

    For finding code that uses more connections than it should. A second checkout raises an
    AssertionError that names the file and line of the first.
    """

    __slots__ = ("_record", "_taken")

    def _clear_books(self) -> None:
        super()._clear_books()
        self._record = self._new_record()
        self._taken: ConnectionRecord[ConnT] | None = None

    async def dispose(self) -> None:
        disposed = self._decide(self._replace)
        if disposed is not None:
            await self._close_slot(disposed)
        self._log.info("Pool disposed. %s", self.status())

    def _replace(self) -> ConnectionRecord[ConnT] | None:
        disposed, self._record = self._record, self._new_record()
        return None if disposed._users else disposed

    def _claim(self, lease: Lease[ConnT], may_wait: bool) -> None:
        if self._taken is not None:
            # Checked by hand: an assert statement would be gone under python -O.
            where = "{}:{}".format(*self._taken._line())
            raise AssertionError(
                f"AssertionPool: a connection is out already; it was checked out at {where}"
            )
        self._taken = self._record
        self._share(lease, self._record)

    def _restore(self, record: ConnectionRecord[ConnT]) -> bool:
        kept = super()._restore(record)
        if kept:
            self._taken = None
        return kept

    def _forget(self, record: ConnectionRecord[ConnT]) -> None:
        super()._forget(record)
        if record is self._taken:
            self._taken = None

    def _is_kept(self, record: ConnectionRecord[ConnT]) -> bool:
        return record is self._record

    def _records(self) -> Iterable[ConnectionRecord[ConnT]]:
        return {*super()._records(), self._record}
