"""A cold pool, slow connects, and 50 callers at once."""

from __future__ import annotations

from time import perf_counter

import anyio

from ..loops import event_loops, run
from ..measure import percentile, summarize
from ..peers.peer import AsyncPeer, Size
from ..peers.registry import FLOOR, async_peers
from ..result import Row, rows
from .options import Options

CASE = "spike: 50 callers, 150 ms connects"
CALLERS = 50
HOLD = 0.005  # seconds that each has its connection


def measure(options: Options) -> list[Row]:
    """Measure how long it takes until all have been served."""
    # It takes as long as the connects; there is not much that the loop can do about it.
    loops = event_loops() if options.effort.scale >= 1 else ["asyncio"]
    return [row for loop in loops for row in run(loop, _spikes, options, loop)]


async def _spikes(options: Options, loop: str) -> list[Row]:
    size = Size(keep=5, extra=10, connect_time=0.15 * min(1, 10 * options.effort.scale))
    makers = {name: make for name, make in async_peers(loop).items() if name != FLOOR}
    samples: dict[str, list[float]] = {name: [] for name in makers}
    details: dict[str, dict[str, float]] = {}
    for _ in range(1 if options.effort.scale < 1 else 3):
        for name, make in makers.items():
            peer = await make(size)
            waits: list[float] = []
            begun = perf_counter()
            async with anyio.create_task_group() as group:
                for _ in range(CALLERS):
                    group.start_soon(_call, peer, waits)
            samples[name].append(perf_counter() - begun)
            details[name] = {
                "wait p50 ms": percentile(waits, 0.5) * 1e3,
                "wait p99 ms": percentile(waits, 0.99) * 1e3,
            }
            await peer.close()
    return rows(CASE, loop, summarize(samples, next(iter(makers))), details)


async def _call(peer: AsyncPeer, waits: list[float]) -> None:
    begun = perf_counter()
    async with peer.connect():
        waits.append(perf_counter() - begun)
        await anyio.sleep(HOLD)
