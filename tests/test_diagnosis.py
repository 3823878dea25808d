"""Diagnosis: a pool says why it has no connection, and who has them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

import anypool
from anypool import sync
from anypool._core.histogram import BOUNDS, Tally

from .support.modes import Mode
from .support.opened import look, opened

Cause = anypool.Cause
TINY = 0.05
KINDS = ["QueuePool", "NullPool", "StaticPool", "AssertionPool", "Singleton"]


def small(mode: Mode, size: int = 1, **options: Any) -> Any:
    return mode.pool(pool_size=size, max_overflow=0, **options)


async def fails(mode: Mode, pool: Any, timeout: float = TINY) -> anypool.PoolReport:
    """Run a checkout into its timeout; return what the pool says."""
    with pytest.raises(anypool.PoolTimeoutError) as caught:
        await mode.go(pool.unique_connection(timeout=timeout))
    report = caught.value.report
    assert report is not None
    assert str(caught.value) == report.text() == str(report)
    assert (report.timeout, report.name) == (timeout, "QueuePool")
    first, *others = report.text().splitlines()
    assert first == report.headline
    assert first.endswith(f": {report.cause.value}")
    assert len(others) < 20
    assert "SECRET" not in report.text()
    assert json.loads(json.dumps(report.as_dict()))["cause"] == report.cause.value
    return report


# Leaks.


async def test_leak_of_a_caller_that_has_ended(mode: Mode) -> None:
    pool = small(mode)
    kept: list[Any] = []

    async def forget() -> None:
        kept.append(await mode.go(pool.unique_connection()))

    async with mode.group() as start:
        start(forget)
    report = await fails(mode, pool)
    assert report.cause is Cause.LEAK
    (holder,) = report.holders
    assert holder.file == __file__
    assert holder.function.endswith("forget")
    assert "ended" in holder.caller
    assert f"{__file__}:{holder.line}" in report.advice
    await mode.go(kept[0].close())
    assert pool.report().cause is Cause.NONE


async def test_leak_into_a_global_list(mode: Mode) -> None:
    pool = small(mode)
    kept: list[Any] = []

    async def forget() -> None:
        kept.append(await mode.go(pool.unique_connection()))

    async def live_on() -> None:
        await forget()
        await done.wait()

    done = mode.event()
    async with mode.group() as start:
        start(live_on)
        await mode.until(lambda: pool.stats().checked_out == 1)
        report = await fails(mode, pool)
        assert report.cause is Cause.LEAK
        assert "has left" in report.evidence
        assert "forget()" in report.evidence
        done.set()
    await mode.go(kept[0].close())


async def test_who_is_at_work_further_down_has_leaked_nothing(mode: Mode) -> None:
    pool = small(mode, 2)
    done = mode.event()

    async def handler() -> None:
        async with mode.block(pool.connect()):
            report = await fails(mode, pool)  # made by the task that runs, in its midst
            assert report.cause is Cause.SATURATED
            done.set()

    async def work() -> None:
        async with mode.block(pool.unique_connection()):
            await done.wait()

    async with mode.group() as start:
        start(work)
        await mode.until(lambda: pool.stats().checked_out == 1)
        await handler()


async def test_helpers_that_yield_or_enter_have_leaked_nothing(mode: Mode) -> None:
    pool = small(mode, 3)

    @contextlib.asynccontextmanager
    async def session() -> Any:
        async with mode.block(pool.unique_connection()) as connection:
            yield connection

    class Unit:
        async def __aenter__(self) -> None:
            self.lease = await mode.go(pool.unique_connection())

        async def __aexit__(self, *_: object) -> None:
            await mode.go(self.lease.close())

    async def work() -> None:
        async with session(), Unit(), contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(mode.block(pool.unique_connection()))
            await done.wait()

    done = mode.event()
    async with mode.group() as start:
        start(work)
        await mode.until(lambda: pool.stats().checked_out == 3)
        assert (await fails(mode, pool)).cause is Cause.SATURATED
        done.set()


async def test_parent_that_only_begins_a_nursery_awaits_nobody(mode: Mode) -> None:
    pool = small(mode, on_deadlock="raise")

    async def child() -> None:
        async with mode.block(pool.connect(timeout=5)):
            pass

    async def parent() -> None:
        async with mode.group() as start, mode.block(pool.connect()):
            start(child)
            await mode.until(lambda: pool.stats().waiting == 1)

    async with mode.group() as start:
        start(parent)


# Deadlocks.


async def test_nested_unique_connection(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    pool = small(mode)
    async with mode.block(pool.connect()):
        for _ in range(2):
            report = await fails(mode, pool)
            assert report.cause is Cause.DEADLOCK
            (link,) = report.ring
            assert link.count(f"{__file__}:") == 2
    with pytest.raises(anypool.PoolDeadlockError):
        async with mode.block(pool.connect()):
            await mode.go(pool.unique_connection(timeout=TINY))
    logged = [each for each in caplog.messages if each.startswith("Deadlock")]
    assert len(logged) == 2  # each ring once
    assert pool.stats().timeouts == 3


async def test_deadlock_raised_at_once(mode: Mode) -> None:
    pool = small(mode, on_deadlock="raise")
    async with mode.block(pool.connect()):
        with pytest.raises(anypool.PoolDeadlockError) as caught:
            await mode.go(pool.unique_connection(timeout=60))
    assert caught.value.report.waited < 30
    assert "timed out" not in caught.value.report.headline
    stats = pool.stats()
    assert (stats.waiting, stats.checked_out, stats.cancelled) == (0, 0, 0)
    async with mode.block(pool.connect()):
        pass


async def test_two_pools_that_wait_for_each_other(mode: Mode) -> None:
    left, right = (small(mode, on_deadlock="raise") for _ in range(2))
    both = [mode.event(), mode.event()]
    errors: list[anypool.PoolDeadlockError] = []

    async def take(mine: int, first: Any, second: Any) -> None:
        async with mode.block(first.connect()):
            both[mine].set()
            await both[1 - mine].wait()
            try:
                async with mode.block(second.connect(timeout=5)):
                    pass
            except anypool.PoolDeadlockError as error:
                errors.append(error)

    async with mode.group() as start:
        start(take, 0, left, right)
        start(take, 1, right, left)
    (error,) = errors  # whoever closed the ring; it gave way, and the other went on
    assert error.report is not None
    assert len(error.report.ring) == 2


async def test_lease_that_somebody_else_returns_is_no_deadlock(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    pool = small(mode)
    lease = await mode.go(pool.unique_connection())

    async def give_back() -> None:
        await mode.until(lambda: pool.stats().waiting == 1)
        await mode.go(lease.close())

    async with mode.group() as start:
        start(give_back)
        async with mode.block(pool.unique_connection(timeout=5)):
            pass
    assert pool.stats().timeouts == 0
    assert pool.report().cause is Cause.NONE


async def _await(child: Callable[[], Awaitable[None]]) -> None:
    await asyncio.create_task(child())


async def _gather(child: Callable[[], Awaitable[None]]) -> None:
    await asyncio.gather(child(), asyncio.sleep(0))


async def _task_group(child: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(child())


async def _wait_for(child: Callable[[], Awaitable[None]]) -> None:
    await asyncio.wait_for(asyncio.create_task(child()), 30)


async def _wait(child: Callable[[], Awaitable[None]]) -> None:
    (done,), _ = await asyncio.wait([asyncio.create_task(child())])
    done.result()


WAYS = [_await, _gather, _task_group, _wait_for, _wait]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__[1:])
def test_parent_that_awaits_its_child(way: Callable[..., Awaitable[None]]) -> None:
    mode = Mode("asyncio")
    pool = small(mode)

    async def child() -> None:
        report = await fails(mode, pool)
        assert report.cause is Cause.DEADLOCK
        assert "which it awaits" in report.ring[0]

    async def parent() -> None:
        async with pool.connect():
            await way(child)

    asyncio.run(parent())


def test_parent_that_races_its_child() -> None:
    mode = Mode("asyncio")
    pool = small(mode, on_deadlock="raise")

    async def child() -> None:
        async with pool.unique_connection(timeout=5):
            pass

    async def other() -> None:
        while not pool.stats().waiting:
            await asyncio.sleep(0)

    async def parent() -> None:
        async with pool.connect():
            tasks = [asyncio.create_task(work()) for work in (child, other)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*tasks)

    asyncio.run(parent())


def test_parent_that_does_not_await_its_child() -> None:
    mode = Mode("asyncio")
    pool = small(mode)

    async def parent() -> None:
        async with pool.connect():
            task = asyncio.create_task(fails(mode, pool))
            while not pool.stats().timeouts:
                await asyncio.sleep(0.01)
        assert (await task).cause is Cause.SATURATED

    asyncio.run(parent())


# Other causes.


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
    assert caught.value.report.cause is Cause.SUSPENDED
    pool.resume()
    assert pool.report().cause is Cause.NONE
    await mode.go(pool.close())


async def test_connects_fail(mode: Mode) -> None:
    refused = ConnectionRefusedError("password=SECRET")
    mode.world.fail["connect"] = refused
    pool = mode.pool(creator=partial(_connect, mode, password="SECRET"))
    await mode.go(pool.open())
    report = None
    with pytest.raises(anypool.PoolTimeoutError) as caught:
        await mode.go(pool.unique_connection(timeout=TINY))
    report = caught.value.report
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
        report = caught.value.report
        assert report is not None
        assert (report.cause, report.phase) == (Cause.CONNECTS_SLOW, "connecting")

    asyncio.run(main())


def test_loop_is_blocked() -> None:
    mode = Mode("asyncio")
    pool = small(mode)

    async def block() -> None:
        while not pool.stats().waiting:
            await asyncio.sleep(0)
        time.sleep(0.4)  # what nobody should do in a coroutine

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
    report = caught.value.report
    assert report is not None
    assert report.text() == str(caught.value)
    assert len(report.holders) == 1
    assert (report.stats.refused, pool.stats().refused, pool.stats().waits) == (1, 1, 0)


# What is logged.


async def test_leak_after(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    pool, clock = await opened(mode, leak_after=5)
    async with mode.block(pool.connect()):
        clock.now += 4
        await look(mode, pool)
        assert pool.stats().leaks == 0
        for _ in range(3):
            clock.now += 4
            await look(mode, pool)
            await mode.settle()
        await mode.until(lambda: pool.stats().leaks == 1)
    told = [each for each in caplog.messages if "too long" in each]
    assert len(told) == 1
    assert f"{__file__}:" in told[0]
    await mode.go(pool.close())


async def test_leak_after_takes_no_thread_or_task(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    counts = []
    for after in (None, 0.01):
        pool = mode.pool(leak_after=after)
        async with mode.block(pool.unique_connection()):
            async with mode.block(pool.unique_connection()):
                pass
            tasks = 0 if mode.blocking or mode.name == "trio" else len(asyncio.all_tasks())
            counts.append((tasks, threading.active_count() if mode.blocking else 0))
            if after is not None:
                await mode.until(lambda: _used(pool).leaks == 1 or mode.blocking)
                threading.Event().wait(0.02)
                async with mode.block(pool.unique_connection()):
                    pass
        if after is not None:
            assert pool.stats().leaks == 1
            assert sum("too long" in each for each in caplog.messages) == 1
        await mode.go(pool.close())
    assert counts[0] == counts[1] or mode.name == "portal"


def _used(pool: Any) -> anypool.PoolStats:
    stats: anypool.PoolStats = pool.stats()
    return stats


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


# Reports and counters.


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
