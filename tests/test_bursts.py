"""Many callers at once, and a server that is away."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest

import anypool
from anypool import sync

from .support.fakes import World
from .support.holds import Holds, slow_connects
from .support.modes import PATIENCE, Mode


async def test_burst_is_served_by_returns(mode: Mode) -> None:
    """HikariCP's spike: 50 callers at once, slow connects, uses of 2 ms."""
    slow_connects(mode, 0.5)  # enough for a busy machine, too
    pool = mode.pool(pool_size=50, max_overflow=0, min_size=5)
    await mode.go(pool.open())
    await mode.go(pool.wait())
    await _burst(mode, pool)
    await mode.settle()
    assert len(mode.world.connections) <= 6
    await mode.go(pool.close())


async def test_burst_at_an_empty_pool(mode: Mode) -> None:
    slow_connects(mode, 0.5)
    pool = mode.pool(pool_size=50, max_overflow=0)
    await mode.go(pool.open())
    await _burst(mode, pool)
    await mode.settle()
    assert len(mode.world.connections) <= 6
    await mode.go(pool.close())


async def test_long_uses_get_their_own_connections(mode: Mode) -> None:
    """No caller waits for a return that doesn't come."""
    pool = mode.pool(pool_size=20, max_overflow=0, timeout=PATIENCE)
    await mode.go(pool.open())
    all_there, count = mode.event(), []

    async def use() -> None:
        async with mode.block(pool.connect()) as connection:
            count.append(connection)
            if len(count) == 20:
                all_there.set()
            await all_there.wait()

    async with mode.group() as start:
        for _ in range(20):
            start(use)
    await mode.go(pool.close())


async def test_newcomer_does_not_overtake_those_whose_connect_is_under_way(
    mode: Mode,
) -> None:
    """There is room for one more connection; it is for those who wait."""
    holds = Holds(mode)
    hold = holds.on("connect")
    pool = mode.pool(creator=holds.connect, pool_size=2, max_overflow=0)
    await mode.go(pool.open())
    served: list[int] = []

    async def use() -> None:
        async with mode.block(pool.connect()) as connection:
            served.append(connection.number)

    async with mode.group() as start:
        start(use)
        await mode.until(lambda: hold.reached == 1)
        with pytest.raises(anypool.PoolTimeoutError):
            await mode.go(pool.unique_connection(timeout=0))
        assert hold.reached == 1
        hold.release()
    assert served == [1]
    await mode.go(pool.close())


async def _burst(mode: Mode, pool: Any) -> None:
    served = []

    async def use() -> None:
        async with mode.block(pool.connect()) as connection:
            if mode.blocking:
                threading.Event().wait(0.002)
            else:
                await anyio.sleep(0.002)
            served.append(connection.number)

    async with mode.group() as start:
        for _ in range(50):
            start(use)
    assert len(served) == 50


async def test_connect_of_a_caller_that_left_joins_the_idle_ones(mode: Mode) -> None:
    holds = Holds(mode)
    hold = holds.on("connect")
    pool = mode.pool(creator=holds.connect)
    await mode.go(pool.open())
    with pytest.raises(anypool.PoolTimeoutError):
        await mode.go(pool.connect(timeout=0.02))
    hold.release()
    await mode.until(lambda: pool.checkedin() == 1)
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 1
    await mode.go(pool.close())


async def test_absent_server_is_asked_at_growing_intervals(mode: Mode) -> None:
    mode.world.fail["connect"] = OSError("refused")
    pool = mode.pool(pool_size=20, timeout=0.2)
    await mode.go(pool.open())

    async def checkout() -> None:
        with pytest.raises(anypool.PoolTimeoutError, match="OSError") as caught:
            await mode.go(pool.connect())
        assert isinstance(caught.value.__cause__, OSError)

    async with mode.group() as start:
        for _ in range(20):
            start(checkout)
    assert mode.world.count("connect") <= 10
    assert pool.stats().failed == mode.world.count("connect")
    del mode.world.fail["connect"]
    async with mode.block(pool.connect(timeout=PATIENCE)):
        pass
    assert len(mode.world.open) <= 2  # no storm
    await mode.go(pool.close())


@pytest.mark.parametrize("coroutine", [False, True])
def test_opened_pool_finds_that_its_driver_is_an_async_one(coroutine: bool) -> None:
    """Whatever it is that connecting returns there: it is begun again in a loop."""
    world = World(coroutine=True)

    class Connecting:
        def __await__(self) -> Any:
            return world.connect().__await__()

    pool = sync.QueuePool(world.connect if coroutine else Connecting, min_size=2)
    pool.open()
    pool.wait(PATIENCE)
    assert world.open == [1, 2]
    with pool.connect() as connection:
        assert connection.number == 1
    pool.close()
    assert world.open == []


def test_callers_while_an_opened_pool_moves_to_a_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They wait until it is open there, and don't connect by themselves."""
    world = World(coroutine=True)
    world.fail["connect"] = OSError("refused")
    entered, go_on = threading.Event(), threading.Event()
    really_open = anypool.QueuePool.open

    async def slow_open(self: Any) -> None:
        if not self._blocking:
            entered.set()
            await anyio.to_thread.run_sync(go_on.wait, PATIENCE)
        await really_open(self)

    monkeypatch.setattr(anypool.QueuePool, "open", slow_open)
    pool: Any = sync.QueuePool(lambda: world.connect(), timeout=0.5)
    errors: list[BaseException] = []

    def checkout() -> None:
        try:
            pool.connect()
        except Exception as error:
            errors.append(error)

    pool.open()
    threads = [threading.Thread(target=checkout) for _ in range(2)]
    threads[0].start()
    assert entered.wait(PATIENCE)
    threads[1].start()
    threads[1].join(0.2)  # would be enough to connect in vain
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert [type(error) for error in errors] == [anypool.PoolTimeoutError] * 2
    pool.close()


async def test_without_a_timeout_the_caller_connects_by_itself(mode: Mode) -> None:
    """A timeout of 0 is for whoever can't wait: not for a server that is away either."""
    pool = mode.pool()
    await mode.go(pool.open())
    async with mode.block(pool.connect(timeout=0)) as connection:
        assert connection.number == 1
        mode.world.fail["connect"] = OSError("refused")
        with pytest.raises(OSError, match="refused"):
            await mode.go(pool.unique_connection(timeout=0))
    await mode.go(pool.close())
