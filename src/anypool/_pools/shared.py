"""SharedSlots: what pools have in common whose slots are not one caller's at a time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from threading import get_ident
from typing import Any

from typing_extensions import TypeVar

from .._core.errors import InvalidRequestError
from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .._core.stats import CloseReason
from .._drivers.protocol import BUSY
from .base import Pool

ConnT = TypeVar("ConnT")


class SharedSlots(Pool[ConnT]):
    """Counts the users of each slot: its leases, and its returns that are under way.

    Only a slot without users may be closed by anybody else. Several callers may want to
    open or close its connection; one does at a time.
    """

    __slots__ = ()

    def _share(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        # On one line, so that an interrupt finds both or neither.
        self._out[lease._ref], record._users = record, record._users + 1

    def _restore(self, record: ConnectionRecord[ConnT]) -> bool:
        record._users -= 1
        return record._users > 0 or (self._is_kept(record) and not self._closed)

    def _note_use(self, record: ConnectionRecord[ConnT]) -> None:
        if record._users == 1:
            super()._note_use(record)

    def _is_kept(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether the pool keeps this slot when nobody uses it."""
        raise NotImplementedError

    def _is_stale(self, record: ConnectionRecord[ConnT]) -> bool:
        return record._users == 1 and super()._is_stale(record)

    def _is_ping_due(self, record: ConnectionRecord[ConnT], since: float) -> bool:
        return record._users == 1 and super()._is_ping_due(record, since)

    async def _ready(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        ready = self._alone(record, super()._ready, lease, record)
        if self._runtime.blocking or self._inline:
            await ready
        else:
            # A creator or ping in a thread goes on when this caller leaves; the next one
            # then waits for its connection.
            await self._work_on(lease, ready)

    async def _close(
        self, record: ConnectionRecord[ConnT], reason: CloseReason | None
    ) -> None:
        # Several may want to close it; the first to take it does.
        taken = self._take_connection(record)
        if taken.connection is not None:
            await super()._close(taken, reason)

    async def _open(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        await self._connect(record)

    async def _checkin(
        self, record: ConnectionRecord[ConnT], hurried: bool = False, quiet: bool = False
    ) -> None:
        if self._is_deciding():
            self._dropped.append(record)  # what this one interrupts sees to it
            return
        begun = False
        checkin = super()._checkin

        async def work() -> None:
            nonlocal begun
            begun = True
            # While others have the connection, nothing of theirs may be interrupted.
            await checkin(record, hurried and record._users == 1, quiet)

        try:
            await self._alone(record, work)
        except BaseException:
            if not begun and record._on_lost is not None:  # cancelled while it waited
                self._drop(record)
            raise

    async def _reset(self, record: ConnectionRecord[ConnT], hurried: bool) -> None:
        if not self._is_in_use(record):
            await super()._reset(record, hurried)

    async def _part_with_unusable(self, record: ConnectionRecord[ConnT]) -> None:
        if not self._is_in_use(record):
            await super()._part_with_unusable(record)

    def _is_in_use(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether one of several callers is perhaps in the middle of something."""
        connection = record.connection
        return (
            record._users > 1
            and connection is not None
            and record._driver.state(connection, record._baseline) is BUSY
        )

    async def _invalidate_alone(
        self,
        record: ConnectionRecord[ConnT],
        error: BaseException | None,
        reason: CloseReason | None = "invalid",
    ) -> None:
        connection = record.connection
        await self._alone(record, self._invalidate_if, connection, record, error, reason)

    async def _invalidate_if(
        self,
        connection: ConnT | None,
        record: ConnectionRecord[ConnT],
        error: BaseException | None,
        reason: CloseReason | None,
    ) -> None:
        if record.connection is connection:  # nobody else has replaced it meanwhile
            await self._invalidate_record(record, error, reason)

    def _drop(self, record: ConnectionRecord[ConnT]) -> None:
        try:
            if record._users == 1 and record.connection is not None:
                self._decide(self._note_close, "lost")
                self._abandon(record)
        finally:
            self._put_back(record)

    async def _alone(
        self,
        record: ConnectionRecord[ConnT],
        work: Callable[..., Coroutine[Any, Any, None]],
        *args: Any,
    ) -> None:
        """Do work on a slot's connection while nobody else does."""
        mutex = self._decide(self._mutex, record)
        if self._runtime.blocking:
            if record._worker == get_ident() and mutex.locked():
                raise InvalidRequestError(
                    f"{type(self).__name__}: a listener asked for the connection that it "
                    "was called for, which it has as an argument"
                )
            # On one line, as in _decide().
            with mutex: await self._noted(record, work, args)  # fmt: skip # noqa: E701
            if self._dropped:
                self._collect_dropped()
        else:
            async with mutex:
                await work(*args)

    async def _noted(
        self,
        record: ConnectionRecord[ConnT],
        work: Callable[..., Coroutine[Any, Any, None]],
        args: tuple[Any, ...],
    ) -> None:
        """Note which thread is at work, so that it doesn't come to wait for itself."""
        record._worker = get_ident()
        try:
            await work(*args)
        finally:
            record._worker = 0

    def _is_busy(self, record: ConnectionRecord[ConnT]) -> bool:
        return self._blocking and record._mutex is not None and record._mutex.locked()

    def _mutex(self, record: ConnectionRecord[ConnT]) -> Any:
        if record._mutex is None:
            record._mutex = self._runtime.mutex()
        return record._mutex
