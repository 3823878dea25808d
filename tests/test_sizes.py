"""How many connections: kept, waited for, resized, held back."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import anypool
from anypool._parts.keeper import Keeper

from .support.holds import Holds
from .support.modes import PATIENCE, Mode
from .support.opened import look, opened


async def test_min_size_is_opened_at_once_and_kept(mode: Mode) -> None:
    holds = Holds(mode)
    hold = holds.on("connect")
    pool = mode.pool(creator=holds.connect, min_size=3)
    await mode.go(pool.open())
    await mode.until(lambda: hold.reached == 3)
    hold.release()
    await mode.go(pool.wait())
    assert (pool.checkedin(), pool.overflow()) == (3, -2)
    lease = await mode.go(pool.connect())
    await mode.go(lease.invalidate())
    await mode.until(lambda: len(mode.world.open) == 3)
    assert len(mode.world.connections) == 4
    await mode.go(pool.close())


async def test_min_size_is_kept_while_connects_pause(mode: Mode) -> None:
    """What is lost after a connect has failed is replaced when the pause is over."""
    pool, clock = await opened(mode, min_size=1, pool_size=2)
    lease = await mode.go(pool.unique_connection())
    mode.world.fail["connect"] = OSError("refused")
    with pytest.raises(anypool.PoolTimeoutError):
        await mode.go(pool.unique_connection(timeout=0.02))
    await mode.until(lambda: pool.stats().failed == 1)
    await mode.until(lambda: pool.stats().connecting == 0)
    await look(mode, pool)  # there is nothing to be done at this moment
    await mode.settle()
    await mode.go(lease.invalidate())
    del mode.world.fail["connect"]
    clock.now += 1
    await mode.until(lambda: len(mode.world.open) == 1)
    await mode.go(pool.close())


async def test_wait_says_what_is_missing(mode: Mode) -> None:
    mode.world.fail["connect"] = OSError("no route")
    pool = mode.pool(min_size=2)
    await mode.go(pool.open())
    await mode.until(lambda: pool.stats().failed)
    with pytest.raises(anypool.PoolTimeoutError, match="2 of 2") as caught:
        await mode.go(pool.wait(timeout=0.05))
    assert isinstance(caught.value.__cause__, OSError)
    del mode.world.fail["connect"]
    await mode.go(pool.wait())
    await mode.go(pool.close())


@pytest.mark.parametrize("min_size", [0, 2])
async def test_fail_fast(mode: Mode, min_size: int) -> None:
    mode.world.fail["connect"] = OSError("wrong password")
    before = set(threading.enumerate())
    pool = mode.pool(min_size=min_size, fail_fast=True)
    with pytest.raises(OSError, match="wrong password"):
        await mode.go(pool.open())
    assert not mode.world.open
    late = [t for t in set(threading.enumerate()) - before if t.name.startswith("anypool")]
    assert [t.name for t in late] in ([], ["anypool exit"])
    with pytest.raises(anypool.PoolClosedError):
        await mode.go(pool.connect())


async def test_fail_fast_with_a_server(mode: Mode) -> None:
    pool = mode.pool(fail_fast=True)
    async with mode.block(pool):
        assert len(mode.world.open) == 1


async def test_opening_gives_empty_slots_up(mode: Mode) -> None:
    """In an opened pool every idle slot can serve at once."""
    pool = mode.pool(pool_size=2, max_overflow=0)
    first, second = [await mode.go(pool.unique_connection()) for _ in range(2)]
    await mode.go(first.invalidate())
    await mode.go(second.close())
    assert pool.checkedin() == 2
    await mode.go(pool.open())
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    leases = [await mode.go(pool.unique_connection()) for _ in range(2)]
    assert [lease.connection.number for lease in leases] == [2, 3]
    for lease in leases:
        await mode.go(lease.close())
    await mode.go(pool.close())


async def test_sizes_that_contradict_each_other(mode: Mode) -> None:
    with pytest.raises(ValueError, match="min_size: expected at most pool_size, not 3"):
        mode.pool(pool_size=2, min_size=3)
    pool = mode.pool(pool_size=0, min_size=3)  # no limit
    await mode.go(pool.resize(3))
    with pytest.raises(ValueError, match="pool_size: expected at least min_size, not 2"):
        await mode.go(pool.resize(2))
    await mode.go(pool.resize(0))
    assert pool.size() == 0
    await mode.go(pool.close())


async def test_connect_that_takes_too_long_for_a_pool(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that accepts and says nothing does not keep the pool from its size."""
    if mode.name in ("blocking", "threads"):
        pytest.skip("its connect can't be cut short")
    monkeypatch.setattr("anypool._core.bounds.CONNECT_TIMEOUT", 0.05)
    connect, silent = mode.world.connect, [True]

    async def create() -> Any:
        if silent:
            silent.pop()
            await anyio.sleep(10 * PATIENCE)
        return await connect()

    pool = mode.pool(creator=create, min_size=1, timeout=0.05)
    await mode.go(pool.open())
    await mode.go(pool.wait())
    assert (pool.stats().opened, len(mode.world.open)) == (1, 1)
    await mode.go(pool.close())


async def test_connect_may_take_as_long_as_a_checkout(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose server is slow gives the pool a long timeout: that counts in the background."""
    if mode.name in ("blocking", "threads"):
        pytest.skip("its connect can't be cut short")
    monkeypatch.setattr("anypool._core.bounds.CONNECT_TIMEOUT", 0.0)
    connect = mode.world.connect

    async def create() -> Any:
        await anyio.lowlevel.checkpoint()
        return await connect()

    pool = mode.pool(creator=create, min_size=1, timeout=PATIENCE)
    await mode.go(pool.open())
    await mode.go(pool.wait(PATIENCE))
    await mode.go(pool.close())


async def test_care_survives_an_error(
    mode: Mode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in the background is logged, and the pool is looked after again."""
    pool, clock = await opened(mode, min_size=1, max_idle=60, pool_size=2)
    lease = await mode.go(pool.unique_connection())
    async with mode.block(pool.unique_connection()):
        pass
    await mode.go(lease.close())
    tend = Keeper.tend
    errors = [ValueError("of the pool")]

    def fail_once(pool: Any) -> float:
        if errors:
            raise errors.pop()
        return tend(pool)

    monkeypatch.setattr(Keeper, "tend", fail_once)
    await look(mode, pool)
    await mode.until(lambda: "could not be looked after" in caplog.text)
    assert "of the pool" in caplog.text
    clock.now += 61
    await look(mode, pool)
    await mode.until(lambda: len(mode.world.open) == 1)
    await mode.go(pool.close())


async def test_max_idle_closes_what_is_not_needed(mode: Mode) -> None:
    sizes = {"pool_size": 4, "max_overflow": 0, "min_size": 1}
    pool, clock = await opened(mode, **sizes, max_idle=60)
    leases = [await mode.go(pool.unique_connection()) for _ in range(4)]
    for lease in leases:
        await mode.go(lease.close())
    clock.now += 30
    async with mode.block(pool.connect()):
        pass
    clock.now += 31
    await look(mode, pool)
    await mode.until(lambda: len(mode.world.open) == 1)
    assert pool.stats().closed == {"idle": 3}
    clock.now += 61
    await look(mode, pool)
    await mode.settle()
    assert len(mode.world.open) == 1  # min_size
    assert mode.world.count("connect") == 4, "it was closed and replaced"
    await mode.go(pool.close())


async def test_max_idle_leaves_min_size(mode: Mode) -> None:
    """Also where all are idle for too long at the same time."""
    pool, clock = await opened(mode, pool_size=4, min_size=2, max_idle=60)
    leases = [await mode.go(pool.unique_connection()) for _ in range(4)]
    for lease in leases:
        await mode.go(lease.close())
    clock.now += 61
    await look(mode, pool)
    await mode.until(lambda: len(mode.world.open) == 2)
    assert (pool.checkedin(), mode.world.count("connect")) == (2, 4)
    await mode.go(pool.close())


async def test_lifo(mode: Mode) -> None:
    pool = mode.pool(use_lifo=True)
    leases = [await mode.go(pool.unique_connection()) for _ in range(3)]
    for lease in leases:
        await mode.go(lease.close())
    numbers = []
    for _ in range(3):
        async with mode.block(pool.connect()) as connection:
            numbers.append(connection.number)
    assert numbers == [leases and 3] * 3
    await mode.go(pool.close())


@pytest.mark.parametrize("is_open", [False, True])
async def test_max_waiting(mode: Mode, is_open: bool) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0, max_waiting=2)
    if is_open:
        await mode.go(pool.open())
    lease = await mode.go(pool.connect())

    async def wait() -> None:
        async with mode.block(pool.connect()):
            pass

    async with mode.group() as start:
        start(wait)
        start(wait)
        await mode.until(lambda: pool.stats().waiting == 2)
        with pytest.raises(anypool.TooManyWaitersError, match="max_waiting is 2"):
            await mode.go(pool.unique_connection())
        await mode.go(lease.close())
    await mode.go(pool.close())


async def test_max_waiting_of_zero_lets_callers_connect(mode: Mode) -> None:
    pool = mode.pool(pool_size=2, max_overflow=0, max_waiting=0)
    async with mode.block(pool):
        first = await mode.go(pool.unique_connection())
        second = await mode.go(pool.unique_connection())
        with pytest.raises(anypool.TooManyWaitersError):
            await mode.go(pool.unique_connection())
        await mode.go(first.close())
        await mode.go(second.close())


async def test_max_waiting_does_not_count_those_whose_connection_is_coming(
    mode: Mode,
) -> None:
    holds = Holds(mode)
    hold = holds.on("connect")
    pool = mode.pool(creator=holds.connect, pool_size=1, max_overflow=0, max_waiting=1)
    await mode.go(pool.open())

    async def use() -> None:
        async with mode.block(pool.connect()):
            pass

    async with mode.group() as start:
        start(use)
        await mode.until(lambda: hold.reached == 1)
        start(use)  # the only one that waits for another
        await mode.until(lambda: pool.stats().waiting == 2)
        with pytest.raises(anypool.TooManyWaitersError):
            await mode.go(pool.unique_connection())
        hold.release()
    assert pool.stats().checkouts == 2
    await mode.go(pool.close())


@pytest.mark.parametrize("is_open", [False, True])
async def test_resize(mode: Mode, is_open: bool) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0)
    if is_open:
        await mode.go(pool.open())
    leases = [await mode.go(pool.unique_connection())]
    got = mode.event()

    async def wait() -> None:
        leases.append(await mode.go(pool.unique_connection()))
        got.set()

    async with mode.group() as start:
        start(wait)
        await mode.until(lambda: pool.stats().waiting == 1)
        await mode.go(pool.resize(3))
        await got.wait()
    leases.append(await mode.go(pool.unique_connection()))
    assert (pool.size(), pool.checkedout()) == (3, 3)
    await mode.go(leases.pop().close())
    await mode.go(pool.resize(1, 0))
    assert pool.checkedin() == 0  # the surplus is closed
    with pytest.raises(anypool.PoolTimeoutError):
        await mode.go(pool.unique_connection(timeout=0))  # there are too many as it is
    assert mode.world.count("connect") == 3
    await mode.go(leases.pop().close())
    assert len(mode.world.open) == 1
    with pytest.raises(anypool.PoolTimeoutError):
        await mode.go(pool.unique_connection(timeout=0))
    await mode.go(leases.pop().close())
    assert (pool.checkedin(), len(mode.world.open)) == (1, 1)
    with pytest.raises(ValueError, match="pool_size"):
        await mode.go(pool.resize(-1))
    assert pool.size() == 1
    await mode.go(pool.close())


async def test_suspended_pool_holds_checkouts_back(mode: Mode) -> None:
    pool = mode.pool(min_size=1)
    await mode.go(pool.open())
    await mode.go(pool.wait())
    pool.suspend()
    with pytest.raises(anypool.PoolTimeoutError):
        await mode.go(pool.connect(timeout=0.01))
    with pytest.raises(anypool.PoolTimeoutError):
        await mode.go(pool.connect(timeout=0))
    got = []

    async def wait() -> None:
        async with mode.block(pool.connect()) as connection:
            got.append(connection.number)

    async with mode.group() as start:
        start(wait)
        start(wait)
        await mode.until(lambda: pool.stats().waiting == 2)
        assert not got
        pool.resume()
    assert len(got) == 2
    await mode.go(pool.close())


async def test_suspended_pool_keeps_no_more_than_its_size(mode: Mode) -> None:
    """Those who wait are not served now: what comes back is not opened for them."""
    pool = mode.pool(pool_size=1, max_overflow=2, timeout=PATIENCE)
    leases = [await mode.go(pool.unique_connection()) for _ in range(3)]
    await mode.go(pool.suspend())

    async def wait() -> None:
        await mode.go((await mode.go(pool.unique_connection())).close())

    async with mode.group() as start:
        start(wait)
        await mode.until(lambda: pool.stats().waiting == 1)
        for lease in leases:
            await mode.go(lease.close())
        assert pool.checkedin() == 1
        await mode.go(pool.resume())
    assert mode.world.open == [1]


async def test_suspended_pool_opens_nothing(mode: Mode) -> None:
    pool = mode.pool(min_size=2)
    pool.suspend()
    await mode.go(pool.open())
    with pytest.raises(anypool.PoolTimeoutError, match="2 of 2"):
        await mode.go(pool.wait(timeout=0.05))
    assert not mode.world.connections
    pool.resume()
    await mode.go(pool.wait())
    assert len(mode.world.open) == 2
    await mode.go(pool.close())
