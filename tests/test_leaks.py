"""Leaks: who has left its connection behind, and who only seems to."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import anypool

from .support.failing import fails, small
from .support.modes import Mode
from .support.opened import look, opened

Cause = anypool.Cause


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
    async def session() -> AsyncIterator[Any]:
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
    # The first of a process's pools may begin what is there for all.
    counts = [await _count_busy(mode, after) for after in (None, None, 0.01)]
    assert counts[1] == counts[2]
    assert sum("too long" in each for each in caplog.messages) == 1


async def _count_busy(mode: Mode, after: float | None) -> tuple[int, int]:
    """Count threads and tasks while a connection is out, for longer than `after`."""
    pool = mode.pool(leak_after=after)
    before = set(threading.enumerate())  # some may be those of earlier tests, and end
    async with mode.block(pool.unique_connection()):
        async with mode.block(pool.unique_connection()):
            pass
        in_asyncio = mode.name in ("asyncio", "uvloop", "threads")
        tasks = len(asyncio.all_tasks()) if in_asyncio else 0
        threads = len({*threading.enumerate()} - before) if mode.blocking else 0
        while mode.blocking and after and not pool.stats().leaks:
            async with mode.block(pool.unique_connection()):
                pass  # who uses the pool looks; in event loops a timer does
        await mode.until(lambda: pool.stats().leaks == (after is not None))
    async with mode.block(pool.unique_connection()):
        pass
    assert pool.stats().leaks == (after is not None)
    await mode.go(pool.close())
    return tasks, threads


@pytest.mark.parametrize("kind", ["QueuePool", "NullPool"])
async def test_leak_after_in_a_pool_where_nothing_idles(
    mode: Mode, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    pool = mode.pool(kind, leak_after=0.01)
    lease = await mode.go(pool.unique_connection())
    while not any("too long" in each for each in caplog.messages):
        if mode.blocking or mode.name == "trio":  # else a timer looks
            async with mode.block(pool.unique_connection()):
                pass
        else:
            await anyio.sleep(0.002)
    await mode.go(lease.close())
    await mode.go(pool.close())
