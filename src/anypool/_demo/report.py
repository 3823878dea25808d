"""Report: what the demo has found, and whether the books balance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from .fate import Fate
from .load import Load
from .tally import Tally


@dataclass(frozen=True)
class Figures:
    """What the tasks of one load have done, or its threads. Times are in seconds."""

    transactions: int
    transactions_per_second: float
    wait_median: float
    """Of all checkouts: half of them took no longer than this."""
    wait_p99: float
    transfer_median: float
    """Of all completed transfers, from before the checkout to after the return."""
    transfer_p99: float
    connections_opened: int
    mishaps: dict[str, int]
    """How many transfers went wrong on purpose, by kind."""

    @classmethod
    def of(cls, tallies: Iterable[Tally], opened: int, seconds: float) -> Self:
        """Sum up what some tellers have done in so many seconds."""
        fates: Counter[Fate] = Counter()
        waits: list[float] = []
        transfers: list[float] = []
        for tally in tallies:
            fates.update(tally.fates)
            waits.extend(tally.waits)
            transfers.extend(tally.transfers)
        waits.sort()
        transfers.sort()
        completed = fates.pop(Fate.COMPLETED, 0)
        return cls(
            transactions=completed,
            transactions_per_second=completed / seconds,
            wait_median=percentile(waits, 50),
            wait_p99=percentile(waits, 99),
            transfer_median=percentile(transfers, 50),
            transfer_p99=percentile(transfers, 99),
            connections_opened=opened,
            mishaps={
                fate.value: fates[fate] for fate in Fate if fate is not Fate.COMPLETED
            },
        )


@dataclass(frozen=True)
class LoadFigures:
    """What the tasks and the threads of one load have done."""

    seconds: float
    """How long they worked."""
    tasks: Figures
    threads: Figures

    @classmethod
    def of(cls, load: Load) -> Self:
        """Sum up a load that has run."""
        pools, seconds = load.pools, load.seconds
        tasks = [teller.tally for teller in load.tasks]
        threads = [teller.tally for teller in load.threads]
        return cls(
            seconds,
            Figures.of(tasks, pools.task_listener.opened, seconds),
            Figures.of(threads, pools.thread_listener.opened, seconds),
        )

    @property
    def transactions_per_second(self) -> float:
        """Of tasks and threads together."""
        return self.tasks.transactions_per_second + self.threads.transactions_per_second


@dataclass(frozen=True)
class Report:
    """What the demo has found. Sums are in cents."""

    tasks: int
    threads: int
    pool_size: int
    """Connections for the tasks, and as many for the threads."""
    pooled: LoadFigures
    unpooled: LoadFigures
    """The same work with a connection opened for each transfer."""
    sum_before: int
    sum_after: int
    connections_out: int
    """How many are still checked out, though nobody works any more."""
    leaks_reported: int
    """How many dropped leases the pools gave a warning of."""

    @property
    def balanced(self) -> bool:
        """Whether no money was lost or made."""
        return self.sum_after == self.sum_before

    @property
    def exit_status(self) -> int:
        """0 if the books balance and all connections are back, else 1."""
        return 0 if self.balanced and not self.connections_out else 1

    def as_json(self) -> dict[str, Any]:
        """Return all of it in types that JSON has."""
        return asdict(self) | {"balanced": self.balanced}


def percentile(ascending: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of all values don't exceed; of none, 0."""
    if not ascending:
        return 0.0
    return ascending[max(math.ceil(len(ascending) * percent / 100), 1) - 1]
