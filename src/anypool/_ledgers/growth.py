"""Growth: when an opened pool opens connections, and how many."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sized
from contextlib import suppress
from typing import Any, Final, Protocol
from weakref import ref

from typing_extensions import TypeVar

from .._core.record import ConnectionRecord
from .._core.waiter import Gate
from .backoff import Backoff
from .statistics import Statistics
from .surroundings import Surroundings

ConnT = TypeVar("ConnT")

AT_ONCE: Final = 5
"""Connects that may be under way where there is no connection yet that could return."""

RUSH_WINDOW: Final = 0.5
"""Seconds after which it is counted anew how quickly those who wait are served."""


def connects_wanted(
    *, waiting: int, live: int, connecting: int, use: float, connect: float
) -> int:
    """Tell how many more connects to begin for those who wait.

    One that waits is served by its own connect or by a return, whichever comes first. With
    `live` connections that each come back after `use` seconds, all are served by returns
    after ``waiting * use / live``; if that is less than a connect takes, another connection
    would come too late. How long uses will take is not known: those that last longer than
    any before count with the time that they have taken up to now. So a wrong guess costs a
    waiter at most as long again as a connect takes.

    Args:
        waiting: callers in the queue.
        live: connections that there are; with somebody waiting, all of them are out.
        connecting: connects under way.
        use: seconds that a connection is out, on average.
        connect: seconds that a connect takes, on average.
    """
    if live == 0:
        allowed = AT_ONCE
    elif connect > 0:
        allowed = max(1, math.ceil(waiting * use / connect) - live)
    else:
        allowed = waiting
    return max(0, min(waiting, allowed) - connecting)


class Rush:
    """How quickly those who wait are served, from when the first of them came."""

    __slots__ = ("served", "since")

    def __init__(self) -> None:
        self.begin(0.0)

    def begin(self, now: float) -> None:
        """Count anew."""
        self.since, self.served = now, 0

    def use_time(self, live: int, now: float) -> float:
        """Return for how long connections are out, going by how quickly those who wait are
        served; if none has been, by how long they have waited."""
        lasting = now - self.since
        use = lasting * live / self.served if self.served else lasting
        if lasting > RUSH_WINDOW:
            self.begin(now)
        return use


class Growing(Protocol[ConnT]):
    """What has to be known of a ledger to have it grow."""

    capacity: float
    connecting: dict[ref[ConnectionRecord[ConnT]], float]
    opened: bool
    statistics: Statistics
    surroundings: Surroundings
    suspended: bool
    total: int
    unstarted: deque[ConnectionRecord[ConnT]]

    @property
    def waiters(self) -> Sized: ...
    def check_open(self) -> None: ...
    def known_records(self) -> list[ConnectionRecord[ConnT]]: ...
    def new_slot(self) -> ConnectionRecord[ConnT] | None: ...


class Growth:
    """Decides for a QueuePool's ledger when to open connections.

    Attributes:
        min_size: how many connections an opened pool has at least.
        backoff: what became of the latest connects.
        rush: how quickly those who wait are served.
        ebbing: whether what is given up just now is not to be replaced at once.
        watchers: the gates of those who wait until the pool is warm.
    """

    __slots__ = ("backoff", "ebbing", "min_size", "rush", "watchers")

    def __init__(self, min_size: int) -> None:
        self.min_size = min_size
        self.clear()

    def clear(self) -> None:
        self.backoff = Backoff()
        self.rush = Rush()
        self.ebbing = False
        self.watchers: list[Any] = []

    def grow(self, ledger: Growing[Any]) -> None:
        """Begin as many connects as are of use now."""
        wanted = ledger.opened and not ledger.suspended and not self.ebbing
        if wanted and ledger.surroundings.settled:
            missing = self.min_size - ledger.total
            self.begin_connects(ledger, max(missing, self._wanted(ledger)))

    def _wanted(self, ledger: Growing[Any]) -> int:
        waiting, connecting = len(ledger.waiters), self.count_connecting(ledger)
        if waiting <= connecting or ledger.total >= ledger.capacity:
            return 0
        live = ledger.total - connecting
        return connects_wanted(
            waiting=waiting,
            live=live,
            connecting=connecting,
            use=self.rush.use_time(live, ledger.surroundings.now()),
            connect=ledger.statistics.mean_connect_time(),
        )

    def count_connecting(self, ledger: Growing[Any]) -> int:
        """Count the connects that are under way."""
        for reference in list(ledger.connecting):
            if reference() is None:
                del ledger.connecting[reference]  # lost by an interrupt
        return len(ledger.connecting)

    def begin_connects(self, ledger: Growing[Any], number: int) -> None:
        """Make slots that are to be connected in the background."""
        now = ledger.surroundings.now()
        if self.backoff.error is not None and number > 0:
            # One connect shows whether the server is back.
            due = now >= self.backoff.resume_at
            number = 1 if due and not self.count_connecting(ledger) else 0
        for _ in range(number):
            record = ledger.new_slot()
            if record is None:
                return
            ledger.connecting[ref(record)] = now
            ledger.unstarted.append(record)

    def connected(
        self,
        ledger: Growing[ConnT],
        record: ConnectionRecord[ConnT],
        failure: Exception | None,
    ) -> None:
        """Note what became of a connect in the background."""
        now = ledger.surroundings.now()
        ledger.connecting.pop(ref(record), None)
        if failure is not None:
            self.backoff.failed(failure, now)
        else:
            self.backoff.succeeded()
            if ledger.total - len(ledger.connecting) == 1:
                # Up to now there was nothing that could have served anybody.
                self.rush.begin(now)
        self.tell_watchers()

    def watch(self, ledger: Growing[Any], gate: Gate, size: int) -> int:
        """Return how many connections are missing; if any are, the gate opens later."""
        ledger.check_open()
        missing = size - sum(
            record.connection is not None
            and not record._ending
            and ref(record) not in ledger.connecting
            for record in ledger.known_records()
        )
        if missing <= 0 or not ledger.opened:
            return 0
        self.watchers.append(gate)
        if not ledger.suspended:
            self.begin_connects(ledger, size - ledger.total)
        return missing

    def tell_watchers(self) -> None:
        """Have those who wait for connections look again."""
        while self.watchers:
            with suppress(RuntimeError):  # a thread that was told already
                self.watchers.pop().release()
