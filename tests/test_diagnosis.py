"""Diagnosis: a pool says why it has no connection, and who has them."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from functools import partial
from typing import Any

import anyio
import pytest

import anypool
from anypool import sync
from anypool._core.histogram import BOUNDS, Tally

from .support.failing import TINY, fails, said, small
from .support.modes import Mode
from .support.opened import opened

Cause = anypool.Cause


KINDS = ["QueuePool", "NullPool", "StaticPool", "AssertionPool", "Singleton"]


async def test_saturated(mode: Mode) -> None:
    pool = mode.pool(pool_size=1, max_overflow=1, use_times=True)
    done = mode.event()

    async def work() -> None:
        async with mode.block(pool.connect()):
            await done.wait()

    async def wait() -> None:
        assert (await fails(mode, pool)).cause is Cause.SATURATED

    async with mode.group() as start:
        for _ in range(2):
            start(work)
        await mode.until(lambda: pool.stats().checked_out == 2)
        async with mode.group() as start_waiting:
            for _ in range(2):
                start_waiting(wait)
        report = pool.report()
        assert (report.capacity, len(report.holders)) == (2, 2)
        assert "QueuePool limit of size 1 overflow 1" in (await fails(mode, pool)).headline
        assert report.load is not None
        assert report.load.endswith("of 2")
        done.set()
    assert pool.report().cause is Cause.NONE


async def test_suspended(mode: Mode) -> None:
    pool, _ = await opened(mode, pool_size=1)
    pool.suspend()
    with pytest.raises(anypool.PoolTimeoutError) as caught:
        await mode.go(pool.unique_connection(timeout=0))
    assert said(caught).cause is Cause.SUSPENDED
    assert "limit" not in said(caught).headline
    pool.resume()
    assert pool.report().cause is Cause.NONE
    await mode.go(pool.close())


async def test_connects_fail(mode: Mode) -> None:
    refused = ConnectionRefusedError("password=SECRET")
    mode.world.fail["connect"] = refused
    pool = mode.pool(creator=partial(_connect, mode, password="SECRET"))
    await mode.go(pool.open())
    with pytest.raises(anypool.PoolTimeoutError) as caught:
        await mode.go(pool.unique_connection(timeout=TINY))
    report = said(caught)
    assert report.cause is Cause.CONNECTS_FAILING
    assert report.connect_error == "ConnectionRefusedError"
    assert caught.value.__cause__ is refused
    assert "SECRET" not in str(caught.value) + json.dumps(report.as_dict())
    await mode.go(pool.close())


def _connect(mode: Mode, password: str) -> Any:
    return mode.world.connect()


def test_connects_are_slow() -> None:
    async def main() -> None:
        pool: Any = anypool.QueuePool(anyio.sleep_forever)
        with pytest.raises(anypool.PoolTimeoutError) as caught:
            await pool.unique_connection(timeout=TINY)
        report = said(caught)
        assert (report.cause, report.phase) == (Cause.CONNECTS_SLOW, "connecting")

    asyncio.run(main())


def test_loop_is_blocked() -> None:
    mode = Mode("asyncio")
    pool = small(mode)

    async def block() -> None:
        while not pool.stats().waiting:
            await asyncio.sleep(0)
        time.sleep(0.4)  # noqa: ASYNC251  # what nobody should do in a coroutine

    async def work(done: asyncio.Event) -> None:
        async with pool.connect():
            await done.wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(work(done := asyncio.Event()))
            group.create_task(block())
            report = await group.create_task(fails(mode, pool))
            done.set()
            assert report.cause is Cause.LOOP_STARVED
            assert report.waited is not None
            assert report.waited > 0.3

    asyncio.run(main())


async def test_too_many_waiters(mode: Mode) -> None:
    pool = small(mode, max_waiting=0)
    async with mode.block(pool.connect()):
        with pytest.raises(anypool.TooManyWaitersError) as caught:
            await mode.go(pool.unique_connection())
    report = said(caught)
    assert report.text() == str(caught.value)
    assert len(report.holders) == 1
    assert (report.stats.refused, pool.stats().refused, pool.stats().waits) == (1, 1, 0)


async def test_slow_checkout(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    pool, clock = await opened(mode, pool_size=1, max_overflow=0, slow_checkout=2)
    lease = await mode.go(pool.unique_connection())

    async def wait() -> None:
        async with mode.block(pool.connect(timeout=100)):
            pass

    async with mode.group() as start:
        for seconds in (1, 3):
            start(wait)
            await mode.until(lambda: pool.stats().waiting == 1)
            clock.now += seconds
            await mode.go(lease.close())
            await mode.until(lambda: pool.stats().checked_out == 0)
            lease = await mode.go(pool.unique_connection())
    await mode.go(lease.close())
    told = [each for each in caplog.messages if each.startswith("Slow checkout")]
    assert [each.split(";")[0] for each in told] == ["Slow checkout: waited 3.00 s"]
    await mode.go(pool.close())


@pytest.mark.parametrize("kind", KINDS)
async def test_report_and_holders_of_all_pools(mode: Mode, kind: str) -> None:
    pool = mode.pool(kind, name="orders")
    async with mode.block(pool.connect()):
        (holder,) = pool.holders()
        line = sys._getframe().f_lineno - 2
        assert (holder.file, holder.line, holder.uses) == (__file__, line, 1)
        assert holder.age >= 0
        assert holder.since <= time.time()
        report = pool.report()
        assert report.name.endswith("'orders'")
        assert report.headline == f"{report.name}: none"
        json.dumps(report.as_dict())
    assert pool.holders() == ()
    await mode.go(pool.close())


def test_report_through_over() -> None:
    async def main() -> None:
        pool = anypool.QueuePool(Mode("asyncio").world.connect)
        facade = sync.over(pool)
        async with pool.connect():
            report = await asyncio.to_thread(facade.report)
            assert report.holders[0].file == __file__
            assert len(await asyncio.to_thread(facade.holders)) == 1

    asyncio.run(main())


def test_percentiles() -> None:
    numbers = random.Random(1)
    for size in (1, 2, 10, 1000):
        tally = Tally()
        values = sorted(numbers.choice((numbers.random(), 70.0)) for _ in range(size))
        for value in values:
            tally.add(value)
        histogram = tally.snapshot()
        assert histogram.count == size
        assert histogram.total == pytest.approx(sum(values))
        for percent in (0, 1, 50, 90, 99, 100):
            true = values[max(0, -(-size * percent // 100) - 1)]
            bounds = [bound for bound in BOUNDS if bound >= true]
            assert histogram.percentile(percent) == (bounds or [float("inf")])[0]
    assert Tally().snapshot().percentile(50) is None
    with pytest.raises(ValueError, match="percent"):
        histogram.percentile(101)


async def test_counters(mode: Mode) -> None:
    pool = mode.pool(use_times=True, is_disconnect=ConnectionError)
    async with mode.block(pool.connect()):
        pass
    with pytest.raises(ConnectionError):
        async with mode.block(pool.connect()):
            raise ConnectionError
    stats = pool.stats()
    assert (stats.disconnects, stats.leaks, stats.refused) == (1, 0, 0)
    assert stats.use_times.count == 2
    assert stats.connect_times.count == stats.opened == 1
    assert stats.connect_times.total == stats.connect_time
    json.dumps(stats.as_dict())
    await mode.go(pool.close())
