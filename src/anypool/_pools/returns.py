"""Returns: what happens to a slot when its lease is over, in one way or another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from typing_extensions import TypeVar

from .._core.record import ConnectionRecord
from .._core.stats import CloseReason
from .._core.waiter import Caller
from .._drivers.protocol import (
    BUSY,
    CHANGED,
    CLEAN,
    CLOSED,
    OPEN,
    CannotReset,
    ConnectionState,
)
from .closes import Label
from .finalizers import terminate
from .fitness import Fitness
from .resetwatch import OVERDUE

if TYPE_CHECKING:
    from .._core.lease import Lease

ConnT = TypeVar("ConnT")


class Returns(Fitness[ConnT]):
    """Takes slots back: closed, invalidated, detached or dropped."""

    __slots__ = ()

    def _checkin_nowait(
        self, lease: Lease[ConnT], caller: Caller | None, hurried: bool = False
    ) -> ConnectionRecord[ConnT] | None:
        """Take the lease's slot back. If work is left to do on it, return its record.

        Args:
            lease: is over.
            caller: who returns it, be it the one that checked out or not.
            hurried: whether that caller was cancelled.
        """
        return self._end(lease, caller is lease._caller)

    def _end(self, lease: Lease[ConnT], own: bool = True) -> ConnectionRecord[ConnT] | None:
        """End a lease; return its record, which is the ender's to deal with."""
        key = lease._ref
        record = self._out.pop(key, None)
        if record is not None:
            self._note_use(record)
        elif key is not None:
            record = self._detached.pop(key, None)
        # Another thread's entry may change at any time; it is left, and does no harm.
        if own and key is not None and self._callers.get(lease._caller) is key:
            del self._callers[lease._caller]
        elif not own:
            self._forget_dead_callers()
        lease._clear()
        return record

    async def _checkin(
        self,
        record: ConnectionRecord[ConnT],
        hurried: bool = False,
        quiet: bool = False,
    ) -> None:
        """Return a slot whose lease is over: listeners, reset, back to the pool.

        Args:
            record: is nobody's now but this coroutine's.
            hurried: the caller was cancelled; what the connection does now is not known.
            quiet: don't tell the checkin listeners.
        """
        if self._is_deciding():
            self._dropped.append(record)  # what this one interrupts sees to it
            return
        failure: Exception | None = None
        restored = False
        try:
            if record._on_lost is None:
                # It was detached, or its caller, who alone could use it, has died.
                known = ref(record) in self._known
                await self._close(record, "idle" if known else None)
                if known:
                    self._decide(self._forget, record)
                return
            if not quiet:
                failure = await self._tell_checkin(record)
            if self._reset_mode is not None:
                await self._reset(record, hurried)
            elif record.connection is not None:
                await self._part_with_unusable(record)
            if self._listeners.on_reset and record.connection is not None:
                failure = await self._tell_reset(record) or failure
            if self._chatty:
                self._log.debug("Connection %s returned", Label(record))
            restored = self._decide(self._restore, record)
            if not restored:
                if record.connection is not None:
                    await self._close(record, self._surplus_reason(record))
                self._decide(self._forget, record)
                restored = True
        except BaseException:
            if not restored:  # pragma: no branch  # test_interrupts.py, by a tracer
                self._drop(record)
            raise
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # or else it and its traceback would hold each other

    async def _tell_checkin(self, record: ConnectionRecord[ConnT]) -> Exception | None:
        for listener in self._listeners.on_checkin:
            try:
                await self._tell(record, listener.checkin, record.connection, record)
            except Exception as error:
                # What it did to the connection is not known.
                await self._invalidate_record(record, error, "listener")
                return error
        return None

    async def _reset(self, record: ConnectionRecord[ConnT], hurried: bool) -> None:
        driver, connection = record._driver, record.connection
        if connection is None:
            # Another thread that shared it has detached it at this moment.
            return  # pragma: no cover  # proof/test_schedules.py, by a tracer
        try:
            state = await self._quieted(record, hurried)
            full = self._reset_mode == "full"
            if hurried or full or state is not CLEAN:
                await self._runtime.call(driver.blocking, self._begin_reset, record)
                if full or state is CHANGED:
                    restore = driver.restore
                    baseline = record._baseline
                    await self._runtime.call(driver.blocking, restore, connection, baseline)
                if driver.state(connection, record._baseline) not in (CLEAN, OPEN):
                    raise CannotReset
            if full:
                # What the application's own listeners set is gone as well.
                await self._tell_connect(record)
        except Exception as error:
            await self._invalidate_record(record, error, "reset")

    async def _quieted(
        self, record: ConnectionRecord[ConnT], hurried: bool
    ) -> ConnectionState:
        """Stop what the connection may still be doing; tell what state it was in.

        Raises:
            CannotReset: it is closed, or can't be stopped.
        """
        driver, connection, baseline = record._driver, record.connection, record._baseline
        assert connection is not None
        state = driver.state(connection, baseline)
        if state is BUSY or (hurried and state is not CLOSED):
            await self._runtime.call(driver.blocking, driver.interrupt, connection)
            # What it was doing may have hidden more, such as a change.
            state = driver.state(connection, baseline)
        if state is BUSY or state is CLOSED:
            raise CannotReset
        return state

    async def _part_with_unusable(self, record: ConnectionRecord[ConnT]) -> None:
        """Where nothing is reset, see to it that at least nothing is under way."""
        try:
            await self._quieted(record, False)
        except Exception as error:
            await self._invalidate_record(record, error, "reset")

    async def _tell_reset(self, record: ConnectionRecord[ConnT]) -> Exception | None:
        try:
            for listener in self._listeners.on_reset:
                await self._tell(record, listener.reset, record.connection, record)
        except Exception as error:
            await self._invalidate_record(record, error, "listener")
            return error
        # What it did may have begun a transaction.
        if self._reset_mode is not None and self._reset_mode != "full":
            await self._reset(record, False)
        return None

    def _begin_reset(self, record: ConnectionRecord[ConnT]) -> Any:
        """Call the driver's reset, where there is still something to reset."""
        connection, mode = record.connection, self._reset_mode
        assert connection is not None
        assert mode is not None
        if not record._driver.is_open(connection):
            # Closed by its user, or with a cancelled statement: no news of the server.
            raise CannotReset
        return record._driver.reset(connection, mode)

    def _take_back(self, record: ConnectionRecord[ConnT]) -> bool:
        """Take a clean slot back. False: it is not wanted; close it."""
        return self._decide(self._restore, record)

    async def _reset_failed(
        self, record: ConnectionRecord[ConnT], error: BaseException
    ) -> None:
        """Deal with a slot whose reset was all that was left to do, and failed.

        Raises:
            BaseException: the error itself, if it is the caller's rather than the driver's.
        """
        overdue, record._resetting = record._resetting is OVERDUE, None
        if overdue and self._runtime.uncancel():
            error = TimeoutError("a reset took too long")
        if isinstance(error, Exception):
            work = self._invalidate_and_return(record, error, "reset")
            await self._complete(record, work)
            return
        await self._complete(record, self._checkin(record, True))
        try:
            raise error
        finally:
            del error  # or else it and its traceback would hold each other

    async def _return(self, record: ConnectionRecord[ConnT], hurried: bool = False) -> None:
        """Return a slot whose lease is over, in spite of a cancellation."""
        await self._complete(record, self._checkin(record, hurried))

    async def _checkin_lease(self, lease: Lease[ConnT]) -> None:
        record = self._checkin_nowait(lease, None)
        if record is not None:
            await self._return(record)

    async def _invalidate(self, lease: Lease[ConnT], error: BaseException | None) -> None:
        """Close the lease's connection, and return its slot."""
        record = self._end(lease)
        if record is not None:  # pragma: no branch  # proof/test_schedules.py, by a tracer
            # A detached connection isn't the pool's, whose statistics don't count it.
            reason: CloseReason | None = None if record._on_lost is None else "invalid"
            work = self._invalidate_and_return(record, error, reason)
            await self._complete(record, work)

    async def _invalidate_and_return(
        self,
        record: ConnectionRecord[ConnT],
        error: BaseException | None,
        reason: CloseReason | None,
    ) -> None:
        try:
            await self._invalidate_alone(record, error, reason)
        except BaseException:
            self._drop(record)
            raise
        if record._on_lost is not None:
            await self._checkin(record)

    def _detach(self, lease: Lease[ConnT]) -> None:
        key = lease._ref
        record = self._out.pop(key, None)
        if key is None or record is None:
            return
        self._note_use(record)
        # A record of its own, outside of the pool's count.
        detached: ConnectionRecord[ConnT] = ConnectionRecord(record._epoch, None)
        detached._driver = record._driver
        detached.info.update(record.info)
        detached._serial, detached._code = record._serial, record._code
        detached._lasti, lease._record = record._lasti, None
        self._detached[key] = detached
        # On one line: an interrupt finds the connection in one place or the other.
        detached.connection, record.connection = record.connection, None
        self._put_back(record)

    async def _detach_lease(self, lease: Lease[ConnT]) -> None:
        key = lease._ref
        self._detach(lease)
        record = self._detached.get(key)
        if record is None:
            return
        for listener in self._listeners.on_detach:
            method = listener.detach
            await self._tell_of_end(record, method, record.connection, record)
        if lease._ref is None and self._detached.pop(key, None) is not None:
            # Another thread has closed the lease meanwhile.
            await self._return(record)  # pragma: no cover  # proof/test_schedules.py

    def _terminate_dropped(self) -> None:
        while self._dropped:
            record = self._dropped.popleft()
            if ref(record) in self._known:
                self._count_in(record)
                if record.connection is not None:
                    self._note_close("lost")
            terminate(record)

    def _checkin_later(self, record: ConnectionRecord[ConnT]) -> None:
        """Return a slot that nobody is there to return: from any thread, at any time."""
        self._dropped.append(record)
        if self._blocking and (self._runtime.lock.locked() or self._is_deciding()):
            # Some thread, maybe this one, is inside the books. It looks for dropped slots
            # when it leaves; if it has left before the append, the lock is free now.
            return
        if not self._runtime.post(self._collect_dropped):
            self._terminate_dropped()

    def _forget_dead_callers(self) -> None:
        # Leases that other threads returned, or nobody did, leave their callers' entries.
        if len(self._callers) > 2 * len(self._out) + 100:
            for caller in list(self._callers):
                if caller() is None:
                    self._callers.pop(caller, None)

    def _collect_dropped(self) -> None:
        self._forget_dead_callers()
        for _ in range(len(self._dropped)):
            try:
                record = self._dropped.popleft()
            except IndexError:
                return
            if self._is_busy(record):
                self._dropped.append(record)  # who is busy with it looks here afterwards
            else:
                self._spawn(self._checkin_dropped(record))

    async def _checkin_dropped(self, record: ConnectionRecord[ConnT]) -> None:
        if record._ending and not record._serial:
            # It stands in for one that was lost with its connection.
            self._decide(self._note_close, "lost")
        try:
            # Within the bound of every return, as nobody is there to give up on it. A slot
            # that stands in for one that was lost has never been anybody's.
            checkin = self._checkin(record, quiet=record._serial == 0)
            await self._complete(record, checkin)
        except Exception as error:
            self._log.exception("A checkin listener failed for a dropped lease", error)
