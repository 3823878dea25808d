"""Turns: the checkouts of a QueuePool, where callers may have to wait, or to wait again."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .._ledgers.queue import QueueLedger
from .checkouts import Checkouts
from .keeper import Keeper

ConnT = TypeVar("ConnT")


class Turns(Checkouts[ConnT]):
    """Parts with connections that are dead, and takes the next that comes free."""

    __slots__ = ("_keeper",)

    is_choosy = True

    _ledger: QueueLedger[ConnT]

    def __init__(self, *args: Any, keeper: Keeper[ConnT]) -> None:
        super().__init__(*args)
        self._keeper = keeper

    def is_ready(self, record: ConnectionRecord[ConnT]) -> bool:
        return (
            self._ledger.plain_checkout or self._tells_here(record)
        ) and self._inspector.is_ready(record)

    def _tells_here(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether listeners are called without a worker thread."""
        return (
            self.tells
            and record.connection is not None
            and not (record._driver.blocking and not self._runtime.blocking)
        )

    def resume_care(self) -> None:
        self._keeper.resume()

    async def _is_usable(
        self, record: ConnectionRecord[ConnT], timeout: float | None, deadline: float | None
    ) -> bool:
        inspector = self._inspector
        if (
            record.connection is None  # the caller connects by itself
            or not self._is_looked_at(record)
            or inspector.is_ready(record)
            or inspector.is_fresh(record)
        ):
            return True
        # Who has to part with a dead connection waits for the next that comes free, which
        # can be one that a server that comes back lets the pool open.
        left = None if deadline is None else deadline - self._runtime.now()
        in_time = await self._runtime.within(left, inspector.close_unfit(record))
        left_to_thread = inspector.is_left(record)
        if record.connection is not None and (
            not in_time or (left_to_thread and timeout == 0)
        ):
            self.waiting.fail_late("connecting", timeout, deadline)
        if not self._ledger.opened or timeout == 0:
            return not left_to_thread
        return record.connection is not None and not left_to_thread

    def _is_looked_at(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether a caller may have to take another slot than this one.

        In an opened pool, or where its ping may get stuck in a thread, and keep it.
        """
        return self._ledger.opened or (
            record._driver.blocking and not self._runtime.blocking
        )

    async def _connect(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        # Else _is_usable() has looked at what there is.
        if record.connection is None or not self._is_looked_at(record):
            await super()._connect(lease, record)
