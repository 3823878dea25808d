"""Closes: how a slot loses its connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Final

from typing_extensions import TypeVar

from .._core.errors import DisconnectionError, single_errors
from .._core.record import ConnectionRecord
from .._core.stats import CloseReason
from .._drivers.dbapi import DBAPIDriver
from .._runtimes import loop
from .finalizers import terminate_connection
from .job import Job
from .slots import Slots

ConnT = TypeVar("ConnT")

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that closing a connection may take where nobody waits for it."""


class Label:
    """Names a record's connection in a log line, if that is written at all."""

    def __init__(self, record: ConnectionRecord[Any]) -> None:
        self._record = record

    def __str__(self) -> str:
        return self._record._label()


class Closing:
    """The close of a connection, which is begun only once."""

    def __init__(self, driver: Any, connection: Any) -> None:
        self._unclaimed = [None]
        self._close = partial(driver.close, connection)

    def claim(self) -> bool:
        """Whether nobody has begun; from now on somebody has."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return False
        return True

    def close(self) -> Any:
        return self._close() if self.claim() else None


class Closes(Slots[ConnT]):
    """Closes, invalidates and terminates the connections of slots."""

    __slots__ = ()

    async def _invalidate_record(
        self,
        record: ConnectionRecord[ConnT],
        error: BaseException | None,
        reason: CloseReason | None = "invalid",
    ) -> None:
        """Close a connection that is of no use any more. The slot stays."""
        if record.connection is not None:
            cause = "" if error is None else f" (reason: {type(error).__name__})"
            self._log.info("Invalidate connection %s%s", Label(record), cause)
            if self._lose_all and error is not None and self._is_disconnect(record, error):
                self._outdate(record)
            connection = record.connection
            for listener in self._listeners.on_invalidate:
                method = listener.invalidate
                await self._tell_of_end(record, method, connection, record, error)
            await self._close(record, reason)

    def _is_disconnect(self, record: ConnectionRecord[ConnT], error: BaseException) -> bool:
        return any(
            isinstance(each, DisconnectionError) or self._disconnects.include(each, record)
            for each in single_errors(error)
        )

    def _outdate(self, record: ConnectionRecord[ConnT]) -> None:
        """Begin a new generation, unless this connection is of an older one itself."""
        if self._decide(self._begin_generation, record._epoch):
            self._log.info("Connections as old as %s are given up", Label(record))
            self._tidy()

    def _begin_generation(self, after: int) -> bool:
        begun = self._epoch == after
        self._epoch += begun
        return begun

    async def _invalidate_alone(
        self,
        record: ConnectionRecord[ConnT],
        error: BaseException | None,
        reason: CloseReason | None = "invalid",
    ) -> None:
        """The same, where others may be doing something to the slot at this moment."""
        await self._invalidate_record(record, error, reason)

    async def _close(
        self, record: ConnectionRecord[ConnT], reason: CloseReason | None
    ) -> None:
        """Close the slot's connection in the orderly way. An error is only logged.

        Args:
            record: the slot.
            reason: for the statistics; None: it isn't the pool's any more.
        """
        if record.connection is None:
            return
        try:
            if reason is not None:
                self._decide(self._note_close, reason)
                for listener in self._listeners.on_close:
                    connection = record.connection
                    await self._tell_of_end(record, listener.close, connection, record)
            # One line, so that an interrupt finds the connection either open or gone.
            record.connection = await self._close_connection(record)
        except BaseException:
            # Perhaps half closed: whatever comes, nobody may get this connection.
            if record.connection is not None:
                self._abandon(record)
            raise

    def _abandon(self, record: ConnectionRecord[ConnT]) -> None:
        """Close a connection whose orderly close was cut short."""
        remains = self._take_connection(record)
        assert remains.connection is not None
        if not remains._driver.is_open(remains.connection):
            remains.connection = None  # or else its finalizer would close it once more
        elif not self._terminated(remains):
            self._spawn(self._close_and_restore(remains))

    def _take_connection(self, record: ConnectionRecord[ConnT]) -> ConnectionRecord[ConnT]:
        """Move a slot's connection to a record that nobody else knows of."""
        taken: ConnectionRecord[ConnT] = ConnectionRecord(record._epoch, None)
        taken._driver, taken._serial = record._driver, record._serial
        taken.info = record.info
        # On one line: an interrupt finds the connection in one place or the other.
        taken.connection, record.connection = record.connection, None
        return taken

    async def _close_connection(self, record: ConnectionRecord[ConnT]) -> ConnT | None:
        driver, connection = record._driver, record.connection
        if connection is None:  # the whole pool was closed meanwhile
            return None
        self._log.info("Closing connection %s", Label(record))
        closing = Closing(driver, connection)
        record._ending = True
        try:
            await self._runtime.call(driver.blocking, closing.close)
        except Exception as error:
            self._log.info("Error on close: %s", type(error).__name__)
        except BaseException:
            if driver.blocking and not self._runtime.blocking and not closing.claim():
                # A thread is at it, which can't be stopped: it will be closed.
                record.connection = None
            raise
        return None

    async def _tell(
        self, record: ConnectionRecord[ConnT], method: Callable[..., Any], *args: Any
    ) -> None:
        in_thread = record._driver.blocking and not iscoroutinefunction(method)
        await self._runtime.call(in_thread, method, *args)

    async def _complete(
        self, record: ConnectionRecord[ConnT], work: Coroutine[Any, Any, None]
    ) -> None:
        """Run work on a slot to its end, whatever happens to the caller meanwhile."""
        if self._runtime.blocking:
            await work
        elif record.connection is not None and record._driver.blocking:
            # A thread can't be stopped. If the caller leaves, the work goes on; and if it
            # takes too long, the connection is cut off under it.
            job = Job(self._runtime, work)
            await self._runtime.within(loop.RETURN_TIMEOUT, job.run())
            if not job.done:
                self._spawn(self._cut_off(record))
        else:
            await self._runtime.complete(work)

    async def _cut_off(self, record: ConnectionRecord[ConnT]) -> None:
        """Wake the thread that is at work on a slot's connection, if the driver can."""
        driver, connection = record._driver, record.connection
        # Drivers that hang up on the server do so from any thread. Of a generic one it is
        # not known whether it survives that.
        if connection is not None and type(driver).terminate is not DBAPIDriver.terminate:
            await self._runtime.call(driver.blocking, driver.terminate, connection)

    async def _close_slot(
        self, record: ConnectionRecord[ConnT], reason: CloseReason
    ) -> None:
        """Close an idle slot's connection for good."""
        try:
            if record.connection is not None:
                await self._complete(record, self._close(record, reason))
        finally:
            self._decide(self._forget, record)

    async def _close_slots(
        self, records: Iterable[ConnectionRecord[ConnT]], reason: CloseReason = "dispose"
    ) -> None:
        """Close several; if the caller leaves, the rest goes on beside it."""
        left = deque(records)
        try:
            while left:
                await self._close_slot(left.popleft(), reason)
        except BaseException:
            for record in left:
                self._spawn(self._close_slot(record, reason))
            raise

    def _put_back(self, record: ConnectionRecord[ConnT]) -> None:
        """Return a slot that has no connection, or a clean one."""
        if self._decide(self._restore, record):
            return
        if record.connection is None:
            self._decide(self._forget, record)
        else:
            self._spawn(self._close_slot(record, self._surplus_reason(record)))

    def _surplus_reason(self, record: ConnectionRecord[ConnT]) -> CloseReason:
        return "overflow" if record._epoch == self._epoch else "dispose"

    def _drop(self, record: ConnectionRecord[ConnT]) -> None:
        """Close a slot's connection in whatever state it is, and free the slot."""
        if self._is_idle(record):  # interrupted after it was restored
            self._tidy()
        elif not self._terminated(record):
            self._spawn(self._close_and_restore(record))
        elif record._on_lost is not None:
            self._put_back(record)

    def _terminated(self, record: ConnectionRecord[ConnT]) -> bool:
        """Close the slot's connection without waiting, if that is possible."""
        if record.connection is not None:
            if record._driver.blocking and not self._runtime.blocking:
                return False
            try:
                if not terminate_connection(record):
                    return False
            except BaseException:
                # An interrupt: perhaps half closed. The slot must not be lost with it, and
                # what may still be open is closed by the finalizer of `remains`.
                remains = self._take_connection(record)
                if remains.connection is not None and not remains._driver.is_open(
                    remains.connection
                ):
                    remains.connection = None
                if record._on_lost is not None:
                    self._decide(self._note_close, "lost")
                    self._put_back(record)
                raise
            record.connection = None
            if record._on_lost is not None:
                self._decide(self._note_close, "lost")
        return True

    async def _close_and_restore(self, record: ConnectionRecord[ConnT]) -> None:
        try:
            if record._on_lost is not None:
                self._decide(self._note_close, "lost")
            await self._runtime.within(CLOSE_TIMEOUT, self._close_connection(record))
        finally:
            record.connection = None
            if record._on_lost is not None:
                self._put_back(record)

    async def _tell_of_end(
        self, record: ConnectionRecord[ConnT], method: Callable[..., Any], *args: Any
    ) -> None:
        """Tell a listener of what can't be changed any more: its errors are logged."""
        try:
            await self._tell(record, method, *args)
        except Exception as error:
            self._log.exception("A listener's %s() failed", error, method.__name__)
