"""Connects: how a slot gets its connection, and how it loses it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import TypeVar

from .._core.errors import DisconnectionError
from .._core.record import ConnectionRecord
from .._drivers.registry import driver_for
from .._runtimes.thread import AwaitableCreator
from .finalizers import terminate_connection
from .job import Job
from .slots import Slots

if TYPE_CHECKING:
    from .._core.lease import Lease

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


class Connects(Slots[ConnT]):
    """Opens, recycles and closes the connections of slots."""

    __slots__ = ()

    async def _ready(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        """See to it that the slot has a connection, and that it is not too old."""
        if record.connection is not None and self._is_stale(record):
            self._log.info("Connection %s exceeded its age; recycling", Label(record))
            await self._close(record)
        if record.connection is None:
            await self._open(lease, record)

    async def _open(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        if self._runtime.blocking or self._inline:
            await self._connect(record)
            return
        # A blocking creator runs in a worker thread, where nothing can stop it. If its
        # caller leaves before it is done, the slot stays taken, in the job's own name,
        # until the connection has arrived and can serve somebody else.
        job = Job(self._runtime, self._connect(record))
        try:
            await job.run()
        except BaseException:
            if not job.done:
                self._out[job] = self._out.pop(lease._ref)
                job.afterwards = self._adopt
            raise

    def _adopt(self, job: Job) -> None:
        """A connect that nobody waits for any more has ended."""
        record = self._out.pop(job, None)
        if record is not None:
            self._put_back(record)

    async def _connect(self, record: ConnectionRecord[ConnT]) -> None:
        """Open the slot's connection and tell the connect listeners."""
        record.info.clear()
        epoch = self._epoch  # what makes older connections stale meanwhile counts for this
        try:
            awaited = await self._runtime.open(record, self._creator, inline=self._inline)
        except Exception as error:
            if not isinstance(error, AwaitableCreator):
                self._log.info("Error on connect: %s", type(error).__name__)
            raise
        if self._driver is None or self._options["driver"] is None:
            self._driver = driver_for(record.connection, awaited=awaited)
        self._inline = self._inline or not self._driver.blocking
        self._serial += 1
        record._driver, record._serial = self._driver, self._serial
        record._epoch, record._opened_at = epoch, self._runtime.now()
        self._log.info("Created new connection %s", Label(record))
        try:
            await self._tell_connect(record)
        except Exception as error:
            # Half initialised: nobody may ever get this one.
            self._log.info("Connect listener failed: %s", type(error).__name__)
            await self._close(record)
            raise

    async def _tell_connect(self, record: ConnectionRecord[ConnT]) -> None:
        for listener in self._listeners.on_connect:
            await self._tell(record, listener.connect, record.connection, record)

    def _is_stale(self, record: ConnectionRecord[ConnT]) -> bool:
        return record._epoch != self._epoch or (
            self._recycle >= 0 and self._runtime.now() - record._opened_at > self._recycle
        )

    async def _invalidate_record(
        self, record: ConnectionRecord[ConnT], error: BaseException | None
    ) -> None:
        """Close a connection that is of no use any more. The slot stays."""
        if record.connection is not None:
            reason = "" if error is None else f" (reason: {type(error).__name__})"
            self._log.info("Invalidate connection %s%s", Label(record), reason)
            if self._lose_all and error is not None and self._is_disconnect(record, error):
                self._outdate(record)
            await self._close(record)

    def _is_disconnect(self, record: ConnectionRecord[ConnT], error: BaseException) -> bool:
        assert record.connection is not None
        return isinstance(error, DisconnectionError) or record._driver.is_disconnect(
            error, record.connection
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
        self, record: ConnectionRecord[ConnT], error: BaseException | None
    ) -> None:
        """The same, where others may be doing something to the slot at this moment."""
        await self._invalidate_record(record, error)

    async def _close(self, record: ConnectionRecord[ConnT]) -> None:
        """Close the slot's connection in the orderly way. An error is only logged."""
        try:
            # One line, so that an interrupt finds the connection either open or gone.
            record.connection = await self._closed(record)
        except BaseException:
            # Perhaps half closed: whatever comes, nobody may get this connection.
            if record.connection is not None:
                self._abandon(record)
            raise

    def _abandon(self, record: ConnectionRecord[ConnT]) -> None:
        """Close a connection whose orderly close was cut short."""
        remains = self._take_connection(record)
        assert remains.connection is not None
        if remains._driver.is_open(remains.connection) and not self._terminated(remains):
            self._spawn(self._close_and_restore(remains))

    def _take_connection(self, record: ConnectionRecord[ConnT]) -> ConnectionRecord[ConnT]:
        """Move a slot's connection to a record that nobody else knows of."""
        taken: ConnectionRecord[ConnT] = ConnectionRecord(record._epoch, None)
        taken._driver, taken._serial = record._driver, record._serial
        # On one line: an interrupt finds the connection in one place or the other.
        taken.connection, record.connection = record.connection, None
        return taken

    async def _closed(self, record: ConnectionRecord[ConnT]) -> ConnT | None:
        driver, connection = record._driver, record.connection
        assert connection is not None
        self._log.info("Closing connection %s", Label(record))
        closing = Closing(driver, connection)
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
            # A thread can't be stopped. If the caller leaves, the work goes on.
            await Job(self._runtime, work).run()
        else:
            await self._runtime.complete(work)

    async def _close_slot(self, record: ConnectionRecord[ConnT]) -> None:
        """Close an idle slot's connection for good."""
        try:
            if record.connection is not None:
                await self._complete(record, self._close(record))
        finally:
            self._decide(self._forget, record)

    async def _close_slots(self, records: Iterable[ConnectionRecord[ConnT]]) -> None:
        """Close several; if the caller leaves, the rest goes on beside it."""
        left = deque(records)
        try:
            while left:
                await self._close_slot(left.popleft())
        except BaseException:
            for record in left:
                self._spawn(self._close_slot(record))
            raise

    def _put_back(self, record: ConnectionRecord[ConnT]) -> None:
        """Return a slot that has no connection, or a clean one."""
        if self._decide(self._restore, record):
            return
        if record.connection is None:
            self._decide(self._forget, record)
        else:
            self._spawn(self._close_slot(record))

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
            if not terminate_connection(record):
                return False
            record.connection = None
        return True

    async def _close_and_restore(self, record: ConnectionRecord[ConnT]) -> None:
        try:
            await self._runtime.within(CLOSE_TIMEOUT, self._closed(record))
        except Exception as error:
            self._log.info("Error on close: %s", type(error).__name__)
        finally:
            record.connection = None
            if record._on_lost is not None:
                self._put_back(record)
