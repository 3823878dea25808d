"""Checkouts: all that is done from connect() until a caller has its connection."""

from __future__ import annotations

from collections.abc import Coroutine
from inspect import isawaitable
from types import CodeType
from typing import Any, Generic

from typing_extensions import TypeVar

from .._core.errors import DisconnectionError, InvalidRequestError
from .._core.lease import Lease
from .._core.options import POOL_DEFAULT
from .._core.record import ConnectionRecord
from .._core.waiter import Waiter
from .._ledgers.ledger import Ledger
from .announcer import Announcer, Label
from .checkins import Checkins
from .closer import Closer
from .connector import Connector
from .inspector import Inspector
from .waiting import Waiting

ConnT = TypeVar("ConnT")


class Checkouts(Generic[ConnT]):
    """Hands slots out, in turn and in time, with listeners told.

    Attributes:
        timeout: seconds for a whole checkout, if its caller doesn't say; None: no limit.
        tells: whether who gets a slot that is ready has listeners to tell, and these are
            plain functions.
        waiting: lets callers into the queue, and sees them out of it.
        evicts: whether one caller may have to make room for another.
        is_choosy: whether a caller may have to take another slot than it got at first.
    """

    __slots__ = (
        "_announcer",
        "_checkins",
        "_closer",
        "_connector",
        "_decide",
        "_inspector",
        "_ledger",
        "_runtime",
        "tells",
        "timeout",
        "waiting",
    )

    evicts = is_choosy = False

    def __init__(
        self,
        ledger: Ledger[ConnT],
        runtime: Any,
        announcer: Announcer[ConnT],
        closer: Closer[ConnT],
        connector: Connector[ConnT],
        inspector: Inspector[ConnT],
        checkins: Checkins[ConnT],
        waiting: Waiting[ConnT],
        timeout: float | None,
    ) -> None:
        self._ledger = ledger
        self._decide = ledger.decide
        self._runtime = runtime
        self._announcer = announcer
        self._closer = closer
        self._connector = connector
        self._inspector = inspector
        self._checkins = checkins
        self.waiting = waiting
        self.timeout = timeout
        self.tells = False

    async def checkout(
        self,
        lease: Lease[ConnT],
        share: bool,
        timeout: float | None,
        code: CodeType,
        lasti: int,
    ) -> Lease[ConnT]:
        """Do all that a checkout may need: a slot, a connection, the listeners.

        Args:
            lease: gets the connection, and is returned.
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
                waiter = self.enter(lease, timeout, False)
                if waiter is not None:
                    # wait_for_turn() in place: a coroutine of its own takes 280 bytes more
                    # for each who waits (CPython 3.11).
                    waiting, failure = self.waiting, None
                    try:
                        if timeout is None or timeout > 0:
                            waiting.begin(lease, waiter, timeout, code, lasti)
                            await self._runtime.wait(waiter.gate, timeout)
                        failure = waiting.end(waiter, timeout)
                    except BaseException as error:
                        waiting.note_left(error)
                        raise
                    finally:
                        waiting.leave(lease, waiter)
                    if failure is not None and waiter.record is None:
                        try:
                            raise failure
                        finally:
                            del failure  # it and its traceback would hold each other
                if self.evicts:
                    await self.close_evicted()
            record = out[key]
            record._code, record._lasti = code, lasti
            if self.is_ready(record):
                # Handed over as it is. Measured on CPython 3.11, within() takes 10 µs.
                self._ledger.hand_over(lease, record, share)
                if self.tells:
                    touched = True
                    rest = self.tell_at_once(lease, record, timeout, deadline)
                    if rest is not None:
                        await rest
                return lease
            touched = True
            await self.fit_out(lease, share, timeout, deadline)
            return lease
        except BaseException as error:
            await self.undo(lease, error, touched)
            raise

    def is_ready(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether there is nothing to be done to a slot that nobody else shares."""
        return False

    # A slot.

    def enter(self, lease: Lease[ConnT], timeout: float | None, first: bool) -> Any:
        """Get a slot for the lease, or a place in the queue.

        Args:
            lease: gets a slot.
            timeout: that of the checkout.
            first: whether it has waited already, and goes before all others.

        Returns:
            None, or the Waiter that it is by now.
        """
        self.resume_care()
        may_wait = timeout is None or timeout > 0
        return self.waiting.admit(lease, may_wait, first)

    async def wait_for_turn(
        self,
        lease: Lease[ConnT],
        waiter: Waiter[ConnT],
        timeout: float | None,
        left: float | None,
        place: tuple[CodeType | None, int],
    ) -> None:
        """Wait in the queue for what is left of the timeout; if that is 0, not at all."""
        waiting, failure = self.waiting, None
        try:
            if timeout is None or timeout > 0:
                waiting.begin(lease, waiter, timeout, *place)
                await self._runtime.wait(waiter.gate, left)
            failure = waiting.end(waiter, timeout)
        except BaseException as error:
            waiting.note_left(error)
            raise
        finally:
            waiting.leave(lease, waiter)
        if failure is not None and waiter.record is None:
            try:
                raise failure
            finally:
                del failure  # or else it and its traceback would hold each other

    async def close_evicted(self) -> None:
        """Close what had to make room for this caller."""

    def resume_care(self) -> None:
        """Have an open pool looked after where it is now."""

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
        while self.is_choosy and not await self._is_usable(record, timeout, deadline):
            code, lasti = record._code, record._lasti
            await self._acquire_another(lease, record, timeout, deadline)
            record = leases.out[lease._ref]
            record._code, record._lasti = code, lasti
        left = None if deadline is None else deadline - self._runtime.now()
        if not await self._runtime.within(left, self._prepare(lease, record, share)):
            self.waiting.fail_late("connecting", timeout, deadline)
        self._check_handed_over(lease)

    def _check_handed_over(self, lease: Lease[ConnT]) -> None:
        """See whether the lease still has what it was given."""
        ledger = self._ledger
        if ledger.closed:
            ledger.check_open()
        if lease._ref not in ledger.leases.out and lease._ref not in ledger.leases.detached:
            raise InvalidRequestError(
                "This connection is closed: a checkout listener closed it"
            )

    def tell_at_once(
        self,
        lease: Lease[ConnT],
        record: ConnectionRecord[ConnT],
        timeout: float | None,
        deadline: float | None,
    ) -> Coroutine[Any, Any, None] | None:
        """Tell listeners that are plain functions; return what is left to do, if any.

        The same as fit_out() does for a slot that is ready, but without a coroutine.
        """
        listeners: Any = self._announcer.listeners
        told, answer = 0, None
        try:
            for listener in listeners.on_checkout:
                told += 1
                answer = listener.checkout(record.connection, record, lease)
                if answer is not None and isawaitable(answer):
                    break
            else:
                if deadline is not None and self._runtime.now() > deadline:
                    self.waiting.fail_late("connecting", timeout, deadline)
                self._check_handed_over(lease)
                return None
        except DisconnectionError as error:
            answer = _failed(error)
        rest = self._tell_checkout(lease, record, told, answer)
        return self._tell_in_time(lease, rest, timeout, deadline)

    async def _tell_in_time(
        self,
        lease: Lease[ConnT],
        rest: Coroutine[Any, Any, None],
        timeout: float | None,
        deadline: float | None,
    ) -> None:
        left = None if deadline is None else deadline - self._runtime.now()
        if not await self._runtime.within(left, rest):
            self.waiting.fail_late("connecting", timeout, deadline)
        self._check_handed_over(lease)

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
            self.waiting.fail_late("connecting", timeout, deadline)
        waiter = self.enter(lease, timeout, True)
        if waiter is not None:
            place = record._code, record._lasti
            await self.wait_for_turn(lease, waiter, timeout, left, place)

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
        self,
        lease: Lease[ConnT],
        record: ConnectionRecord[ConnT],
        told: int = 0,
        answer: Any = None,
    ) -> None:
        """Tell the checkout listeners that have not been told.

        Args:
            lease: has the slot.
            record: the slot.
            told: how many have been.
            answer: what the last of them is still at.
        """
        announcer = self._announcer
        for attempt in (1, 2):
            try:
                if answer is not None:
                    await announcer.hear_out(answer)
                for listener in announcer.listeners.on_checkout[told:]:
                    method = listener.checkout
                    await announcer.tell(record, method, record.connection, record, lease)
                return
            except DisconnectionError as error:
                announcer.log.info(
                    "Disconnection detected on checkout of %s", Label(record)
                )
                await self._closer.invalidate_alone(record, error)
            told, answer = 0, None
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


async def _failed(error: Exception) -> None:
    """Raise it when awaited."""
    try:
        raise error
    finally:
        del error  # or else it and its traceback would hold each other
