"""Checkouts: all that is done from connect() until a caller has its connection."""

from __future__ import annotations

from types import CodeType
from typing import Any, Generic, NoReturn

from typing_extensions import TypeVar

from .._core.errors import (
    DisconnectionError,
    InvalidRequestError,
    PoolClosedError,
    PoolDeadlockError,
    PoolTimeoutError,
    TooManyWaitersError,
)
from .._core.lease import Lease
from .._core.options import POOL_DEFAULT
from .._core.record import ConnectionRecord
from .._core.report import Cause
from .._core.waiter import Waiter
from .._core.waits import waits
from .._ledgers.ledger import Ledger
from .announcer import Announcer, Label
from .checkins import Checkins
from .closer import Closer
from .connector import Connector
from .deadlocks import Deadlocks
from .diagnosis import Diagnosis
from .inspector import Inspector

ConnT = TypeVar("ConnT")


class Checkouts(Generic[ConnT]):
    """Hands slots out, in turn and in time, with listeners told.

    Attributes:
        timeout: seconds for a whole checkout, if its caller doesn't say; None: no limit.
    """

    __slots__ = (
        "_announcer",
        "_checkins",
        "_closer",
        "_connector",
        "_deadlocks",
        "_decide",
        "_diagnosis",
        "_inspector",
        "_ledger",
        "_runtime",
        "_slow",
        "timeout",
    )

    def __init__(
        self,
        ledger: Ledger[ConnT],
        runtime: Any,
        announcer: Announcer[ConnT],
        closer: Closer[ConnT],
        connector: Connector[ConnT],
        inspector: Inspector[ConnT],
        checkins: Checkins[ConnT],
        diagnosis: Diagnosis,
        deadlocks: Deadlocks,
        timeout: float | None,
        slow: float | None,
    ) -> None:
        self._ledger = ledger
        self._decide = ledger.decide
        self._runtime = runtime
        self._announcer = announcer
        self._closer = closer
        self._connector = connector
        self._inspector = inspector
        self._checkins = checkins
        self._diagnosis = diagnosis
        self._deadlocks = deadlocks
        self.timeout = timeout
        self._slow = slow

    async def checkout(
        self,
        lease: Lease[ConnT],
        share: bool,
        timeout: float | None,
        code: CodeType,
        lasti: int,
    ) -> None:
        """Do all that a checkout may need: a slot, a connection, the listeners.

        Args:
            lease: gets the connection.
            share: whether the caller's nested checkouts get the same.
            timeout: seconds that all this may take.
            code: the caller's code.
            lasti: where in that the caller is.
        """
        key = lease._ref
        assert key is not None
        if timeout is POOL_DEFAULT:
            timeout = self.timeout
        # With a timeout of 0 there is no waiting for others; connecting takes its time.
        deadline = self._runtime.now() + timeout if timeout else None
        touched = False
        out = self._ledger.leases.out
        try:
            if key not in out:
                self._ledger.leases.forget_dead_callers()
                await self.acquire(lease, timeout, code, lasti)
            record = out[key]
            record._code, record._lasti = code, lasti
            if self.is_ready(record):
                # Handed over as it is. Measured on CPython 3.11, within() takes 10 µs.
                self._ledger.hand_over(lease, record, share)
                return
            touched = True
            await self.fit_out(lease, share, timeout, deadline)
        except BaseException as error:
            await self.undo(lease, error, touched)
            raise

    def is_ready(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether there is nothing to be done to a slot that nobody else shares."""
        return False

    # A slot.

    async def acquire(
        self,
        lease: Lease[ConnT],
        timeout: float | None,
        code: CodeType | None,
        lasti: int,
        first: bool = False,
        left: float | None = None,
    ) -> None:
        """Get a slot for the lease, in turn.

        Args:
            lease: gets a slot.
            timeout: that of the checkout.
            code: the caller's code.
            lasti: where in that the caller is.
            first: whether it has waited already, and goes before all others.
            left: what is then left of the timeout.
        """
        self.resume_care()
        ledger = self._ledger
        may_wait = timeout is None or timeout > 0
        waiter = self.admit(lease, may_wait, first)
        if waiter is None:
            return
        failure: Exception | None = None
        try:
            if may_wait:
                self.begin_wait(lease, waiter, timeout, code, lasti)
                await self._runtime.wait(waiter.gate, left if first else timeout)
            failure = self.end_wait(waiter, timeout)
        except BaseException as error:
            self.note_left(error)
            raise
        finally:
            waits.pop(lease._caller, None)
            # From here on nothing can be given to this waiter. If it was given a slot
            # already, that stands in the books; who leaves has to give it back.
            if waiter.record is None:
                self._decide(ledger.withdraw, waiter.ref)
        if failure is not None and waiter.record is None:
            try:
                raise failure
            finally:
                del failure  # or else it and its traceback would hold each other

    def admit(self, lease: Lease[ConnT], may_wait: bool, first: bool) -> Any:
        """Ask the ledger for a slot, or for a place in the queue; see Ledger.claim().

        Raises:
            PoolClosedError: the pool is closed.
            TooManyWaitersError: the caller may not wait.
        """
        ledger = self._ledger
        try:
            return self._decide(ledger.admit, lease, may_wait, first)
        except TooManyWaitersError as error:
            self._decide(ledger.statistics.note_refused)
            report = self._diagnosis.report(str(error), refused=True)
            refusal = TooManyWaitersError(report.text())
            refusal.report = report
            raise refusal from None

    def begin_wait(
        self,
        lease: Lease[ConnT],
        waiter: Waiter[ConnT],
        timeout: float | None,
        code: CodeType | None,
        lasti: int,
    ) -> None:
        """Take note of a caller who is about to wait.

        Raises:
            PoolDeadlockError: it would wait in a ring, and that is to be raised at once.
        """
        waiter.code, waiter.lasti = code, lasti
        waits[lease._caller] = self._ledger
        if self._deadlocks.look(waiter.since):
            raise self._timed_out("waiting", timeout, waiter.since)

    def note_left(self, error: BaseException) -> None:
        """Take note of a caller who waits no more."""
        if not isinstance(error, (PoolDeadlockError, PoolClosedError)):
            self._decide(self._ledger.statistics.note_cancelled)

    def end_wait(
        self, waiter: Waiter[ConnT], timeout: float | None
    ) -> PoolTimeoutError | None:
        """Take note of a caller who has waited, and stands in the queue yet.

        Returns:
            What it gets if it has waited in vain.

        Raises:
            PoolClosedError: it has, since the pool is closed.
        """
        since = waiter.since
        waited = self._runtime.now() - since
        slow = self._slow is not None and waited > self._slow
        if slow and waiter.record is not None:
            report = self._diagnosis.report("", phase="waiting", since=since)
            self._announcer.log.warning(
                "Slow checkout: waited %.2f s; %s: %s",
                *(waited, report.cause.value, report.evidence),
            )
        if waiter.record is not None:
            return None
        self._ledger.check_open()
        self._decide(self._ledger.statistics.note_timeout)
        return self._timed_out("waiting", timeout, since)

    def resume_care(self) -> None:
        """Have an open pool looked after where it is now."""

    def _fail_late(
        self, phase: str, timeout: float | None, since: float | None
    ) -> NoReturn:
        """Raise what a caller gets whose time is up."""
        self._decide(self._ledger.statistics.note_timeout)
        raise self._timed_out(phase, timeout, since)

    def _timed_out(
        self, phase: str, timeout: float | None, since: float | None
    ) -> PoolTimeoutError:
        """Make the error of a caller whose time is up, or who waits in a ring."""
        report = self._diagnosis.report(
            self._headline(phase, timeout), since=since, timeout=timeout, phase=phase
        )
        if report.cause is Cause.DEADLOCK and phase == "waiting":
            error: PoolTimeoutError = PoolDeadlockError(report.text())
        else:
            error = PoolTimeoutError(report.text())
        error.report = report
        return error

    def _headline(self, phase: str, timeout: float | None) -> str:
        """Say in a line what happened to such a caller."""
        limit = "" if timeout is None else f", timeout {timeout:g}"
        return f"{self._ledger.name}: {phase} timed out{limit}"

    # Its connection.

    async def fit_out(
        self,
        lease: Lease[ConnT],
        share: bool,
        timeout: float | None,
        deadline: float | None,
    ) -> None:
        """Connect the lease's slot and tell the listeners, before the deadline."""
        leases = self._ledger.leases
        record = leases.out[lease._ref]
        while not await self._is_usable(record, timeout, deadline):
            code, lasti = record._code, record._lasti
            await self._acquire_another(lease, record, timeout, deadline)
            record = leases.out[lease._ref]
            record._code, record._lasti = code, lasti
        left = None if deadline is None else deadline - self._runtime.now()
        if not await self._runtime.within(left, self._prepare(lease, record, share)):
            self._fail_late("connecting", timeout, began(timeout, deadline))
        self._ledger.check_open()
        if lease._ref not in leases.out and lease._ref not in leases.detached:
            raise InvalidRequestError(
                "This connection is closed: a checkout listener closed it"
            )

    async def _is_usable(
        self, record: ConnectionRecord[ConnT], timeout: float | None, deadline: float | None
    ) -> bool:
        """Tell whether this slot will do, or another one has to be waited for."""
        return True

    async def _acquire_another(
        self,
        lease: Lease[ConnT],
        record: ConnectionRecord[ConnT],
        timeout: float | None,
        deadline: float | None,
    ) -> None:
        """Give this slot up, and get another one, before all others."""
        if self._ledger.leases.out.pop(lease._ref, None) is not None:
            self._closer.put_back(record)
        left = None if deadline is None else deadline - self._runtime.now()
        if left is not None and left <= 0:
            self._fail_late("connecting", timeout, began(timeout, deadline))
        await self.acquire(
            lease, timeout, record._code, record._lasti, first=True, left=left
        )

    async def _prepare(
        self, lease: Lease[ConnT], record: ConnectionRecord[ConnT], share: bool
    ) -> None:
        """Make the slot's connection fit to be handed out, and hand it to the lease."""
        while True:
            await self._connect(lease, record)
            # Before the listeners, so that what they connect to is this connection.
            self._ledger.hand_over(lease, record, share)
            if lease._connection is not None:
                break
            # Who shares the slot has just closed the connection; or the pool was closed.
            record._checkouts -= 1
            self._ledger.check_open()
        if self._announcer.listeners.on_checkout:
            await self._tell_checkout(lease, record)
        if self._announcer.chatty:
            self._announcer.log.debug("Connection %s checked out", Label(record))

    async def _connect(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        """See to it that the slot has a connection that is fit for use."""
        await self._inspector.close_unfit(record)
        if record.connection is None:
            await self._connector.open(lease, record)

    async def _tell_checkout(
        self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]
    ) -> None:
        announcer = self._announcer
        for attempt in (1, 2):
            try:
                for listener in announcer.listeners.on_checkout:
                    method = listener.checkout
                    await announcer.tell(record, method, record.connection, record, lease)
                return
            except DisconnectionError as error:
                announcer.log.info(
                    "Disconnection detected on checkout of %s", Label(record)
                )
                await self._closer.invalidate_alone(record, error)
            if attempt == 1:
                await self._connect(lease, record)
                lease._connection = record.connection
        raise InvalidRequestError(
            "This connection is closed: checkout listeners reported a disconnection twice"
        )

    async def undo(self, lease: Lease[ConnT], error: BaseException, touched: bool) -> None:
        """Give back what a failed checkout had got hold of so far.

        Args:
            lease: has failed to become one.
            error: why.
            touched: whether anything has been done to its slot.
        """
        ledger, closer = self._ledger, self._closer
        untold = lease._record is None
        self._decide(ledger.withdraw, lease._ref)
        record = ledger.end(lease)
        if record is None:
            return
        if not touched:
            # As clean as it was given to this caller, who left in the same moment.
            closer.put_back(record)
        elif isinstance(error, Exception) and untold and record.connection is None:
            # Not even connected: there is nothing to wait for, least of all a connect that
            # another caller of the same slot may be at.
            closer.put_back(record)
        elif isinstance(error, Exception) and not untold:
            await closer.complete(record, self._checkins.checkin(record))
        else:
            # Its caller was cut short, or while it was connected or pinged its time was up.
            closer.drop(record)


def began(timeout: float | None, deadline: float | None) -> float | None:
    """Return when a checkout began that has this deadline."""
    return None if timeout is None or deadline is None else deadline - timeout
