"""Keeper: what an opened QueuePool does beside its callers."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, Generic
from weakref import ref

from typing_extensions import TypeVar

from .._core import bounds
from .._core.record import ConnectionRecord
from .._ledgers.queue import QueueLedger
from .._runtimes.thread import AwaitableCreator
from .background import Background
from .care import Care
from .closer import Closer
from .connector import Connector
from .inspector import Inspector
from .leakwatch import LeakWatch

ConnT = TypeVar("ConnT")

RENEW_AT_ONCE: Final = 2
"""How many connections are replaced at a time, so that the others can serve meanwhile."""

LOOK_EVERY: Final = 1.0
"""Seconds between looks at idle connections: idle ones that come back tell nobody."""


class Keeper(Generic[ConnT]):
    """Connects, pings, renews and closes idle connections, and knows when.

    Attributes:
        misplaced: whether the creator of this blocking pool turned out to be one for an
            event loop.
    """

    __slots__ = (
        "__weakref__",
        "_background",
        "_care",
        "_closer",
        "_connector",
        "_inspector",
        "_keepalive",
        "_leaks",
        "_ledger",
        "_max_idle",
        "_runtime",
        "_timeout",
        "misplaced",
    )

    def __init__(
        self,
        ledger: QueueLedger[ConnT],
        background: Background,
        closer: Closer[ConnT],
        connector: Connector[ConnT],
        inspector: Inspector[ConnT],
        *,
        max_idle: float | None,
        keepalive: float | None,
        timeout: float | None,
        leaks: LeakWatch,
    ) -> None:
        """Make one for a pool.

        Args:
            ledger: knows what is idle, and decides on growth.
            background: begins the work.
            closer: closes what is not needed or too old.
            connector: opens connections.
            inspector: knows what is too old, and pings.
            max_idle: seconds after which an idle connection is closed; None: never.
            keepalive: seconds after which it is pinged; None: never.
            timeout: that of checkouts, in seconds; None: no limit.
            leaks: looks for leaks.
        """
        self._ledger = ledger
        self._background = background
        self._runtime = background.runtime
        self._closer = closer
        self._connector = connector
        self._inspector = inspector
        self._max_idle = max_idle
        self._keepalive = keepalive
        self._timeout = timeout
        self._leaks = leaks
        self._care: Care | None = None
        self.misplaced = False

    # When it is at work.

    def start(self) -> None:
        """Look after the pool from now on, if it is open."""
        care = self._ledger.decide(self._present_care)
        if care is not None:
            care.start()

    def _present_care(self) -> Care | None:
        if self._ledger.opened and (self._care is None or self._care.is_over()):
            log = self._inspector.log
            self._care = Care(ref(self), self._background, log)
        return self._care

    def resume(self) -> None:
        """Look after an open pool where it is now: in a new event loop, in a forked
        process, or after all tasks have been cancelled."""
        if self._ledger.opened and (self._care is None or not self._care.at_work):
            self.start()

    def stop(self) -> None:
        """Look no more, for now."""
        if self._care is not None:
            self._care.end()

    def let_go(self) -> None:
        """The same, from a finalizer: in any thread, and without reviving the pool."""
        care = self._care
        if care is not None:
            care.ended = True
            self._runtime.post(care.kick)

    def clear(self) -> None:
        """The place where it looked is gone."""
        self._care = None
        self.misplaced = False

    def kick(self) -> None:
        """Have a look at once."""
        if self._care is not None:
            self._care.kick()

    def tend(self) -> float:
        """See what is due, and begin it.

        Returns:
            Seconds until there may be something again.
        """
        ledger, now = self._ledger, self._runtime.now()
        if now >= self._leaks.due:
            self._leaks.look()
        ledger.decide(ledger.growth.grow, ledger)
        for record, work in ledger.decide(self._take_due, now):
            self._background.start(work(record))
        return ledger.decide(self._next_look, now)

    # What is due.

    def _take_due(self, now: float) -> list[tuple[ConnectionRecord[ConnT], Any]]:
        """Take idle connections that need something out of the queue."""
        due: list[tuple[ConnectionRecord[ConnT], Any]] = []
        ledger = self._ledger
        surplus = ledger.total - ledger.growth.min_size
        for record in list(ledger.idle):
            work = self._work_for(record, now, surplus > 0)
            if work is None or not ledger.take_idle(record):
                continue
            if work == self._close_idle:
                surplus -= 1
            elif work == self._renew:
                ledger.connecting[ref(record)] = now
            due.append((record, work))
        return due

    def _work_for(self, record: ConnectionRecord[ConnT], now: float, surplus: bool) -> Any:
        ledger = self._ledger
        idle = now - record._since
        unused = now - max(record._since, record._pinged_at)
        may_go = surplus and not record._holds_data
        if may_go and self._max_idle is not None and idle > self._max_idle:
            return self._close_idle
        if self._inspector.is_stale(record):
            crowded = len(ledger.connecting) >= RENEW_AT_ONCE
            failing = ledger.growth.backoff.error is not None
            return None if crowded or failing else self._renew
        if self._keepalive is not None and unused > self._keepalive:
            return self._keep_alive
        return None

    def _next_look(self, now: float) -> float:
        ledger, delay = self._ledger, max(0.0, self._leaks.due - now)
        if (
            self._connector.recycle >= 0
            or self._max_idle is not None
            or self._keepalive is not None
            or any(r._generation != ledger.generation for r in list(ledger.idle))
        ):
            delay = min(delay, LOOK_EVERY)
        wanting = bool(ledger.waiters) or ledger.total < ledger.growth.min_size
        if wanting and ledger.total < ledger.capacity and not ledger.suspended:
            backoff = ledger.growth.backoff
            if backoff.error is None:
                connect = ledger.statistics.mean_connect_time()
                delay = min(delay, max(0.002, min(connect / 10, 0.05)))
            elif not ledger.connecting:
                delay = min(delay, max(0.001, backoff.resume_at - now))
        return delay

    # The work.

    async def _close_idle(self, record: ConnectionRecord[ConnT]) -> None:
        await self._closer.close_slot(record, "idle")

    async def _renew(self, record: ConnectionRecord[ConnT]) -> None:
        """Replace a connection that is too old, before somebody needs it."""
        try:
            reason = self._closer.surplus_reason(record)
            reason = "recycle" if reason == "overflow" else reason
            closing = self._closer.close(record, reason)
            await self._runtime.within(bounds.CLOSE_TIMEOUT, closing)
        except BaseException:
            self._drop_cancelled(record)
            raise
        await self._connect(record)

    async def _keep_alive(self, record: ConnectionRecord[ConnT]) -> None:
        inspector = self._inspector
        try:
            await inspector.keep_if_alive(record)
        except BaseException:
            if not inspector.is_left(record):
                self._drop_cancelled(record)
            raise
        if not inspector.is_left(record):
            self._closer.put_back(record)

    def begin_connects(self) -> None:
        """Begin to connect the slots that the ledger has made for that."""
        unstarted = self._ledger.unstarted
        while unstarted:
            with suppress(IndexError):  # another thread was quicker
                self._background.start(self._connect(unstarted.popleft()))

    async def _connect(self, record: ConnectionRecord[ConnT]) -> None:
        """Open a slot's connection for whoever comes first."""
        ledger, closer = self._ledger, self._closer
        if ledger.closed:
            closer.put_back(record)
            return
        failure: Exception | None = None
        try:
            limit = max(bounds.CONNECT_TIMEOUT, self._timeout or 0.0)
            await self._runtime.within(limit, self._connector.connect(record))
            if record.connection is None:
                failure = TimeoutError("the connect took too long")
        except AwaitableCreator as found:
            if isinstance(found.awaitable, Coroutine):
                found.awaitable.close()
            ledger.decide(self._note_misplaced, record)
            closer.put_back(record)
            return
        except Exception as error:
            failure = error
        except BaseException:
            self._drop_cancelled(record)
            raise
        cut_short = record.connection is not None and record._ending
        if cut_short:
            failure = TimeoutError("a connect listener took too long")
        ledger.decide(ledger.growth.connected, ledger, record, failure)
        del failure  # or else it and its traceback would hold each other
        if cut_short:
            closer.drop(record)
        else:
            closer.put_back(record)
        self.kick()

    def _note_misplaced(self, record: ConnectionRecord[ConnT]) -> None:
        # From here on each caller connects by itself; the facade sees to what comes then.
        ledger = self._ledger
        self.misplaced, ledger.opened = True, False
        self.stop()
        ledger.connecting.pop(ref(record), None)
        ledger.growth.tell_watchers()

    def _drop_cancelled(self, record: ConnectionRecord[ConnT]) -> None:
        """Drop a slot that something was done to in the background.

        Who cancels that, cancels all there is, since the event loop is about to end. If it
        goes on, the next look at the pool sees to another connection.
        """
        with self._ledger.no_replacement():
            self._closer.drop(record)
        self.kick()
