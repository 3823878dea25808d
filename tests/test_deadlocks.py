"""Deadlocks: callers that have connections and wait for others are told of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import anypool

from .support.failing import TINY, fails, said, small
from .support.modes import Mode

Cause = anypool.Cause


async def test_nested_unique_connection(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    pool = small(mode)
    async with mode.block(pool.connect()):
        for _ in range(2):
            report = await fails(mode, pool)
            assert report.cause is Cause.DEADLOCK
            (link,) = report.ring
            assert f"taken at {__file__}:" in link
            assert re.search(r"waits for QueuePool at \S+failing.py:\d+$", link)
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
    report = said(caught)
    assert report.waited is not None
    assert report.waited < 30
    assert "timed out" not in report.headline
    stats = pool.stats()
    assert (stats.waiting, stats.checked_out, stats.cancelled) == (0, 0, 0)
    async with mode.block(pool.connect()):
        pass


async def test_two_pools_that_wait_for_each_other(mode: Mode) -> None:
    left, right = (small(mode, name=name, on_deadlock="raise") for name in ("l", "r"))
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
    for name in ("l", "r"):
        assert str(error.report.ring).count(f"QueuePool '{name}'") == 2


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


async def _await(child: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await asyncio.create_task(child())


async def _gather(child: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(child(), asyncio.sleep(0))


async def _task_group(child: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(child())


async def _wait_for(child: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await asyncio.wait_for(asyncio.create_task(child()), 30)


async def _wait(child: Callable[[], Coroutine[Any, Any, None]]) -> None:
    (done,), _ = await asyncio.wait([asyncio.create_task(child())])
    done.result()


WAYS = [_await, _gather, _task_group, _wait_for, _wait]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__[1:])
def test_parent_that_awaits_its_child(
    way: Callable[..., Coroutine[Any, Any, None]],
) -> None:
    mode = Mode("asyncio")
    pool = small(mode)

    async def child() -> None:
        report = await fails(mode, pool)
        assert report.cause is Cause.DEADLOCK
        assert ", which waits for" in report.ring[0]

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
