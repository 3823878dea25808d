"""Load: tasks and threads that move money at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final, TypeAlias

import anyio
import anyio.to_thread

from .bank import Bank
from .pools import Pools
from .task_teller import TaskTeller
from .thread_teller import ThreadTeller

TICK: Final = 0.1
"""Seconds between two looks at a running load."""

STRAGGLERS: Final = 5.0
"""Seconds that dropped leases are given to come back to their pool."""


@dataclass(frozen=True)
class Pulse:
    """A running load at one moment."""

    elapsed: float
    """Seconds since it began."""
    completed: int
    """Transfers so far."""
    out: int
    """Connections that are checked out."""


Watch: TypeAlias = Callable[[Pulse], None]


class Load:
    """Tasks and threads that move money at the same time, each through a pool of theirs."""

    def __init__(self, bank: Bank, pools: Pools, tasks: int, threads: int) -> None:
        self.pools = pools
        self.tasks = [TaskTeller(number, bank, pools.tasks) for number in range(tasks)]
        self.threads = [
            ThreadTeller(number, bank, pools.threads) for number in range(threads)
        ]
        self.seconds = 0.0
        """How long they worked, from the first checkout to the last return."""

    async def run(self, seconds: float, watch: Watch) -> None:
        """Let all of them work for so many seconds, and finish what they are at.

        `watch` is told every TICK how it goes.
        """
        closing = threading.Event()
        limiter = anyio.CapacityLimiter(len(self.threads))
        started = perf_counter()
        async with anyio.create_task_group() as group:
            for task in self.tasks:
                group.start_soon(task.work, closing)
            for thread in self.threads:
                group.start_soon(_in_thread, thread, closing, limiter)
            try:
                while (elapsed := perf_counter() - started) < seconds:
                    watch(self._pulse(elapsed))
                    await anyio.sleep(min(TICK, seconds - elapsed))
            finally:
                # Whatever ends the wait: threads don't hear of a cancellation.
                closing.set()
        self.seconds = perf_counter() - started
        watch(self._pulse(self.seconds))

    async def settle(self) -> int:
        """Wait until the dropped leases are back; return how many connections are not.

        Afterwards the pools are disposed of.
        """
        with anyio.move_on_after(STRAGGLERS):
            # Nobody announces the return of a lease that nobody has.
            while self.pools.checkedout():  # noqa: ASYNC110
                await anyio.sleep(0.001)
        out = self.pools.checkedout()
        await self.pools.dispose()
        return out

    def _pulse(self, elapsed: float) -> Pulse:
        tellers: Sequence[TaskTeller | ThreadTeller] = [*self.tasks, *self.threads]
        completed = sum(teller.tally.completed for teller in tellers)
        return Pulse(elapsed, completed, self.pools.checkedout())


async def _in_thread(
    teller: ThreadTeller, closing: threading.Event, limiter: anyio.CapacityLimiter
) -> None:
    await anyio.to_thread.run_sync(teller.work, closing, limiter=limiter)
