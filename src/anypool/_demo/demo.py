"""Demo: the same load through pools and without them, and what came of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import anyio

from .bank import Bank
from .load import Load, Watch
from .pools import Pools
from .report import LoadFigures, Report

UNPOOLED_SHARE: Final = 0.5
"""How long the load runs without pools, as a share of the time that it has with them."""

Announce: TypeAlias = Callable[[str, float], Watch]
"""Is told of each load before it runs, its name and its seconds; returns who watches it."""


@dataclass(frozen=True)
class Demo:
    """The same load through pools and without them."""

    seconds: float
    """How long to run through the pools."""
    tasks: int
    """How many of them use aiosqlite."""
    threads: int
    """How many of them use sqlite3."""
    pool_size: int
    """Connections in the tasks' pool, and as many in the threads'."""

    def run(self, bank: Bank, announce: Announce) -> Report:
        """Run it on the accounts of `bank`, and report."""
        with warnings.catch_warnings(record=True) as caught:
            # Of each lease that the demo drops on purpose the pools give such a warning.
            warnings.simplefilter("always", ResourceWarning)
            sum_before = bank.total()
            pooled, unpooled, out = anyio.run(self._run_loads, bank, announce)
        return Report(
            tasks=self.tasks,
            threads=self.threads,
            pool_size=self.pool_size,
            pooled=pooled,
            unpooled=unpooled,
            sum_before=sum_before,
            sum_after=bank.total(),
            connections_out=out,
            leaks_reported=sum("dropped without close" in str(w.message) for w in caught),
        )

    async def _run_loads(
        self, bank: Bank, announce: Announce
    ) -> tuple[LoadFigures, LoadFigures, int]:
        pooled = Load(
            bank, Pools.of_size(self.pool_size, bank.path), self.tasks, self.threads
        )
        await pooled.run(self.seconds, announce("with pools", self.seconds))
        out = await pooled.settle()
        unpooled = Load(bank, Pools.keeping_none(bank.path), self.tasks, self.threads)
        seconds = self.seconds * UNPOOLED_SHARE
        await unpooled.run(seconds, announce("without", seconds))
        await unpooled.settle()
        return LoadFigures.of(pooled), LoadFigures.of(unpooled), out
