"""Closer: how a slot loses its connection, and how it comes back to the ledger or goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any, Final, Generic

from typing_extensions import TypeVar

from .._core import bounds
from .._core.disconnects import Disconnects
from .._core.driver import CannotReset
from .._core.errors import DisconnectionError, single_errors
from .._core.record import ConnectionRecord
from .._core.stats import CloseReason
from .._drivers.dbapi import DBAPIDriver
from .._ledgers.ledger import Ledger
from .announcer import Announcer, Label
from .background import Background
from .finalizers import terminate_connection
from .job import Job
from .once import Once

ConnT = TypeVar("ConnT")

CLOSE_AT_ONCE: Final = 16
"""How many connections are closed at a time."""


class Closer(Generic[ConnT]):
    """Closes, invalidates and terminates connections, and counts them by reason."""

    __slots__ = (
        "_announcer",
        "_background",
        "_decide",
        "_disconnects",
        "_ledger",
        "_log",
        "_lose_all",
        "_runtime",
    )

    def __init__(
        self,
        ledger: Ledger[ConnT],
        background: Background,
        announcer: Announcer[ConnT],
        disconnects: Disconnects[ConnT],
        *,
        lose_all: bool,
    ) -> None:
        """Make one for a pool.

        Args:
            ledger: gets the slots back.
            background: for what no caller waits for.
            announcer: tells of invalidated and of closed connections.
            disconnects: knows which errors mean a lost connection.
            lose_all: whether those end all connections that are not newer.
        """
        self._ledger = ledger
        self._decide = ledger.decide
        self._background = background
        self._runtime = background.runtime
        self._announcer = announcer
        self._log = announcer.log
        self._disconnects = disconnects
        self._lose_all = lose_all

    # A connection.

    async def invalidate(
        self,
        record: ConnectionRecord[ConnT],
        error: BaseException | None,
        reason: CloseReason | None = "invalid",
    ) -> None:
        """Close a connection that is of no use any more. The slot stays."""
        if record.connection is not None:
            cause = "" if error is None else f" (reason: {type(error).__name__})"
            self._log.info("Invalidate connection %s%s", Label(record), cause)
            if error is not None and self._is_disconnect(record, error):
                self._decide(self._ledger.statistics.note_disconnect)
                if self._lose_all:
                    self._outdate(record)
            connection = record.connection
            for listener in self._announcer.listeners.on_invalidate:
                method = listener.invalidate
                await self._announcer.tell_of_end(record, method, connection, record, error)
            await self.close(record, reason)

    async def invalidate_alone(
        self,
        record: ConnectionRecord[ConnT],
        error: BaseException | None,
        reason: CloseReason | None = "invalid",
    ) -> None:
        """The same, where others may be doing something to the slot at this moment."""
        await self.invalidate(record, error, reason)

    def _is_disconnect(self, record: ConnectionRecord[ConnT], error: BaseException) -> bool:
        return not isinstance(error, CannotReset) and any(
            isinstance(each, DisconnectionError) or self._disconnects.include(each, record)
            for each in single_errors(error)
        )

    def _outdate(self, record: ConnectionRecord[ConnT]) -> None:
        """Begin a new generation, unless this connection is of an older one itself."""
        if self._decide(self._ledger.begin_generation, record._generation):
            self._log.info("Connections as old as %s are given up", Label(record))
            self.tidy()

    async def close(
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
                self.count(reason)
                for listener in self._announcer.listeners.on_close:
                    await self._announcer.tell_of_end(
                        record, listener.close, record.connection, record
                    )
            # One line, so that an interrupt finds the connection either open or gone.
            record.connection = await self.just_close(record)
        except BaseException:
            # Perhaps half closed: whatever comes, nobody may get this connection.
            if record.connection is not None:
                self.abandon(record)
            raise

    async def just_close(self, record: ConnectionRecord[ConnT]) -> ConnT | None:
        """Have the driver close the slot's connection; return what is left of it."""
        driver, connection = record._driver, record.connection
        if connection is None:  # the whole pool was closed meanwhile
            return None
        self._log.info("Closing connection %s", Label(record))
        closing = Once(driver.close, connection)
        record._ending = True
        try:
            await self._runtime.call(driver.blocking, closing.call)
        except Exception as error:
            self._log.info("Error on close: %s", type(error).__name__)
        except BaseException:
            if driver.blocking and not self._runtime.blocking and not closing.claim():
                # A thread is at it, which can't be stopped: it will be closed.
                record.connection = None
            raise
        return None

    def count(self, reason: CloseReason) -> None:
        """Count a connection as closed."""
        self._decide(self._ledger.statistics.note_close, reason)

    def abandon(self, record: ConnectionRecord[ConnT]) -> None:
        """Close a connection whose orderly close was cut short."""
        remains = self.move_out(record)
        assert remains.connection is not None
        if not remains._driver.is_open(remains.connection):
            remains.connection = None  # or else its finalizer would close it once more
        elif not self.terminate(remains):
            self._background.spawn(self.close_remains(remains))

    def move_out(self, record: ConnectionRecord[ConnT]) -> ConnectionRecord[ConnT]:
        """Move a slot's connection to a record that nobody else knows of."""
        taken: ConnectionRecord[ConnT] = ConnectionRecord(record._generation, None)
        if record.connection is not None:
            taken._driver, taken._serial = record._driver, record._serial
        taken.info = record.info
        # On one line: an interrupt finds the connection in one place or the other.
        with self._ledger.guard:
            taken.connection, record.connection = record.connection, None
        return taken

    def terminate(self, record: ConnectionRecord[ConnT]) -> bool:
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
                remains = self.move_out(record)
                if remains.connection is not None and not remains._driver.is_open(
                    remains.connection
                ):
                    remains.connection = None
                if record._on_lost is not None:
                    self.count("lost")
                    self.put_back(record)
                raise
            record.connection = None
            if record._on_lost is not None:
                self.count("lost")
        return True

    async def close_remains(self, record: ConnectionRecord[ConnT]) -> None:
        """Close what could not be terminated, beside the callers; its slot comes back."""
        try:
            if record._on_lost is not None:
                self.count("lost")
            await self._runtime.within(bounds.CLOSE_TIMEOUT, self.just_close(record))
        finally:
            record.connection = None
            if record._on_lost is not None:
                self.put_back(record)

    async def complete(
        self, record: ConnectionRecord[ConnT], work: Coroutine[Any, Any, None]
    ) -> None:
        """Run work on a slot to its end, whatever happens to the caller meanwhile."""
        if self._runtime.blocking:
            await work
        elif record.connection is not None and record._driver.blocking:
            # A thread can't be stopped. If the caller leaves, the work goes on; and if it
            # takes too long, the connection is cut off under it.
            job = Job(self._background, work)
            await self._runtime.within(bounds.RETURN_TIMEOUT, job.run())
            if not job.done:
                self._background.spawn(self.cut_off(record))
        else:
            await self._runtime.complete(work)

    async def cut_off(self, record: ConnectionRecord[ConnT]) -> None:
        """Wake the thread that is at work on a slot's connection, if the driver can."""
        driver, connection = record._driver, record.connection
        # Drivers that hang up on the server do so from any thread. Of a generic one it is
        # not known whether it survives that.
        if connection is not None and type(driver).terminate is not DBAPIDriver.terminate:
            await self._runtime.call(driver.blocking, driver.terminate, connection)

    # A slot.

    async def close_slot(
        self, record: ConnectionRecord[ConnT], reason: CloseReason
    ) -> None:
        """Close an idle slot's connection for good."""
        try:
            if record.connection is not None:
                await self.complete(record, self.close(record, reason))
        finally:
            self._decide(self._ledger.forget, record)

    async def close_slots(
        self, records: Iterable[ConnectionRecord[ConnT]], reason: CloseReason = "dispose"
    ) -> None:
        """Close several; if the caller leaves, the rest goes on beside it."""
        left = deque(records)
        try:
            while left:
                await self.close_slot(left.popleft(), reason)
        except BaseException:
            for record in left:
                self._background.spawn(self.close_slot(record, reason))
            raise

    async def close_at_once(self, records: Iterable[ConnectionRecord[ConnT]]) -> None:
        """Begin to close several at a time."""
        left = deque(records)
        for record in left:
            record._ending = True
        if len(left) == 1:
            await self.close_slots(left)
            return
        for _ in range(min(len(left), CLOSE_AT_ONCE)):
            self._background.start(self._close_rest(left), vital=True)

    async def _close_rest(self, left: deque[ConnectionRecord[ConnT]]) -> None:
        with suppress(IndexError):
            while True:
                await self.close_slot(left.popleft(), "dispose")

    def put_back(self, record: ConnectionRecord[ConnT]) -> None:
        """Return a slot that has no connection, or a clean one."""
        if self._decide(self._ledger.take_back, record):
            return
        if record.connection is None:
            self._decide(self._ledger.forget, record)
        else:
            self._background.spawn(self.close_slot(record, self.surplus_reason(record)))

    def surplus_reason(self, record: ConnectionRecord[ConnT]) -> CloseReason:
        """Return why a slot is closed that isn't wanted back."""
        current = record._generation == self._ledger.generation
        return "overflow" if current else "dispose"

    def drop(self, record: ConnectionRecord[ConnT]) -> None:
        """Close a slot's connection in whatever state it is, and free the slot."""
        if self._ledger.is_home(record):  # interrupted after it was taken back
            self.tidy()
        elif not self.terminate(record):
            self._background.spawn(self.close_remains(record))
        elif record._on_lost is not None:
            self.put_back(record)

    def tidy(self) -> None:
        """Make up for what happened between a look at the books and an entry in them."""
        for record in self._decide(self._ledger.surplus):
            if self.terminate(record):
                self._decide(self._ledger.forget, record)
            else:
                self._background.spawn(self.close_slot(record, self.surplus_reason(record)))
