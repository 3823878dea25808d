"""Waiting: what is noted of callers who wait, and said to those who wait in vain."""

from __future__ import annotations

import math
from types import CodeType
from typing import Any, Generic, NoReturn

from typing_extensions import TypeVar

from .._core.errors import (
    PoolClosedError,
    PoolDeadlockError,
    PoolTimeoutError,
    TooManyWaitersError,
)
from .._core.lease import Lease
from .._core.log import PoolLog
from .._core.report import Cause
from .._core.waiter import Waiter
from .._core.waits import waits
from .._ledgers.ledger import Ledger
from .._ledgers.queue import QueueLedger
from .deadlocks import Deadlocks
from .diagnosis import Diagnosis
from .leakwatch import LeakWatch

ConnT = TypeVar("ConnT")


class Waiting(Generic[ConnT]):
    """Lets callers into the queue, and sees them out of it."""

    __slots__ = (
        "_deadlocks",
        "_diagnosis",
        "_leaks",
        "_ledger",
        "_log",
        "_runtime",
        "_slow",
    )

    def __init__(
        self,
        ledger: Ledger[ConnT],
        runtime: Any,
        log: PoolLog,
        diagnosis: Diagnosis,
        deadlocks: Deadlocks,
        leaks: LeakWatch,
        slow: float | None,
    ) -> None:
        """Make one for a pool.

        Args:
            ledger: has the queue.
            runtime: the clock.
            log: is told of those who waited for long.
            diagnosis: says why there is no connection.
            deadlocks: looks for rings.
            leaks: looks for leaks.
            slow: seconds of waiting that are long; None: none are.
        """
        self._ledger = ledger
        self._runtime = runtime
        self._log = log
        self._diagnosis = diagnosis
        self._deadlocks = deadlocks
        self._leaks = leaks
        self._slow = slow

    def admit(self, lease: Lease[ConnT], may_wait: bool, first: bool) -> Any:
        """Ask the ledger for a slot, or for a place in the queue; see Ledger.claim().

        Raises:
            PoolClosedError: the pool is closed.
            TooManyWaitersError: the caller may not wait.
        """
        ledger, due = self._ledger, self._leaks.due
        if due != math.inf and self._runtime.now() >= due:
            self._leaks.look()
        try:
            return ledger.decide(ledger.admit, lease, may_wait, first)
        except TooManyWaitersError as error:
            ledger.decide(ledger.statistics.note_refused)
            report = self._diagnosis.report(str(error), refused=True)
            refusal = TooManyWaitersError(report.text())
            refusal.report = report
            raise refusal from None

    def begin(
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
            raise self._timed_out("waiting", timeout, waiter.since, at_once=True)

    def end(self, waiter: Waiter[ConnT], timeout: float | None) -> PoolTimeoutError | None:
        """Take note of a caller who has waited, and stands in the queue yet.

        Returns:
            What it gets if it has waited in vain.

        Raises:
            PoolClosedError: it has, since the pool is closed.
        """
        since = waiter.since
        if waiter.record is None:
            self._ledger.check_open()
            self._ledger.decide(self._ledger.statistics.note_timeout)
            return self._timed_out("waiting", timeout, since)
        if self._slow is not None:
            waited = self._runtime.now() - since
            if waited > self._slow:
                report = self._diagnosis.report("", phase="waiting", since=since)
                self._log.warning(
                    "Slow checkout: waited %.2f s; %s: %s",
                    *(waited, report.cause.value, report.evidence),
                )
        return None

    def note_left(self, error: BaseException) -> None:
        """Take note of a caller who doesn't wait any more, since it was cut short."""
        if not isinstance(error, (PoolDeadlockError, PoolClosedError)):
            self._ledger.decide(self._ledger.statistics.note_cancelled)

    def leave(self, lease: Lease[ConnT], waiter: Waiter[ConnT]) -> None:
        """See a caller out of the queue.

        From here on nothing can be given to its waiter. If it was given a slot already,
        that stands in the books; who leaves has to give it back.
        """
        waits.pop(lease._caller, None)
        if waiter.record is None:
            self._ledger.decide(self._ledger.withdraw, waiter.ref)

    def fail_late(
        self, phase: str, timeout: float | None, deadline: float | None
    ) -> NoReturn:
        """Raise what a caller gets whose time is up.

        Args:
            phase: "waiting" or "connecting".
            timeout: how many seconds its checkout could take.
            deadline: when these were over.
        """
        self._ledger.decide(self._ledger.statistics.note_timeout)
        since = None if timeout is None or deadline is None else deadline - timeout
        raise self._timed_out(phase, timeout, since)

    def _timed_out(
        self,
        phase: str,
        timeout: float | None,
        since: float | None,
        at_once: bool = False,
    ) -> PoolTimeoutError:
        """Make the error of a caller whose time is up, or who would wait in a ring."""
        what = f"{self._ledger.name}: would wait for ever"
        headline = what if at_once else self._headline(phase, timeout)
        report = self._diagnosis.report(headline, since=since, timeout=timeout, phase=phase)
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


class QueueWaiting(Waiting[ConnT]):
    """Knows a QueuePool's limits, and what became of its connects."""

    __slots__ = ()

    _ledger: QueueLedger[ConnT]

    def _timed_out(
        self,
        phase: str,
        timeout: float | None,
        since: float | None,
        at_once: bool = False,
    ) -> PoolTimeoutError:
        error = super()._timed_out(phase, timeout, since, at_once)
        error.__cause__ = self._ledger.growth.backoff.error
        return error

    def _headline(self, phase: str, timeout: float | None) -> str:
        ledger = self._ledger
        limit = "no timeout" if timeout is None else f"timeout {timeout:g}"
        if ledger.growth.backoff.error is not None:
            return f"QueuePool: no connection, connecting failed, {limit}"
        if phase != "waiting":
            return f"QueuePool: {phase} timed out, {limit}"
        if ledger.suspended:
            return f"QueuePool: it is suspended, connection timed out, {limit}"
        if ledger.total < ledger.capacity:
            return f"QueuePool: no connection came in time, {limit}"
        return (
            f"QueuePool limit of size {ledger.size} overflow {ledger.total - ledger.size} "
            f"reached, connection timed out, {limit}"
        )
