"""Fitness: whether a slot's connection will do, or another one is needed."""

from __future__ import annotations

import math
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import TypeVar

from .._core.record import ConnectionRecord
from .closes import CLOSE_TIMEOUT, Label
from .connects import Connects
from .job import Job

if TYPE_CHECKING:
    from .._core.lease import Lease

ConnT = TypeVar("ConnT")

PING_TIMEOUT: Final = 5.0
"""Seconds that a server has to answer a ping. A blocking driver in a blocking pool can't be
stopped; its own timeouts count there."""


class Fitness(Connects[ConnT]):
    """Looks at age and health of connections, and replaces those that won't do."""

    __slots__ = ()

    async def _ready(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        """See to it that the slot has a connection that is fit for use."""
        await self._part_with_unfit(record)
        if record.connection is None:
            await self._open(lease, record)

    async def _part_with_unfit(self, record: ConnectionRecord[ConnT]) -> None:
        """Close the slot's connection if it is too old, or dead."""
        since = record._since
        if self._timed:
            record._since = self._runtime.now()
        if record.connection is None:
            return
        if self._is_stale(record):
            self._log.info("Connection %s exceeded its age; recycling", Label(record))
            await self._close(record, "recycle")
        elif self._is_ping_due(record, max(since, record._pinged_at)):
            await self._keep_if_alive(record)

    async def _keep_if_alive(self, record: ConnectionRecord[ConnT]) -> None:
        """Ping the server; close the connection if that fails."""
        error = await self._ping(record)
        if error is not None and not self._is_left(record):
            self._log.info("Connection %s is dead", Label(record))
            closing = self._invalidate_record(record, error, "ping")
            del error  # its traceback holds this frame, which would hold it and the lease
            await self._runtime.within(CLOSE_TIMEOUT, closing)

    def _is_ping_due(self, record: ConnectionRecord[ConnT], since: float) -> bool:
        idle: float = self._runtime.now() - since
        return idle > self._ping_after

    async def _ping(self, record: ConnectionRecord[ConnT]) -> Exception | None:
        """Make a round trip; return what went wrong."""
        driver, connection = record._driver, record.connection
        assert connection is not None
        ping = self._runtime.call(driver.blocking, driver.ping, connection)
        try:
            if not driver.blocking or self._runtime.blocking:
                done: bool = await self._runtime.within(PING_TIMEOUT, ping)
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
        job = Job(self._runtime, ping)
        try:
            done: bool = await self._runtime.within(PING_TIMEOUT, job.run())
            return done
        finally:
            if not job.done:
                self._leave_to(job, record)

    def _leave_to(self, job: Job, record: ConnectionRecord[ConnT]) -> None:
        """Leave a connection to a thread that nobody can wait for, nor stop.

        It is closed when the thread is done with it.
        """
        remains = self._take_connection(record)
        self._decide(self._note_close, "ping")
        job.afterwards = lambda _: self._spawn(self._close_and_restore(remains))

    def _is_left(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether the slot is left to a thread, with its connection."""
        return record._ending and record.connection is not None

    def _is_stale(self, record: ConnectionRecord[ConnT]) -> bool:
        return record._epoch != self._epoch or (
            record._expires_at < math.inf and self._runtime.now() > record._expires_at
        )
