"""StaticPool: one connection for all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .base import Pool

ConnT = TypeVar("ConnT")


class StaticPool(Pool[ConnT]):
    """Gives all callers one and the same connection, opened at the first checkout.

    Several callers may have it at a time, so the driver must allow that. It is reset
    whenever one of them returns it.
    """

    __slots__ = ("_mutex", "_record")

    def _clear_books(self) -> None:
        super()._clear_books()
        self._record = self._new_record()
        self._mutex: Any = None

    async def dispose(self) -> None:
        disposed = self._decide(self._replace)
        if not self._is_out(disposed):
            await self._close_slot(disposed)
        self._log.info("Pool disposed. %s", self.status())

    def _replace(self) -> ConnectionRecord[ConnT]:
        disposed, self._record = self._record, self._new_record()
        return disposed

    def _claim(self, lease: Lease[ConnT], may_wait: bool) -> None:
        self._out[lease._ref] = self._record

    def _restore(self, record: ConnectionRecord[ConnT]) -> bool:
        return record is self._record or self._is_out(record)

    def _records(self) -> Iterable[ConnectionRecord[ConnT]]:
        return {*super()._records(), self._record}

    async def _ready(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        # One caller connects, the others wait for that.
        mutex = self._decide(self._get_mutex)
        await self._runtime.wait(mutex, None)
        try:
            await super()._ready(lease, record)
        finally:
            mutex.release()

    def _get_mutex(self) -> Any:
        if self._mutex is None:
            self._mutex = self._runtime.gate()
            self._mutex.release()
        return self._mutex

    def _is_stale(self, record: ConnectionRecord[ConnT]) -> bool:
        others = sum(record is other for other in self._out.values()) > 1
        return not others and super()._is_stale(record)
