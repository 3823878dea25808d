"""What keeps a pool alive while its parts are at work, and what is forgotten when."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import anyio
import pytest

import anypool
from anypool import sync
from anypool._parts.keeper import Keeper
from anypool._parts.shutdown import Shutdown

from .support.fakes import World
from .support.modes import Mode


@pytest.mark.parametrize("mode", ["blocking", "asyncio", "trio", "threads"], indirect=True)
def test_pool_that_is_dropped_during_a_look_lives_until_that_has_ended(
    mode: Mode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    holder: list[Any] = []
    alive: list[bool] = []
    pools: list[weakref.ref[Any]] = []
    tend = Keeper.tend

    def drop(keeper: Keeper[Any]) -> float:
        if holder and holder[0] == "armed":
            holder.clear()  # the last reference, as another thread may drop it
            alive.append(pools[0]() is not None)
        return tend(keeper)

    monkeypatch.setattr(Keeper, "tend", drop)

    async def begin() -> None:
        holder.append(mode.pool(keepalive=10.0))
        pools.append(weakref.ref(getattr(holder[0], "async_pool", holder[0])))
        await mode.go(holder[0].open())

    async def main() -> None:
        await begin()
        pool: Any = pools[0]()
        care = pool._keeper._care
        del pool
        await mode.until(lambda: care._gate is not None)
        holder.insert(0, "armed")
        care.kick()
        await mode.until(lambda: alive)
        await mode.until(lambda: pools[0]() is None)  # by counting references alone
        await mode.until(lambda: not care.at_work)

    gc.disable()
    try:
        mode.run(main)
    finally:
        gc.enable()
    assert alive == [True]
    assert not caplog.records


def test_close_that_is_cut_short_with_its_loop_leaves_nothing_of_that_loop() -> None:
    world = World(coroutine=True)
    pool: Any = anypool.QueuePool(world.connect)

    async def first() -> None:
        await pool.open()
        async with pool.connect():
            pass
        assert pool._path.watches_resets
        world.fail["close"] = asyncio.CancelledError()

    asyncio.run(first())
    world.fail.clear()
    # Else no reset would be given up in the next loop.
    assert not pool._path.watches_resets
    assert pool._keeper._care is None
    assert world.open == []

    async def second() -> None:
        async with pool.connect() as connection:
            await connection.execute("select 1")
        assert pool._path.watches_resets
        await pool.close()

    asyncio.run(second())
    assert world.open == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_pool_that_is_used_while_its_loop_ends_is_looked_after_once(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In what is left of the loop: a task that goes on, or a listener."""
    world = World(coroutine=True)
    pool: Any = anypool.QueuePool(world.connect, min_size=1)
    cares: list[Any] = []
    close_left = Shutdown.close_left

    async def use(self: Any, records: Any) -> None:
        async with pool.connect():
            cares.append(pool._keeper._care)
        await close_left(self, records)

    monkeypatch.setattr(Shutdown, "close_left", use)

    async def main() -> None:
        await pool.open()
        await pool.wait()
        await pool._on_loop_end()
        assert pool._keeper._care is cares[0]
        assert not cares[0].ended
        await pool.close()
        assert not cares[0].at_work

    anyio.run(main, backend=backend)


def test_look_whose_kick_was_interrupted_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = sync.QueuePool(World(coroutine=False).connect)
    kicks: list[Any] = [KeyboardInterrupt]

    def kick(keeper: Keeper[Any]) -> None:
        kicks.append("kicked")
        if kicks[0] is KeyboardInterrupt:
            raise kicks.pop(0)

    monkeypatch.setattr(Keeper, "kick", kick)
    with pytest.raises(KeyboardInterrupt):
        pool.drain()
    pool.stats()  # the next decision, whoever's it is
    assert kicks == ["kicked", "kicked"]
