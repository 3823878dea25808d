"""Large pools and long queues: what a cycle costs there, and what memory it takes."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import AsyncExitStack, ExitStack
from typing import Self

import anyio
import anyio.lowlevel

import anypool

from ..fakes import AsyncConnection
from ..loops import run
from ..measure import CPU_TIME, Contest, summarize
from ..peers import ours
from ..peers.peer import Size
from ..result import OURS, Row, rows
from .options import Options

IDLE = "cycle, idle connections"
HANDOVER = "handover, waiters"
LEAVING = "leaving the queue, waiters"
MEMORY = "memory"

# What the figures are compared with: a pool of ordinary size, and a short queue.
FEW_IDLE, MANY_IDLE = 5, 10_000
FEW_WAITERS, MANY_WAITERS = 100, 100_000
_LEAVING, _SERVED = 20, 50  # of those who wait, in each round


def measure(options: Options) -> list[Row]:
    """Measure idle connections and waiters by time, then all by memory."""
    return [
        *_idle(options),
        *run("asyncio", _async_idle, options),
        *run("asyncio", _waiting, options),
        *run("asyncio", _memory, options),
    ]


def _many(options: Options, number: int) -> int:
    # The smoke test makes do with a tenth; --quick has the full size.
    return number if options.effort.scale >= 0.1 else number // 100


def _idle(options: Options) -> list[Row]:
    pools = {}
    for idle in (FEW_IDLE, _many(options, MANY_IDLE)):
        pool = ours.sync_pool(Size(keep=idle, extra=0))
        with ExitStack() as stack:
            for _ in range(idle):
                stack.enter_context(pool.unique_connection())
        pools[f"{OURS}, {idle:,} idle"] = pool
    contest = Contest(list(pools), options.effort, clock=CPU_TIME)
    for turn in contest.turns():
        connect = pools[turn.name].connect
        with turn:
            for _ in range(turn.count):
                with connect():
                    pass
    return rows(IDLE, "threads", contest.summaries())


async def _async_idle(options: Options) -> list[Row]:
    pools = {}
    for idle in (FEW_IDLE, _many(options, MANY_IDLE)):
        pools[f"{OURS}, {idle:,} idle"] = await _filled(idle)
    contest = Contest(list(pools), options.effort, clock=CPU_TIME)
    for turn in contest.turns():
        connect = pools[turn.name].connect
        with turn:
            for _ in range(turn.count):
                async with connect():
                    pass
    return rows(IDLE, "asyncio", contest.summaries())


async def _filled(idle: int) -> anypool.QueuePool[AsyncConnection]:
    pool = ours.pool(Size(keep=idle, extra=0))
    async with AsyncExitStack() as stack:
        for _ in range(idle):
            await stack.enter_async_context(pool.unique_connection())
    return pool


async def _waiting(options: Options) -> list[Row]:
    queues = [FEW_WAITERS, _many(options, MANY_WAITERS)]
    names = [f"{OURS}, {waiters:,} waiting" for waiters in queues]
    handovers: dict[str, list[float]] = {name: [] for name in names}
    leavings: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(1 if options.effort.scale < 1 else 5):
        for name, waiters in zip(names, queues, strict=True):
            leaving, handover = await _Queue(waiters).measure()
            leavings[name].append(leaving)
            handovers[name].append(handover)
    return [
        *rows(HANDOVER, "asyncio", summarize(handovers, names[0])),
        *rows(LEAVING, "asyncio", summarize(leavings, names[0])),
    ]


class _Queue:
    """A pool of one connection, which is out, and tasks that wait for it."""

    def __init__(self, waiters: int) -> None:
        self._pool = ours.pool(Size(keep=1, extra=0))
        self._waiters = waiters
        self._served = 0
        self._enough = anyio.Event()
        self._scopes: list[anyio.CancelScope] = []

    async def measure(self) -> tuple[float, float]:
        """Return the seconds that it takes to leave the queue, and to be served."""
        first = await self._pool.unique_connection()
        leaving = handover = 0.0
        gc.collect()
        gc.disable()
        try:
            async with anyio.create_task_group() as group:
                for _ in range(self._waiters):
                    group.start_soon(self._wait)
                await anyio.wait_all_tasks_blocked()
                leaving = await self._leave()
                begun = CPU_TIME()
                await first.close()
                await self._enough.wait()
                handover = (CPU_TIME() - begun) / _SERVED
                for scope in self._scopes:
                    scope.cancel()
        finally:
            gc.enable()
        await self._pool.dispose()
        return leaving, handover

    async def _leave(self) -> float:
        """Have some leave from the middle of the queue, which is where it is hardest."""
        middle = len(self._scopes) // 2
        begun = CPU_TIME()
        for scope in self._scopes[middle : middle + _LEAVING]:
            scope.cancel()
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        return (CPU_TIME() - begun) / _LEAVING

    async def _wait(self) -> None:
        with anyio.CancelScope() as scope:
            self._scopes.append(scope)
            async with self._pool.connect(timeout=None):
                self._served += 1
                if self._served == _SERVED:
                    self._enough.set()
                    await anyio.sleep_forever()


async def _memory(options: Options) -> list[Row]:
    number = max(10, round(2000 * options.effort.scale))
    sizes = {
        "idle connection": await _idle_bytes(number),
        "lease": await _lease_bytes(number),
        "waiter": await _waiter_bytes(number),
    }
    return [
        Row(MEMORY, "asyncio", f"{OURS}, {name}", size, size, size, None, unit="bytes")
        for name, size in sizes.items()
    ]


class _Traced:
    """``with`` it to see how many bytes what was made in the block takes."""

    bytes: int

    def __enter__(self) -> Self:
        gc.collect()
        tracemalloc.start()
        return self

    def __exit__(self, *exc: object) -> None:
        gc.collect()
        self.bytes = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()


async def _idle_bytes(number: int) -> float:
    """Measure idle slots with their connections, less connections alone."""
    with _Traced() as bare:
        connections = [AsyncConnection() for _ in range(number)]
    with _Traced() as pooled:
        pool = await _filled(number)
    assert len(connections) == pool.checkedin()
    return (pooled.bytes - bare.bytes) / number


async def _lease_bytes(number: int) -> float:
    pool = await _filled(number)
    with _Traced() as traced:
        leases = [await pool.unique_connection() for _ in range(number)]
    for lease in leases:
        await lease.close()
    return traced.bytes / number


async def _waiter_bytes(number: int) -> float:
    """Measure tasks that wait for a connection, less tasks that just sleep."""
    return await _task_bytes(number, wait=True) - await _task_bytes(number, wait=False)


async def _task_bytes(number: int, *, wait: bool) -> float:
    pool = ours.pool(Size(keep=1, extra=0))

    async def check_out() -> None:
        await pool.unique_connection()

    traced = _Traced()
    async with pool.connect(), anyio.create_task_group() as group:
        with traced:
            for _ in range(number):
                group.start_soon(check_out if wait else anyio.sleep_forever)
            await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    return traced.bytes / number
