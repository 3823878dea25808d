"""Statistics: what they count, and that they are consistent whatever is done at random."""

from __future__ import annotations

import random
import signal
import threading
import warnings
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import anypool

from .support.bounds import rounds, seeds
from .support.modes import Mode
from .support.opened import opened
from .test_remains import assert_monotonic

KINDS = ["QueuePool", "NullPool", "StaticPool", "AssertionPool", "Singleton"]
CROWDED = [kind for kind in KINDS if kind != "AssertionPool"]


async def test_stats(mode: Mode) -> None:
    pool, clock = await opened(mode, pool_size=1, max_overflow=1, use_times=True)
    first = await mode.go(pool.unique_connection())
    second = await mode.go(pool.unique_connection())
    stats = pool.stats()
    assert (stats.size, stats.checked_out, stats.idle, stats.waiting) == (2, 2, 0, 0)
    assert (stats.checkouts, stats.opened) == (2, 2)

    async def wait() -> None:
        async with mode.block(pool.connect()):
            pass

    async with mode.group() as start:
        start(wait)
        await mode.until(lambda: pool.stats().waiting == 1)
        clock.now += 3
        assert pool.stats().oldest_wait == 3
        await mode.go(first.close())
    with pytest.raises(anypool.PoolTimeoutError):
        lease = await mode.go(pool.unique_connection())
        await mode.go(pool.unique_connection(timeout=0))
    await mode.go(lease.close())
    clock.now += 2
    await mode.go(second.close())
    stats = pool.stats()
    assert stats.use_time == 3 + 5
    assert (stats.checkouts, stats.timeouts, stats.cancelled) == (4, 1, 0)
    assert stats.wait_time >= 3
    assert stats.waits >= 1
    assert (stats.size, stats.idle, stats.checked_out) == (1, 1, 0)
    assert stats.closed == {"overflow": 1}
    with pytest.raises(AttributeError):
        stats.size = 3
    with pytest.raises(TypeError):
        stats.closed["idle"] = 3
    await mode.go(pool.close())
    after = pool.stats()
    assert (after.size, after.checkouts, after.use_time) == (0, 4, 8)
    assert after.closed == {"overflow": 1, "dispose": 1}


async def test_cancelled_waiters_are_counted(mode: Mode) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0)
    lease = await mode.go(pool.connect())
    if mode.blocking:
        if mode.name == "portal" or not hasattr(signal, "pthread_kill"):
            pytest.skip("no interrupt comes through")
        main = threading.main_thread().ident
        assert main is not None

        async def interrupt() -> None:
            await mode.until(lambda: pool.stats().waiting == 1)
            signal.pthread_kill(main, signal.SIGINT)

        async with mode.group() as start:
            start(interrupt)
            with pytest.raises(KeyboardInterrupt):
                await mode.go(pool.unique_connection())
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.unique_connection().__aenter__)
            await mode.until(lambda: pool.stats().waiting == 1)
            tasks.cancel_scope.cancel()
    stats = pool.stats()
    assert (stats.cancelled, stats.timeouts, stats.waiting) == (1, 0, 0)
    assert stats.waits == 1
    await mode.go(lease.close())
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    await mode.go(pool.close())


@pytest.mark.parametrize("kind", KINDS)
async def test_stats_of_all_pools(mode: Mode, kind: str) -> None:
    pool = mode.pool(kind)
    for _ in range(3):
        async with mode.block(pool.connect()):
            stats = pool.stats()
            assert (stats.checked_out, stats.size) == (1, 1)
    stats = pool.stats()
    assert stats.checkouts == 3
    assert stats.opened == len(mode.world.connections)
    assert sum(stats.closed.values()) == stats.opened - len(mode.world.open)
    assert stats.use_time is None
    await mode.go(pool.close())
    stats = pool.stats()
    assert sum(stats.closed.values()) == stats.opened


async def test_use_times_are_measured_always_or_never(mode: Mode) -> None:
    pool, clock = await opened(mode, use_times=True)
    for _ in range(1200):
        async with mode.block(pool.connect()):
            clock.now += 1
    assert pool.stats().use_time == 1200
    async with mode.block(pool.connect()):
        clock.now += 100
        assert pool.stats().use_time == 1200
    assert pool.stats().use_time == 1300
    await mode.go(pool.close())
    pool, clock = await opened(mode)
    async with mode.block(pool.connect()):
        clock.now += 1
    assert pool.stats().use_time is None
    await mode.go(pool.close())


@pytest.mark.parametrize("how", ["close", "invalidate", "detach", "drop"])
async def test_use_ends_with_the_lease(mode: Mode, how: str) -> None:
    pool, clock = await opened(mode, use_times=True)
    leases = [await mode.go(pool.connect())]
    clock.now += 3
    if how == "drop":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            leases.clear()
            await mode.settle()  # without the GIL, it may be the loop's thread that warns
    else:
        await mode.go(getattr(leases[0], how)())
    await mode.until(lambda: pool.stats().checked_out == 0)
    clock.now += 5
    assert pool.stats().use_time == 3
    for lease in leases:
        await mode.go(lease.close())
    assert pool.stats().use_time == 3
    await mode.go(pool.close())


async def test_detached_connections_are_not_counted(mode: Mode) -> None:
    """However they are closed: they aren't the pool's any more."""
    pool = mode.pool()
    for close in ("close", "invalidate"):
        lease = await mode.go(pool.connect())
        await mode.go(lease.detach())
        await mode.go(getattr(lease, close)())
    assert not mode.world.open
    assert pool.stats().closed == {}


# At random.


def consistent(stats: anypool.PoolStats, live: int, detached: int) -> None:
    """Assert what holds when nothing is in the middle of anything."""
    closed = sum(stats.closed.values())
    assert stats.opened - closed - detached == live, (stats, live, detached)
    assert (stats.waiting, stats.connecting, stats.oldest_wait) == (0, 0, 0)
    assert stats.size == stats.idle + stats.checked_out


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("kind", CROWDED)
async def test_at_random(mode: Mode, kind: str, is_open: bool) -> None:
    for seed in seeds(rounds(1, 100)):
        await _once(mode, kind, is_open, random.Random(seed))
        mode.world.connections.clear()


async def _once(mode: Mode, kind: str, is_open: bool, choice: random.Random) -> None:
    options: dict[str, Any] = {"pre_ping": choice.random() < 0.5, "use_times": True}
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
