"""Reclaimer: returns the slots that nobody is there to return."""

from __future__ import annotations

from typing import Any, Generic
from weakref import ref

from typing_extensions import TypeVar

from .._core.log import PoolLog
from .._core.record import ConnectionRecord
from .._ledgers.ledger import Ledger
from .background import Background
from .checkins import Checkins
from .closer import Closer
from .finalizers import terminate

ConnT = TypeVar("ConnT")


class Reclaimer(Generic[ConnT]):
    """Sees to leases that were dropped, callers that died, slots that interrupts lost."""

    __slots__ = ("_background", "_checkins", "_closer", "_ledger", "_log", "_runtime")

    def __init__(
        self,
        ledger: Ledger[ConnT],
        background: Background,
        closer: Closer[ConnT],
        checkins: Checkins[ConnT],
        log: PoolLog,
    ) -> None:
        self._ledger = ledger
        self._background = background
        self._runtime: Any = background.runtime
        self._closer = closer
        self._checkins = checkins
        self._log = log

    def reclaim(self, record: ConnectionRecord[ConnT]) -> None:
        """Return a slot: from any thread, at any time, without waiting."""
        ledger = self._ledger
        ledger.dropped.append(record)
        if ledger.blocking and (self._runtime.lock.locked() or ledger.is_deciding()):
            # Some thread, maybe this one, is inside the books. It looks for dropped slots
            # when it leaves; if it has left before the append, the lock is free now.
            return
        if not self._background.post(self.collect):
            self._terminate_all()

    def collect(self) -> None:
        """Return what was dropped."""
        ledger = self._ledger
        ledger.leases.forget_dead_callers()
        if not ledger.blocking:
            self._background.spawn(self._return_next())  # one for each that was posted
            return
        for _ in range(len(ledger.dropped)):
            try:
                record = ledger.dropped.popleft()
            except IndexError:
                return
            if ledger.is_in_use(record):
                ledger.dropped.append(record)  # whoever uses it looks here afterwards
            else:
                self._background.spawn(self._return(record))

    def _terminate_all(self) -> None:
        ledger = self._ledger
        while ledger.dropped:
            record = ledger.dropped.popleft()
            if ref(record) in ledger.known:
                ledger.statistics.take_over(record)
                if record.connection is not None:
                    ledger.statistics.note_close("lost")
            terminate(record)

    async def _return_next(self) -> None:
        # Not taken before this begins: who comes to share the slot may be quicker.
        try:
            record = self._ledger.dropped.popleft()
        except IndexError:
            return
        await self._return(record)

    async def _return(self, record: ConnectionRecord[ConnT]) -> None:
        if record._serial:
            await self._checkin(record)
            return
        # It stands in for one that was lost with what was done to it.
        if record._ending:
            self._closer.count("lost")
        with self._ledger.no_replacement():
            await self._checkin(record)
        self._ledger.decide(self._ledger.want_look)

    async def _checkin(self, record: ConnectionRecord[ConnT]) -> None:
        try:
            # Within the bound of every return, as nobody is there to give up on it. A slot
            # that stands in for one that was lost has never been anybody's.
            checkin = self._checkins.checkin(record, quiet=record._serial == 0)
            await self._closer.complete(record, checkin)
        except Exception as error:
            self._log.exception("A checkin listener failed for a dropped lease", error)
