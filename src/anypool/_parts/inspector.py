"""Inspector: whether a connection may be handed out, or another one is needed."""

from __future__ import annotations

import math
from collections.abc import Coroutine
from typing import Any, Final, Generic

from typing_extensions import TypeVar

from .._core import bounds
from .._core.record import ConnectionRecord
from .._ledgers.ledger import Ledger
from .announcer import Label
from .background import Background
from .closer import Closer
from .job import Job

ConnT = TypeVar("ConnT")

FRESH: Final = 0.25
"""Seconds for which a new connection that nobody has had yet needs no ping."""


class Inspector(Generic[ConnT]):
    """Looks at age and health of connections, and closes those that won't do."""

    __slots__ = (
        "_background",
        "_closer",
        "_ledger",
        "_ping_after",
        "_runtime",
        "_timed",
        "log",
    )

    def __init__(
        self,
        ledger: Ledger[ConnT],
        background: Background,
        closer: Closer[ConnT],
        log: Any,
        *,
        ping_after: float,
    ) -> None:
        """Make one for a pool.

        Args:
            ledger: knows the current generation, and the time.
            background: for pings that nobody can wait for any more.
            closer: closes what won't do.
            log: is told of that.
            ping_after: seconds of idling after which a connection has to be pinged.
        """
        self._ledger = ledger
        self._timed = ledger.statistics.timed
        self._background = background
        self._runtime = background.runtime
        self._closer = closer
        self.log = log
        self._ping_after = ping_after

    # Without I/O.

    def is_ready(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether the connection may be handed out as it is; note the time."""
        return (
            record.connection is not None
            and record._generation == self._ledger.generation
            and (not self._timed or self.is_fit(record))
        )

    def is_fit(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether a connection is neither too old nor to be pinged; note the time."""
        now: float = self._runtime.now()
        fit = now <= record._expires_at and now - record._since <= self._ping_after
        if fit:
            record._since = now
        return fit

    def is_fresh(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether the connection was opened just now, for whoever comes first."""
        now = self._runtime.now()
        fresh = (
            record.connection is not None
            # Whatever its age: there is no younger one.
            and record._generation == self._ledger.generation
            and record._since == record._pinged_at  # nobody has had it yet
            and now - record._since < FRESH
        )
        if fresh:
            record._since = now
        return fresh

    def is_stale(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether the connection is too old."""
        return record._generation != self._ledger.generation or (
            record._expires_at < math.inf and self._runtime.now() > record._expires_at
        )

    def is_left(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether the slot is left to a thread, with its connection."""
        return record._ending and record.connection is not None

    def _is_ping_due(self, record: ConnectionRecord[ConnT], since: float) -> bool:
        idle: float = self._runtime.now() - since
        return idle > self._ping_after

    # With I/O.

    async def close_unfit(self, record: ConnectionRecord[ConnT]) -> None:
        """Close the slot's connection if it is too old, or dead."""
        since = record._since
        if self._timed:
            record._since = self._runtime.now()
        if record.connection is None:
            return
        if self.is_stale(record):
            self.log.info("Connection %s exceeded its age; recycling", Label(record))
            await self._closer.close(record, "recycle")
        elif self._is_ping_due(record, max(since, record._pinged_at)):
            await self.keep_if_alive(record)

    async def keep_if_alive(self, record: ConnectionRecord[ConnT]) -> None:
        """Ping the server; close the connection if that fails."""
        error = await self._ping(record)
        if error is not None and not self.is_left(record):
            self.log.info("Connection %s is dead", Label(record))
            closing = self._closer.invalidate(record, error, "ping")
            del error  # its traceback holds this frame, which would hold it and the lease
            await self._runtime.within(bounds.CLOSE_TIMEOUT, closing)

    async def _ping(self, record: ConnectionRecord[ConnT]) -> Exception | None:
        """Make a round trip; return what went wrong."""
        driver, connection = record._driver, record.connection
        assert connection is not None
        ping = self._runtime.call(driver.blocking, driver.ping, connection)
        try:
            if not driver.blocking or self._runtime.blocking:
                done: bool = await self._runtime.within(bounds.PING_TIMEOUT, ping)
            else:
                done = await self._ping_in_thread(record, ping)
        except Exception as error:
            return error
        # Whoever is cut short has to drop the slot: the answer may still be on its way, and
        # as long as the connection is not closed, no other may take its place.
        record._pinged_at = self._runtime.now()
        return None if done else TimeoutError("a ping was not answered")

    async def _ping_in_thread(
        self, record: ConnectionRecord[ConnT], ping: Coroutine[Any, Any, None]
    ) -> bool:
        job = Job(self._background, ping)
        try:
            done: bool = await self._runtime.within(bounds.PING_TIMEOUT, job.run())
            return done
        finally:
            if not job.done:
                self._leave_to(job, record)

    def _leave_to(self, job: Job, record: ConnectionRecord[ConnT]) -> None:
        """Leave a connection to a thread that nobody can wait for, nor stop.

        It is closed when the thread is done with it.
        """
        remains = self._closer.move_out(record)
        self._closer.count("ping")
        job.afterwards = lambda _: self._background.spawn(
            self._closer.close_remains(remains)
        )


class QueueInspector(Inspector[ConnT]):
    """Leaves the slot to the thread as well, where the number of connections is limited."""

    __slots__ = ()

    def _leave_to(self, job: Job, record: ConnectionRecord[ConnT]) -> None:
        # As long as this connection is there, no other may take its place.
        out = self._ledger.leases.out
        for key in list(out):
            if out.get(key) is record:
                del out[key]
        out[job], record._ending = record, True
        job.afterwards = lambda job: self._end_left(job, record)  # which holds no job

    def _end_left(self, job: Job, record: ConnectionRecord[ConnT]) -> None:
        self._ledger.leases.out.pop(job, None)
        self._background.spawn(self._closer.close_slot(record, "ping"))
