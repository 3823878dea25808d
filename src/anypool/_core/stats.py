"""PoolStats: what a pool has, and what it has done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from .histogram import Histogram

CloseReason: TypeAlias = Literal[
    "recycle", "idle", "invalid", "ping", "reset", "listener", "overflow", "dispose", "lost"
]
"""Why a pool closed a connection: its age; nobody needed it for long; it was invalidated,
or its driver said that it was lost; a ping failed; its reset failed; a listener failed;
there were more than the pool keeps; the pool was disposed, drained or closed; or its caller
was cut short."""


class PoolStats(NamedTuple):
    """A snapshot of a pool. Times are in seconds.

    What is counted or summed up never becomes less in the life of a pool.

    Attributes:
        size: Slots that there are: idle, checked out or connecting.
        idle: Slots that the pool itself has.
        checked_out: Leases that are out. Nested ones of one caller are one.
        connecting: Connections that are being opened in the background.
        waiting: Callers that wait for a connection.
        oldest_wait: For how long the first of them has been waiting.
        checkouts: How often a connection was handed out, nested checkouts excepted.
        waits: How often a caller had to wait for that.
        timeouts: How often a checkout ran into its timeout.
        cancelled: How often a caller left while it was waiting.
        refused: How often a caller was refused, since too many waited already.
        returned_dirty: How often a connection came back with something to roll back, as far
            as its driver can tell.
        leaks: How often somebody had a connection for longer than `leak_after`.
        disconnects: How often an error meant that a connection was lost.
        opened: Connections that were opened.
        failed: Connects that failed.
        closed: Connections that were closed, by reason; detached ones are not the pool's.
        wait_time: Time that callers spent waiting, summed up.
        use_time: Time that connections were checked out, summed up when they return; None
            where it isn't measured: see the option `use_times`.
        connect_time: Time that connecting took, summed up.
        wait_times: How long callers waited, those who had to.
        use_times: How long connections were checked out; None where it isn't measured.
        connect_times: How long connecting took.
    """

    size: int
    idle: int
    checked_out: int
    connecting: int
    waiting: int
    oldest_wait: float
    checkouts: int
    waits: int
    timeouts: int
    cancelled: int
    refused: int
    returned_dirty: int
    leaks: int
    disconnects: int
    opened: int
    failed: int
    closed: Mapping[CloseReason, int]
    wait_time: float
    use_time: float | None
    connect_time: float
    wait_times: Histogram
    use_times: Histogram | None
    connect_times: Histogram

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values, for JSON."""
        values = self._asdict()
        values["closed"] = dict(self.closed)
        for name in ("wait_times", "use_times", "connect_times"):
            times: Histogram | None = values[name]
            values[name] = None if times is None else times.as_dict()
        return values
