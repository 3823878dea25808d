"""Many waiters with timeouts, on asyncio: each ends in its own time, by few timers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from anypool import PoolTimeoutError, QueuePool
from anypool._runtimes.deadlines import FEW, Deadlines

from .support.clocks import DrivenLoop
from .support.fakes import World


def on_asyncio(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a coroutine as a test."""

    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


def on_driven_asyncio(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Do the same, with a clock that runs ahead."""

    def run() -> None:
        with asyncio.Runner(loop_factory=DrivenLoop) as runner:
            runner.run(test())

    run.__name__ = test.__name__
    return run


class Gate:
    opened = 0.0

    def release(self) -> None:
        self.opened = asyncio.get_running_loop().time()


@on_asyncio
async def test_waiters_time_out_each_in_its_own_time() -> None:
    pool = QueuePool(World(coroutine=True).connect, pool_size=1, max_overflow=0)
    waited: list[tuple[float, float]] = []

    async def wait(delay: float, timeout: float) -> None:
        await asyncio.sleep(delay)
        begun = time.monotonic()
        with pytest.raises(PoolTimeoutError):
            await pool.unique_connection(timeout=timeout)
        waited.append((time.monotonic() - begun, timeout))

    async with pool.unique_connection():
        waits = [(0.0, 0.2), (0.1, 0.2), (0.0, 0.1), (0.15, 0.05), (0.02, 0.2)]
        await asyncio.gather(*(wait(*each) for each in waits))
    assert len(waited) == len(waits)
    for took, timeout in waited:
        assert timeout - 0.02 <= took < timeout + 0.2
    await pool.dispose()


@on_asyncio
async def test_a_wait_that_is_over_is_not_rung_for() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    early, late = Gate(), Gate()
    begun = asyncio.get_running_loop().time()
    deadlines.add(early, 0.05)
    await asyncio.sleep(0.03)
    deadlines.add(late, 0.05)
    deadlines.remove(early, 0.05)
    await asyncio.sleep(0.15)
    assert not early.opened
    assert late.opened - begun >= 0.075
    assert not deadlines._ends
    assert not deadlines._timers


@on_driven_asyncio
async def test_waits_of_one_timeout_are_rung_for_one_after_the_other() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    gates = [Gate() for _ in range(3)]
    begun = loop.time()
    for gate in gates:
        deadlines.add(gate, 60)
        await asyncio.sleep(10)
    await asyncio.sleep(600)
    rung = [gate.opened - begun for gate in gates]
    assert rung == pytest.approx([60, 70, 80], abs=1)


@on_driven_asyncio
async def test_timeouts_that_all_differ_leave_few_timers() -> None:
    errors: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    deadlines = Deadlines(loop)
    gate = Gate()
    for number in range(1000):
        deadlines.add(gate, 30 + number / 1000)
        deadlines.remove(gate, 30 + number / 1000)
    assert len(deadlines._timers) == len(deadlines._ends) <= FEW
    await asyncio.sleep(60)
    assert not deadlines._timers
    assert not gate.opened
    assert not errors
