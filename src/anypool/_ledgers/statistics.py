"""Statistics: what a pool counts as it goes."""

from __future__ import annotations

from typing import Any

from .._core.histogram import Tally
from .._core.record import ConnectionRecord
from .._core.stats import CloseReason


class Statistics:
    """Counters and times; changed only by decisions of the ledger.

    Attributes:
        timed: whether it is noted when connections go out and come back. Two looks at the
            clock take 0.3 µs, beside some 1.1 for all of a cycle (CPython 3.11).
    """

    __slots__ = (
        "cancelled",
        "checkouts",
        "closed",
        "connect_times",
        "dirty",
        "disconnects",
        "failed",
        "failure",
        "leaks",
        "opened",
        "refused",
        "timed",
        "timeouts",
        "use_times",
        "wait_times",
    )

    def __init__(self, timed: bool) -> None:
        self.timed = timed
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.checkouts = self.timeouts = self.cancelled = self.refused = 0
        self.opened = self.failed = self.disconnects = self.dirty = self.leaks = 0
        self.closed: dict[CloseReason, int] = {}
        self.wait_times, self.use_times, self.connect_times = Tally(), Tally(), Tally()
        # The class of the latest connect's error; None if it succeeded.
        self.failure: str | None = None

    def note_opened(self, seconds: float) -> None:
        self.opened += 1
        self.connect_times.add(seconds)
        self.failure = None

    def note_failed(self, error: type[BaseException]) -> None:
        self.failed += 1
        self.failure = error.__name__

    def note_wait(self, seconds: float) -> None:
        self.wait_times.add(seconds)

    def note_refused(self) -> None:
        self.refused += 1

    def note_disconnect(self) -> None:
        self.disconnects += 1

    def note_timeout(self) -> None:
        self.timeouts += 1

    def note_cancelled(self) -> None:
        self.cancelled += 1

    def note_close(self, reason: CloseReason) -> None:
        self.closed[reason] = self.closed.get(reason, 0) + 1

    def take_over(self, record: ConnectionRecord[Any]) -> None:
        """Keep what is noted in the record of a slot that is about to go."""
        self.checkouts += record._checkouts
        self.dirty += record._dirty
        record._checkouts = record._dirty = 0
        if record._uses is not None:
            self.use_times.merge(record._uses)
            record._uses = None

    def mean_connect_time(self) -> float:
        """Return the seconds that a connect takes, on average."""
        return self.connect_times.total / max(1, self.opened)
