"""Many tasks on few connections: throughput, waits and fairness."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import anyio
import anyio.lowlevel

from ..loops import event_loops, run
from ..measure import CPU_TIME, Contest
from ..peers.peer import AsyncPeer, Size
from ..peers.registry import async_peers
from ..result import Row, rows
from ..waits import Waits
from .options import Options

FEW = "40 tasks on 4"
MANY = "1,000 tasks on 10"

_Pause: TypeAlias = Callable[[], Awaitable[object]]


def measure(options: Options) -> list[Row]:
    """Measure both crowds on every event loop."""
    found = []
    for loop in event_loops():
        found += run(loop, _crowd, options, loop, FEW, 40, 4)
        if loop == "asyncio" or options.effort.scale >= 1:
            found += run(loop, _crowd, options, loop, MANY, 1000, 10)
    return found


async def _crowd(
    options: Options, loop: str, case: str, tasks: int, connections: int
) -> list[Row]:
    size = Size(keep=connections, extra=0)
    peers = {name: await make(size) for name, make in async_peers(loop).items()}
    cycles = max(1, round((4000 * options.effort.scale) / tasks))
    # A turn of a large crowd is long in itself.
    effort = replace(options.effort, rounds=max(2, options.effort.rounds * 40 // tasks))
    pause = _pause_of(loop)
    contest = Contest(list(peers), effort, count=cycles * tasks, clock=CPU_TIME)
    for turn in contest.turns():
        with turn:
            await _all(peers[turn.name], tasks, cycles, pause)
    summaries = contest.summaries()
    details = {}
    for name, peer in peers.items():
        waits = Waits()
        await _all(peer, tasks, cycles, pause, waits)
        details[name] = {"cycles/s": 1e6 / summaries[name].median} | waits.details()
        if loop == "trio":
            # It runs what is ready in random order; who was served first can't be seen.
            del details[name]["overtaken %"]
        await peer.close()
    return rows(case, loop, summaries, details)


async def _all(
    peer: AsyncPeer, tasks: int, cycles: int, pause: _Pause, waits: Waits | None = None
) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(tasks):
            if waits is None:
                group.start_soon(_cycle, peer, cycles, pause)
            else:
                group.start_soon(_watched_cycle, peer, cycles, pause, waits)


async def _cycle(peer: AsyncPeer, cycles: int, pause: _Pause) -> None:
    connect = peer.connect
    for _ in range(cycles):
        async with connect():
            # As with any real query: the others come to run, and to wait.
            await pause()


async def _watched_cycle(peer: AsyncPeer, cycles: int, pause: _Pause, waits: Waits) -> None:
    connect = peer.connect
    for _ in range(cycles):
        arrival = waits.arrive()
        async with connect():
            waits.served(arrival)
            await pause()


def _pause_of(loop: str) -> _Pause:
    """Return the cheapest way to let the other tasks run."""
    if loop == "trio":
        return anyio.lowlevel.cancel_shielded_checkpoint
    return partial(asyncio.sleep, 0)
