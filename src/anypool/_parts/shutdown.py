"""Shutdown: how all of a pool ends: by close(), with its event loop, in a forked child."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic
from weakref import ref

from typing_extensions import TypeVar

from .._core import bounds
from .._core.process import process
from .._core.record import ConnectionRecord
from .._ledgers.ledger import Ledger
from .announcer import Announcer
from .closer import Closer
from .finalizers import terminate, terminate_connection

ConnT = TypeVar("ConnT")


class Shutdown(Generic[ConnT]):
    """Parts with all connections, wherever they are."""

    __slots__ = ("_announcer", "_closer", "_ledger", "_runtime")

    def __init__(
        self,
        ledger: Ledger[ConnT],
        runtime: Any,
        announcer: Announcer[ConnT],
        closer: Closer[ConnT],
    ) -> None:
        self._ledger = ledger
        self._runtime = runtime
        self._announcer = announcer
        self._closer = closer

    async def close(
        self, idle: list[ConnectionRecord[ConnT]], timeout: float | None
    ) -> None:
        """Close the pool for good.

        Args:
            idle: the slots that were idle when the ledger was closed.
            timeout: seconds to wait for what is out; None: no limit.
        """
        now = self._runtime.now
        deadline = None if timeout is None else now() + timeout
        try:
            await self._closer.close_at_once(idle)
            await self._wait_while(self._is_any_left, deadline)
        finally:
            # Whatever came between: nothing survives.
            self._give_up()
            left = 0.0 if deadline is None else deadline - now()
            left = min(max(1.0, left), bounds.CLOSE_TIMEOUT)
            try:
                await self._runtime.complete(self._let_end(left))
            finally:
                self._give_up(in_the_end=True)

    async def _let_end(self, seconds: float) -> None:
        """Wait for what goes on beside the callers, and what they are closing."""
        deadline = self._runtime.now() + seconds
        await self._runtime.settle(seconds, for_good=True)
        await self._wait_while(self._is_any_closing, deadline)

    async def _wait_while(
        self, condition: Callable[[], bool], deadline: float | None
    ) -> None:
        """Wait until no slot is in some state any more."""
        while True:
            gate = self._runtime.gate()
            self._ledger.closers.append(gate)
            left = None if deadline is None else deadline - self._runtime.now()
            if not condition() or (left is not None and left <= 0):
                return
            await self._runtime.wait(gate, left)

    def _is_any_left(self) -> bool:
        return bool(self._ledger.leases.out) or any(
            record.connection is not None for record in self._ledger.known_records()
        )

    def _is_any_closing(self) -> bool:
        return any(
            record._ending and record.connection is not None
            for record in self._ledger.known_records()
        )

    def _give_up(self, in_the_end: bool = False) -> None:
        """Part with all slots: those that are out, and those that somebody is returning.

        Those that somebody is closing get their time for that, but in the end.
        """
        ledger = self._ledger
        known = ledger.known_records()
        connecting = self._give_up_leases()
        for record in known:
            if record.connection is not None:
                if not record._ending:
                    self._closer.count("lost")
                    self._closer.abandon(record)
                elif not in_the_end:
                    continue
                elif not record._driver.blocking:
                    terminate_connection(record)
            elif record in connecting or ref(record) in ledger.connecting:
                continue  # who connects counts what arrives, and closes that
            ledger.decide(ledger.forget, record)

    def _give_up_leases(self) -> set[ConnectionRecord[ConnT] | None]:
        """End all leases; return the slots whose callers are still connecting."""
        leases, connecting = self._ledger.leases, set()
        for key in list(leases.out):
            lease = key() if isinstance(key, ref) else None
            if lease is not None and not lease._count:
                # Its caller will see that the pool is closed.
                connecting.add(leases.out.get(key))
                continue
            record = leases.out.pop(key, None)
            if lease is not None:
                leases.callers.pop(lease._caller, None)
                lease._clear()
            if record is not None and record.connection is not None:
                self._announcer.log.info(
                    "Connection %s was out for too long", record._label()
                )
        return connecting

    async def leave_loop(self) -> list[ConnectionRecord[ConnT]]:
        """The pool's event loop shuts down: return what is to be closed while it runs."""
        self._runtime.settled = False  # what is cancelled now is not to be replaced
        # What was begun beside the callers comes first: it may hold connections.
        await self._runtime.settle(bounds.END_TIMEOUT)
        records = [each for each in self._ledger.records() if each.connection is not None]
        self._abandon()
        self._runtime.depart()
        return records

    async def close_left(self, records: list[ConnectionRecord[ConnT]]) -> None:
        """Close what the pool had in an event loop that it has left."""
        for record in records:
            await self._runtime.within(
                bounds.CLOSE_TIMEOUT, self._closer.close(record, "dispose")
            )

    def move(self) -> None:
        """The pool's event loop is gone: leave its connections behind."""
        for record in self._abandon():
            if record.connection is not None:
                self._ledger.statistics.note_close("lost")
            terminate(record)

    def leave_to_parent(self) -> None:
        """In a forked child: all connections are the parent's, whose sockets they are."""
        # Those as well that a task or thread of the parent has at this moment.
        for record in self._abandon():
            process.spare(record, record.connection)
            record.connection = None
        self._ledger.statistics.clear()
        self._runtime.after_fork()

    def _abandon(self) -> set[ConnectionRecord[ConnT]]:
        records = self._ledger.abandon()
        self._announcer.clear()
        return records
