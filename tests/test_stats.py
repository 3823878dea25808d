"""Statistics, whatever threads and tasks do at random: consistent, and monotonic."""

from __future__ import annotations

import random
from typing import Any

import anyio.lowlevel
import pytest

import anypool

from .support.bounds import rounds, seeds
from .support.modes import Mode
from .test_remains import assert_monotonic

KINDS = ["QueuePool", "NullPool", "StaticPool", "Singleton"]


def consistent(stats: anypool.PoolStats, live: int, detached: int) -> None:
    """Assert what holds when nothing is in the middle of anything."""
    closed = sum(stats.closed.values())
    assert stats.opened - closed - detached == live, (stats, live, detached)
    assert (stats.waiting, stats.connecting, stats.oldest_wait) == (0, 0, 0)
    assert stats.size == stats.idle + stats.checked_out


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_at_random(mode: Mode, kind: str, is_open: bool) -> None:
    for seed in seeds(rounds(1, 100)):
        await _once(mode, kind, is_open, random.Random(seed))
        mode.world.connections.clear()


async def _once(mode: Mode, kind: str, is_open: bool, choice: random.Random) -> None:
    options: dict[str, Any] = {"pre_ping": choice.random() < 0.5}
    if kind == "QueuePool":
        options |= {"pool_size": 2, "max_overflow": 1, "min_size": 1, "timeout": 5}
    pool = mode.pool(kind, **options)
    if is_open:
        await mode.go(pool.open())
    mode.world.on["ping"] = lambda: _fail(choice, 0.2)
    mode.world.on["rollback"] = lambda: _fail(choice, 0.1)
    detached: list[Any] = []
    seen = [pool.stats()]
    done: list[int] = []

    async def use(own: random.Random) -> None:
        for _ in range(15):
            try:
                lease = await mode.go(pool.unique_connection(timeout=own.choice([0, 5])))
            except anypool.PoolTimeoutError:
                continue
            done.append(1)
            if not mode.blocking:
                await anyio.lowlevel.checkpoint()
            what = own.choice(["close"] * 6 + ["invalidate", "detach", "dispose", "drain"])
            if what == "invalidate":
                if lease.is_valid:
                    await mode.go(lease.invalidate())
            elif what == "detach" and kind in ("QueuePool", "NullPool"):
                await mode.go(lease.detach())
                detached.append(lease)
                continue
            elif what in ("dispose", "drain"):
                await mode.go(getattr(pool, what)())
            await mode.go(lease.close())
            look()

    def look() -> None:
        before, now = seen[-1], pool.stats()
        assert_monotonic(before, now)
        if not mode.blocking:  # in threads, another one may have looked in between
            seen.append(now)

    async with mode.group() as start:
        for _ in range(4):
            start(use, random.Random(choice.random()))
    mode.world.on.clear()
    look()
    if is_open:
        await mode.go(pool.wait(5))
    await mode.until(lambda: pool.stats().connecting == 0 and pool.stats().checked_out == 0)
    await mode.settle()
    mine = {lease.connection.number for lease in detached}
    await mode.until(lambda: pool.stats().size == pool.stats().idle)
    stats = pool.stats()
    assert stats.checkouts == len(done)
    consistent(stats, len(set(mode.world.open) - mine), len(detached))
    for lease in detached:
        await mode.go(lease.close())
    await mode.go(pool.close())
    assert_monotonic(stats, pool.stats())
    consistent(pool.stats(), 0, len(detached))
    assert not mode.world.open


def _fail(choice: random.Random, chance: float) -> None:
    if choice.random() < chance:
        raise ConnectionResetError
