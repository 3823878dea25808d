"""Sharing: the parts of pools whose slots are not one caller's at a time.

Several callers may want to open or close a slot's connection; one does at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from threading import get_ident
from typing import Any, Generic

from typing_extensions import TypeVar

from .._core import bounds
from .._core.driver import BUSY
from .._core.errors import InvalidRequestError
from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .._core.stats import CloseReason
from .._ledgers.ledger import Ledger
from .._ledgers.shared import Returning, SharedLedger
from .checkins import Checkins
from .checkouts import Checkouts
from .closer import Closer
from .inspector import Inspector
from .resetter import Resetter

ConnT = TypeVar("ConnT")


class Turnstile(Generic[ConnT]):
    """Lets one caller at a time do something to a slot's connection."""

    __slots__ = ("_ledger", "_runtime")

    def __init__(self, ledger: Ledger[ConnT], runtime: Any) -> None:
        self._ledger = ledger
        self._runtime = runtime

    async def alone(
        self,
        record: ConnectionRecord[ConnT],
        work: Callable[..., Coroutine[Any, Any, None]],
        *args: Any,
    ) -> None:
        """Do work on a slot's connection while nobody else does."""
        ledger = self._ledger
        mutex = ledger.decide(self._mutex, record)
        if self._runtime.blocking:
            if record._worker == get_ident() and mutex.locked():
                raise InvalidRequestError(
                    f"{ledger.name}: a listener asked for the connection that it was "
                    "called for, which it has as an argument"
                )
            # On one line, as in Ledger.decide().
            with mutex: await self._noted(record, work, args)  # fmt: skip # noqa: E701
            if ledger.dropped:
                ledger.calls.on_decided()
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

    def _mutex(self, record: ConnectionRecord[ConnT]) -> Any:
        if record._mutex is None:
            record._mutex = self._runtime.mutex()
        return record._mutex


class SharedCloser(Closer[ConnT]):
    """Closes what others may be closing, too."""

    __slots__ = ("_turnstile",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turnstile = Turnstile(self._ledger, self._runtime)

    async def close(
        self, record: ConnectionRecord[ConnT], reason: CloseReason | None
    ) -> None:
        # Several may want to close it; the first to take it does.
        taken = self.move_out(record)
        if taken.connection is not None:
            await super().close(taken, reason)

    async def invalidate_alone(
        self,
        record: ConnectionRecord[ConnT],
        error: BaseException | None,
        reason: CloseReason | None = "invalid",
    ) -> None:
        connection = record.connection
        await self._turnstile.alone(
            record, self._invalidate_if, connection, record, error, reason
        )

    async def _invalidate_if(
        self,
        connection: ConnT | None,
        record: ConnectionRecord[ConnT],
        error: BaseException | None,
        reason: CloseReason | None,
    ) -> None:
        if record.connection is connection:  # nobody else has replaced it meanwhile
            await self.invalidate(record, error, reason)

    def is_held(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether a caller has the slot's connection: one that is not just coming."""
        ledger: Any = self._ledger
        held: bool = ledger.is_held(record)
        return held

    def drop(self, record: ConnectionRecord[ConnT]) -> None:
        try:
            if record._users == 1 and record.connection is not None:
                self.count("lost")
                self.abandon(record)
        finally:
            self.put_back(record)


class SharedResetter(Resetter[ConnT]):
    """Leaves a connection alone on which another caller is in the middle of something."""

    __slots__ = ()

    _closer: SharedCloser[ConnT]

    async def make_quiet(self, record: ConnectionRecord[ConnT], hurried: bool) -> None:
        if not self._is_in_use(record):
            await super().make_quiet(record, hurried)

    def _is_in_use(self, record: ConnectionRecord[ConnT]) -> bool:
        connection = record.connection
        return (
            record._users > 1
            and connection is not None
            and record._driver.state(connection, record._baseline) is BUSY
            and self._closer.is_held(record)
        )


class SharedInspector(Inspector[ConnT]):
    """Leaves a connection alone that more than one has."""

    __slots__ = ()

    def is_stale(self, record: ConnectionRecord[ConnT]) -> bool:
        return record._users == 1 and super().is_stale(record)

    def _is_ping_due(self, record: ConnectionRecord[ConnT], since: float) -> bool:
        return record._users == 1 and super()._is_ping_due(record, since)


class SharedCheckouts(Checkouts[ConnT]):
    """Connects one at a time."""

    __slots__ = ("_turnstile",)

    _checkins: SharedCheckins[ConnT]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._turnstile = Turnstile(self._ledger, self._runtime)

    async def _connect(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        connect = self._turnstile.alone(record, self._connect_alone, record)
        if self._runtime.blocking or self._connector.inline:
            await connect
        else:
            # A creator or ping in a thread goes on when this caller leaves; the next one
            # then waits for its connection.
            await self._connector.work_on(lease, connect)

    async def _connect_alone(self, record: ConnectionRecord[ConnT]) -> None:
        if not self._runtime.blocking:
            await self._checkins.return_left(record)
        await self._inspector.close_unfit(record)
        if record.connection is None:
            await self._connector.connect(record)


class SharedCheckins(Checkins[ConnT]):
    """Returns one at a time."""

    __slots__ = ("_turnstile",)

    _closer: SharedCloser[ConnT]
    _ledger: SharedLedger[ConnT]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._turnstile = Turnstile(self._ledger, self._runtime)

    def checkin(
        self, record: ConnectionRecord[ConnT], hurried: bool = False, quiet: bool = False
    ) -> Coroutine[Any, Any, None]:
        returning = record, hurried, quiet
        if self._runtime.blocking:
            return self._checkin_in_turn(returning)
        # Noted here and now: it may begin in a task, and until it does, another caller may
        # come, who must not get the connection as it was left.
        self._ledger.returning.append(returning)
        return self._checkin_unless_done(returning)

    async def return_left(self, record: ConnectionRecord[ConnT]) -> None:
        """See to the returns of a slot that are about to begin.

        To be called where nobody else does anything to the slot.
        """
        while (returning := self._ledger.take_return(record)) is not None:
            try:
                work = self._checkin_alone(returning)
                await self._runtime.within(bounds.RETURN_TIMEOUT, work)
            except Exception as error:
                complain = self._announcer.log.exception
                complain("A checkin listener failed for a connection that was left", error)

    async def _checkin_unless_done(self, returning: Returning[ConnT]) -> None:
        async def work() -> None:
            if self._ledger.claim_return(returning):
                await self._checkin_alone(returning)

        try:
            await self._turnstile.alone(returning[0], work)
        except BaseException:
            if self._ledger.claim_return(returning):  # cancelled while it waited
                self._drop(returning)
            raise

    async def _checkin_in_turn(self, returning: Returning[ConnT]) -> None:
        if self._ledger.is_deciding():
            self._ledger.dropped.append(returning[0])  # what this interrupts sees to it
            return
        begun = False

        async def work() -> None:
            nonlocal begun
            begun = True
            await self._checkin_alone(returning)

        try:
            await self._turnstile.alone(returning[0], work)
        except BaseException:
            if not begun:  # interrupted while it waited
                self._drop(returning)
            raise

    def _drop(self, returning: Returning[ConnT]) -> None:
        record, _, _ = returning
        if record._on_lost is not None:
            self._closer.drop(record)

    async def _checkin_alone(self, returning: Returning[ConnT]) -> None:
        record, hurried, quiet = returning
        connection = record.connection
        # While others have the connection, nothing of theirs may be interrupted.
        hurried = hurried and not self._ledger.is_held(record)
        try:
            await self._checkin(record, hurried, quiet)
        except BaseException as error:
            left = connection is not None and record.connection is connection
            counts = left and record._on_lost is not None
            cut_short = counts and not isinstance(error, Exception)
            if cut_short and not self._ledger.is_held(record):
                # Cut short in the middle of a reset: not for who comes next, either.
                self._closer.count("lost")
                self._closer.abandon(record)
            raise


class SingletonCheckouts(SharedCheckouts[ConnT]):
    """Closes what had to make room for a new caller's connection."""

    __slots__ = ()

    evicts = True

    async def close_evicted(self) -> None:
        ledger: Any = self._ledger
        if ledger.evicted:
            evicted = ledger.decide(ledger.take_evicted)
            await self._closer.close_slots(evicted, "overflow")
