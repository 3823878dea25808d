"""Opened pools, whose clock goes on when it is told to."""

from __future__ import annotations

from typing import Any

from .modes import Mode


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def inner(pool: Any) -> Any:
    return getattr(pool, "async_pool", pool)


def begin_connects(pool: Any, number: int) -> None:
    """Have an inner pool connect in the background."""
    ledger = pool._ledger
    ledger.decide(ledger.growth.begin_connects, ledger, number)


async def look(mode: Mode, pool: Any) -> None:
    """Have the pool looked after now."""

    async def kick() -> None:
        inner(pool)._keeper.kick()

    if mode.blocking:
        pool._run(kick)
    else:
        await kick()


async def opened(
    mode: Mode, kind: str = "QueuePool", /, **options: Any
) -> tuple[Any, Clock]:
    """Open a pool with a driven clock."""
    if mode.name == "portal":  # so that the pool is in its loop from the first
        connect = mode.world.connect

        async def create() -> Any:
            return await connect()

        options["creator"] = create
    pool = mode.pool(kind, **options)
    clock = Clock()
    if mode.blocking:
        pool._run(_set_clock, inner(pool), clock)
    else:
        inner(pool)._runtime.caller()
        await _set_clock(pool, clock)
    await mode.go(pool.open())
    await mode.go(pool.wait())
    return pool, clock


async def _set_clock(pool: Any, clock: Clock) -> None:
    pool._runtime.caller()
    pool._runtime.now = clock
