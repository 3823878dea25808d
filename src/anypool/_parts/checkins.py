"""Checkins: all that is done to a slot when its lease is over, in one way or another."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic
from weakref import ref

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import UNTOLD, ConnectionRecord
from .._core.stats import CloseReason
from .._ledgers.ledger import Ledger
from .announcer import Announcer, Label
from .closer import Closer
from .resetter import Resetter
from .resetwatch import OVERDUE

ConnT = TypeVar("ConnT")


class Checkins(Generic[ConnT]):
    """Takes slots back: closed, invalidated or detached ones."""

    __slots__ = ("_announcer", "_closer", "_ledger", "_resetter", "_runtime")

    def __init__(
        self,
        ledger: Ledger[ConnT],
        runtime: Any,
        announcer: Announcer[ConnT],
        closer: Closer[ConnT],
        resetter: Resetter[ConnT],
    ) -> None:
        self._ledger = ledger
        self._runtime = runtime
        self._announcer = announcer
        self._closer = closer
        self._resetter = resetter

    async def give_back(
        self, record: ConnectionRecord[ConnT], hurried: bool = False
    ) -> None:
        """Return a slot whose lease is over, in spite of a cancellation."""
        await self._closer.complete(record, self.checkin(record, hurried))

    def checkin(
        self, record: ConnectionRecord[ConnT], hurried: bool = False, quiet: bool = False
    ) -> Coroutine[Any, Any, None]:
        """Return a slot whose lease is over: listeners, reset, back to the ledger.

        Args:
            record: is nobody's now but this coroutine's.
            hurried: the caller was cancelled; what the connection does now is not known.
            quiet: don't tell the checkin listeners.
        """
        return self._checkin(record, hurried, quiet)

    async def _checkin(
        self, record: ConnectionRecord[ConnT], hurried: bool, quiet: bool
    ) -> None:
        ledger, closer = self._ledger, self._closer
        if ledger.is_deciding():
            ledger.dropped.append(record)  # what this one interrupts sees to it
            return
        failure: Exception | None = None
        restored = False
        try:
            if record._on_lost is None:
                await self._part_with(record)
                return
            listeners = self._announcer.listeners
            if listeners.on_checkin and not quiet:
                failure = await self._tell_checkin(record)
            await self._resetter.make_quiet(record, hurried)
            if listeners.on_reset and record.connection is not None:
                failure = await self._tell_reset(record) or failure
            if self._announcer.chatty:
                self._announcer.log.debug("Connection %s returned", Label(record))
            restored = ledger.decide(ledger.take_back, record)
            if not restored:
                if record.connection is not None:
                    await closer.close(record, closer.surplus_reason(record))
                ledger.decide(ledger.forget, record)
                restored = True
        except BaseException:
            if not restored:  # pragma: no branch  # test_interrupts.py, by a tracer
                closer.drop(record)
            raise
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # or else it and its traceback would hold each other

    async def _part_with(self, record: ConnectionRecord[ConnT]) -> None:
        """Close what was detached, or whose caller, who alone could use it, has died."""
        known = ref(record) in self._ledger.known
        await self._closer.close(record, "idle" if known else None)
        if known:
            self._ledger.decide(self._ledger.forget, record)

    async def _tell_checkin(self, record: ConnectionRecord[ConnT]) -> Exception | None:
        # On one line: if this is interrupted, nobody is told twice.
        (told, left), record._told = record._told, UNTOLD
        if isinstance(left, Exception):
            await self._closer.invalidate(record, left, "listener")
            return left
        try:
            if left is not None:
                await self._announcer.hear_out(left)
            for listener in self._announcer.listeners.on_checkin[told:]:
                method = listener.checkin
                await self._announcer.tell(record, method, record.connection, record)
        except Exception as error:
            # What it did to the connection is not known.
            await self._closer.invalidate(record, error, "listener")
            return error
        return None

    async def _tell_reset(self, record: ConnectionRecord[ConnT]) -> Exception | None:
        try:
            for listener in self._announcer.listeners.on_reset:
                method = listener.reset
                await self._announcer.tell(record, method, record.connection, record)
        except Exception as error:
            await self._closer.invalidate(record, error, "listener")
            return error
        # What it did may have begun a transaction.
        if self._resetter.mode is not None and self._resetter.mode != "full":
            await self._resetter.make_quiet(record, False)
        return None

    async def reset_failed(
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
            await self._closer.complete(record, work)
            return
        await self._closer.complete(record, self.checkin(record, True))
        try:
            raise error
        finally:
            del error  # or else it and its traceback would hold each other

    async def invalidate(self, lease: Lease[ConnT], error: BaseException | None) -> None:
        """Close the lease's connection, and return its slot."""
        record = self._ledger.end(lease)
        if record is not None:  # pragma: no branch  # proof/test_schedules.py, by a tracer
            # A detached connection isn't the pool's, whose statistics don't count it.
            reason: CloseReason | None = None if record._on_lost is None else "invalid"
            work = self._invalidate_and_return(record, error, reason)
            await self._closer.complete(record, work)

    async def _invalidate_and_return(
        self,
        record: ConnectionRecord[ConnT],
        error: BaseException | None,
        reason: CloseReason | None,
    ) -> None:
        try:
            await self._closer.invalidate_alone(record, error, reason)
        except BaseException:
            self._closer.drop(record)
            raise
        if record._on_lost is not None:
            await self.checkin(record)

    async def detach(self, lease: Lease[ConnT]) -> None:
        """Take the lease's connection out of the pool."""
        leases, key = self._ledger.leases, lease._ref
        with self._ledger.guard:
            emptied = leases.detach(lease)
        if emptied is not None:
            self._ledger.note_use(emptied)
            self._closer.put_back(emptied)
        record = leases.detached.get(key)
        if record is None:
            return
        for listener in self._announcer.listeners.on_detach:
            method = listener.detach
            await self._announcer.tell_of_end(record, method, record.connection, record)
        if lease._ref is None and leases.detached.pop(key, None) is not None:
            # Another thread has closed the lease meanwhile.
            await self.give_back(record)  # pragma: no cover  # proof/test_schedules.py
