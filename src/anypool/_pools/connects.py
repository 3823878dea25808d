"""Connects: how a slot gets its connection, and how it loses it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, cast

from typing_extensions import TypeVar

from .._core.errors import DisconnectionError
from .._core.record import ConnectionRecord
from .._core.stats import CloseReason
from .._drivers.registry import driver_for, resets_blindly
from .._runtimes.thread import AwaitableCreator
from .finalizers import terminate_connection
from .job import Job
from .slots import Slots

if TYPE_CHECKING:
    from .._core.lease import Lease

ConnT = TypeVar("ConnT")

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that closing a connection may take where nobody waits for it."""

PING_TIMEOUT: Final = 5.0
"""Seconds that a server has to answer a ping. A blocking driver in a blocking pool can't be
stopped; its own timeouts count there."""


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
        """See to it that the slot has a connection that is fit for use."""
        await self._part_with_unfit(record)
        if record.connection is None:
            await self._open(lease, record)

    async def _part_with_unfit(self, record: ConnectionRecord[ConnT]) -> None:
        """Close the slot's connection if it is too old, or dead."""
        since = record._since
        if self._timed:
            record._since = self._runtime.now()
        if record.connection is None:
            return
        if self._is_stale(record):
            self._log.info("Connection %s exceeded its age; recycling", Label(record))
            await self._close(record, "recycle")
        elif self._is_ping_due(record, max(since, record._pinged_at)):
            await self._keep_if_alive(record)

    async def _keep_if_alive(self, record: ConnectionRecord[ConnT]) -> None:
        """Ping the server; close the connection if that fails."""
        error = await self._ping(record)
        if error is not None:
            self._log.info("Connection %s is dead", Label(record))
            closing = self._invalidate_record(record, error, "ping")
            await self._runtime.within(CLOSE_TIMEOUT, closing)

    def _is_ping_due(self, record: ConnectionRecord[ConnT], since: float) -> bool:
        idle: float = self._runtime.now() - since
        return idle > self._ping_after

    async def _ping(self, record: ConnectionRecord[ConnT]) -> Exception | None:
        """Make a round trip; return what went wrong."""
        driver, connection = record._driver, record.connection
        assert connection is not None
        ping = self._runtime.call(driver.blocking, driver.ping, connection)
        try:
            if not driver.blocking or self._runtime.blocking:
                done: bool = await self._runtime.within(PING_TIMEOUT, ping)
            else:
                done = await self._ping_in_thread(record, ping)
        except Exception as error:
            return error
        except BaseException:
            # The answer may still be on its way.
            if record.connection is not None:
                self._decide(self._note_close, "lost")
                self._abandon(record)
            raise
        record._pinged_at = self._runtime.now()
        return None if done else TimeoutError("a ping was not answered")

    async def _ping_in_thread(
        self, record: ConnectionRecord[ConnT], ping: Coroutine[Any, Any, None]
    ) -> bool:
        # The thread can't be stopped. If nobody can wait for it any more, it keeps the
        # connection, which is closed when the thread is done with it.
        job = Job(self._runtime, ping)
        try:
            done: bool = await self._runtime.within(PING_TIMEOUT, job.run())
            return done
        finally:
            if not job.done:
                remains = self._take_connection(record)
                self._decide(self._note_close, "ping")
                job.afterwards = lambda _: self._spawn(self._close_and_restore(remains))

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
        begin = self._runtime.now()
        try:
            creator = self._creator
            if self._listeners.on_before_connect:
                creator = await self._parametrised(record)
            awaited = await self._runtime.open(record, creator, inline=self._inline)
        except Exception as error:
            if not isinstance(error, AwaitableCreator):
                self._decide(self._note_failed)
                self._log.info("Error on connect: %s", type(error).__name__)
            raise
        if self._driver is None or self._options["driver"] is None:
            self._driver = driver_for(record.connection, awaited=awaited)
        self._inline = self._inline or not self._driver.blocking
        record._driver, record._ending = self._driver, False
        record._resets_blindly = resets_blindly(self._driver, record.connection)
        self._decide(self._note_opened, record, epoch, begin)
        # Some drivers watch a connection from their first look at it.
        self._driver.needs_reset(cast("ConnT", record.connection))
        self._log.info("Created new connection %s", Label(record))
        try:
            if self._untold:
                await self._tell_first_connect(record)
            await self._tell_connect(record)
        except Exception as error:
            # Half initialised: nobody may ever get this one.
            self._log.info("Connect listener failed: %s", type(error).__name__)
            await self._close(record, "listener")
            raise
        except BaseException:
            record._ending = True  # the same; who called this sees to it
            raise

    def _note_failed(self) -> None:
        self._counts.failed += 1

    def _note_opened(
        self, record: ConnectionRecord[ConnT], epoch: int, begin: float
    ) -> None:
        now = self._runtime.now()
        self._serial += 1
        record._serial, record._epoch = self._serial, epoch
        record._since = record._pinged_at = now
        record._expires_at = math.inf
        if self._recycle >= 0:
            jitter = self._jitter or 0.0
            from random import random  # by need: it takes 1 ms to import

            record._expires_at = now + self._recycle - random() * jitter
        self._counts.opened += 1
        self._counts.connect_time += now - begin

    async def _parametrised(self, record: ConnectionRecord[ConnT]) -> Callable[[], Any]:
        """Let listeners change the creator's keyword arguments."""
        creator: Any = self._creator
        args: tuple[Any, ...] = ()
        parameters: dict[str, Any] = {}
        if isinstance(creator, partial):
            creator, args, parameters = creator.func, creator.args, {**creator.keywords}
        for listener in self._listeners.on_before_connect:
            await self._tell(record, listener.before_connect, parameters, record)
        return partial(creator, *args, **parameters)

    async def _tell_first_connect(self, record: ConnectionRecord[ConnT]) -> None:
        mutex = self._decide(self._mutex_for_first)
        if self._runtime.blocking:
            with mutex:
                await self._tell_untold(record)
        else:
            async with mutex:
                await self._tell_untold(record)

    def _mutex_for_first(self) -> Any:
        if self._first_mutex is None:
            self._first_mutex = self._runtime.mutex()
        return self._first_mutex

    async def _tell_untold(self, record: ConnectionRecord[ConnT]) -> None:
        while self._untold:
            listener = self._untold[0]
            await self._tell(record, listener.first_connect, record.connection, record)
            self._untold.popleft()

    async def _tell_connect(self, record: ConnectionRecord[ConnT]) -> None:
        for listener in self._listeners.on_connect:
            await self._tell(record, listener.connect, record.connection, record)

    async def _tell_of_end(
        self, record: ConnectionRecord[ConnT], method: Callable[..., Any], *args: Any
    ) -> None:
        """Tell a listener of what can't be changed any more: its errors are logged."""
        try:
            await self._tell(record, method, *args)
        except Exception as error:
            self._log.exception("A listener's %s() failed", error, method.__name__)

    def _is_stale(self, record: ConnectionRecord[ConnT]) -> bool:
        return record._epoch != self._epoch or (
            record._expires_at < math.inf and self._runtime.now() > record._expires_at
        )

    async def _invalidate_record(
        self,
        record: ConnectionRecord[ConnT],
        error: BaseException | None,
        reason: CloseReason = "invalid",
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
        self,
        record: ConnectionRecord[ConnT],
        error: BaseException | None,
        reason: CloseReason = "invalid",
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
            # A thread can't be stopped. If the caller leaves, the work goes on.
            await Job(self._runtime, work).run()
        else:
            await self._runtime.complete(work)

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
                # A second interrupt: half closed, but the slot must not be lost with it.
                record.connection = None
                if record._on_lost is not None:
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
        except Exception as error:
            self._log.info("Error on close: %s", type(error).__name__)
        finally:
            record.connection = None
            if record._on_lost is not None:
                self._put_back(record)
