"""The life of a pool: opened, warm, fit, resized, held back, drained, closed."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
import warnings
from typing import Any

import anyio
import anyio.to_thread
import pytest

import anypool
from anypool import sync

from .support.fakes import World
from .support.holds import Hold, Holds
from .support.modes import PATIENCE, Mode

KINDS = ["QueuePool", "NullPool", "StaticPool", "AssertionPool", "Singleton"]


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def inner(pool: Any) -> Any:
    return getattr(pool, "async_pool", pool)


async def look(mode: Mode, pool: Any) -> None:
    """Have the pool looked after now."""

    async def kick() -> None:
        inner(pool)._kick()

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


# Opening and closing.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("entered", [True, False])
async def test_closed_pool_has_no_connections(mode: Mode, kind: str, entered: bool) -> None:
    pool = mode.pool(kind)
    if entered:
        await mode.go(pool.open())
    async with mode.block(pool.connect()) as connection:
        assert connection.number in mode.world.open
    await mode.go(pool.close())
    assert not mode.world.open
    with pytest.raises(anypool.PoolClosedError, match="closed"):
        await mode.go(pool.connect())
    await mode.go(pool.close())
    if mode.name != "portal":
        with pytest.raises(anypool.PoolClosedError, match="recreate"):
            await mode.go(pool.open())
    fresh = pool.recreate()
    async with mode.block(fresh.connect()):
        pass
    await mode.go(fresh.close())
    assert not mode.world.open


async def test_pool_as_a_context_manager(mode: Mode) -> None:
    pool = mode.pool(min_size=2)
    async with mode.block(pool) as entered:
        assert entered is pool
        await mode.go(pool.wait())
        assert len(mode.world.open) == 2
    assert not mode.world.open


@pytest.mark.parametrize("kind", KINDS)
async def test_close_waits_for_what_is_out(mode: Mode, kind: str) -> None:
    pool = mode.pool(kind)
    lease = await mode.go(pool.connect())
    number = lease.connection.number
    closing, closed = mode.event(), mode.event()

    async def close() -> None:
        closing.set()
        await mode.go(pool.close())
        closed.set()

    async with mode.group() as start:
        start(close)
        await closing.wait()
        await mode.until(lambda: inner(pool)._closed)
        assert number in mode.world.open
        await mode.go(lease.close())
        await closed.wait()
    assert not mode.world.open
    assert mode.world.count("rollback") == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_close_terminates_what_is_out_for_too_long(mode: Mode, kind: str) -> None:
    pool = mode.pool(kind)
    lease = await mode.go(pool.connect())
    await mode.go(pool.close(timeout=0))
    assert not mode.world.open
    assert not lease.is_valid
    with pytest.raises(anypool.InvalidRequestError):
        lease.connection
    await mode.go(lease.close())
    await mode.go(lease.detach())


async def test_detached_connections_survive_the_close(mode: Mode) -> None:
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    await mode.go(lease.detach())
    await mode.go(pool.close(timeout=0))
    if mode.name != "portal":  # there, the event loop of the connection has ended
        assert mode.world.open == [1]
        await mode.go(lease.close())
    assert not mode.world.open


async def test_waiters_are_told_of_the_close(mode: Mode) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=None)
    lease = await mode.go(pool.connect())
    told = []

    async def wait() -> None:
        with pytest.raises(anypool.PoolClosedError):
            await mode.go(pool.connect())
        told.append(1)

    async with mode.group() as start:
        for _ in range(3):
            start(wait)
        await mode.until(lambda: pool.stats().waiting == 3)
        start(_close, mode, pool)
        await mode.until(lambda: len(told) == 3)
        await mode.go(lease.close())
    assert not mode.world.open


async def _close(mode: Mode, pool: Any) -> None:
    await mode.go(pool.close())


async def test_close_closes_idle_connections_at_the_same_time(mode: Mode) -> None:
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, min_size=4)
    await mode.go(pool.open())
    await mode.go(pool.wait())
    hold = holds.on("close")

    async with mode.group() as start:
        start(_close, mode, pool)
        await mode.until(lambda: hold.reached == 4)
        hold.release()
    assert not mode.world.open


async def test_cancelled_close_leaves_nothing(mode: Mode) -> None:
    if mode.blocking:
        pytest.skip("needs cancellation")
    pool = mode.pool(min_size=3)
    await pool.open()
    await pool.wait()
    lease = await pool.connect()
    with anyio.move_on_after(0.05) as scope:
        await pool.close(timeout=None)
    assert scope.cancelled_caught
    await mode.until(lambda: not mode.world.open)
    assert not lease.is_valid


async def test_body_that_is_cancelled_closes_the_pool(mode: Mode) -> None:
    if mode.blocking:
        pytest.skip("needs cancellation")
    pool = mode.pool(min_size=3)
    with anyio.CancelScope() as scope:
        async with pool:
            await pool.wait()
            lease = await pool.connect()
            scope.cancel()
            await anyio.sleep(60)
    await mode.until(lambda: not mode.world.open)
    assert not lease.is_valid


async def test_close_in_the_middle_of_a_renewal(mode: Mode) -> None:
    """What is being replaced is not waited for, nor replaced any more."""
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, min_size=1)
    await mode.go(pool.open())
    await mode.go(pool.wait())
    hold = holds.on("close")
    await mode.go(pool.drain())
    await mode.until(lambda: hold.reached == 1)
    begin = time.monotonic()
    async with mode.group() as start:
        start(_close, mode, pool)
        await mode.until(lambda: inner(pool)._closed)
        hold.release()
    assert time.monotonic() - begin < PATIENCE / 4
    await mode.until(lambda: not mode.world.open)
    assert mode.world.count("connect") == 1


async def test_close_in_the_middle_of_connects(mode: Mode) -> None:
    """A connect that ends after the close is closed, and waited for by nobody."""
    holds = Holds(mode)
    hold = holds.on("connect")
    pool = mode.pool(creator=holds.connect, min_size=3)
    await mode.go(pool.open())
    await mode.until(lambda: hold.reached == 3)
    async with mode.group() as start:
        start(_close, mode, pool)
        await mode.until(lambda: inner(pool)._closed)
        hold.release()
    await mode.until(lambda: not mode.world.open)


@pytest.mark.parametrize("what", ["recycle", "keepalive"])
async def test_close_in_the_middle_of_upkeep(mode: Mode, what: str) -> None:
    """A ping, or a close, that hangs holds nobody up, and nothing survives."""
    if mode.blocking or mode.name == "threads":
        pytest.skip("a thread can't be stopped")
    pool, clock = await opened(mode, min_size=1, **{what: 60})
    reached = anyio.Event()

    async def hang(connection: Any) -> None:
        reached.set()
        await anyio.sleep(10 * PATIENCE)

    kind = type(mode.world.connections[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "close" if what == "recycle" else "ping", hang)
        clock.now += 61
        await look(mode, pool)
        await reached.wait()
        begin = time.monotonic()
        await pool.close(timeout=0)
        assert time.monotonic() - begin < PATIENCE / 2
    assert pool.stats().size == 0
    if what == "keepalive":
        await mode.until(lambda: not mode.world.open)
    assert mode.world.count("connect") == 1


async def test_close_while_a_thread_connects_for_nobody(mode: Mode) -> None:
    """A connect whose caller has left is not the pool's any more once that is closed."""
    if mode.name != "threads":
        pytest.skip("connects are waited for, or cut short")
    holds = Holds(mode)
    hold = holds.on("connect")
    pool = mode.pool(creator=holds.connect)
    with pytest.raises(anypool.PoolTimeoutError):
        await pool.connect(timeout=0.02)
    assert hold.reached == pool.stats().checked_out == 1
    async with mode.group() as start:
        start(pool.close, 0)
        await mode.until(lambda: pool._closed and not pool._out)
        hold.release()
    await mode.until(lambda: mode.world.connections)
    await mode.until(lambda: not mode.world.open)


async def test_connection_that_does_not_close_is_terminated_in_the_end(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode.blocking or mode.name == "threads":
        pytest.skip("a thread can't be stopped")
    monkeypatch.setattr("anypool._pools.life.CLOSE_TIMEOUT", 0.05)
    monkeypatch.setattr("anypool._runtimes.loop.RETURN_TIMEOUT", 0.5)
    terminated: list[int] = []

    async def close(connection: Any) -> None:
        await anyio.sleep(10 * PATIENCE)

    def terminate(connection: Any) -> None:
        connection.closed = True
        terminated.append(connection.number)

    pool = mode.pool()
    leases = [await pool.unique_connection() for _ in range(3)]
    kind = type(leases[0].connection)
    monkeypatch.setattr(kind, "close", close)
    monkeypatch.setattr(kind, "terminate", terminate, raising=False)
    for lease in leases:
        await lease.close()
    await pool.close(timeout=0.05)
    await mode.settle()
    assert sorted(terminated) == [1, 2, 3]
    assert pool.stats().size == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_to_wait_for(mode: Mode, kind: str) -> None:
    """Only pools with a min_size have something to wait for."""
    pool = mode.pool(kind)
    with pytest.raises(ValueError, match="timeout"):
        await mode.go(pool.wait(timeout=-1))
    await mode.go(pool.wait())
    await mode.go(pool.open())
    await mode.go(pool.wait())
    assert not mode.world.connections
    await mode.go(pool.close())
    if mode.name != "portal":
        with pytest.raises(anypool.PoolClosedError):
            await mode.go(pool.wait())


async def test_no_thread_outlives_the_close(mode: Mode) -> None:
    before = set(threading.enumerate())
    pool = mode.pool(min_size=2, keepalive=60)
    async with mode.block(pool):
        await mode.go(pool.wait())
        async with mode.block(pool.connect()):
            pass
    late = [t for t in set(threading.enumerate()) - before if t.name.startswith("anypool")]
    assert [t.name for t in late] in ([], ["anypool exit"])


async def test_close_while_a_caller_connects(mode: Mode) -> None:
    """The caller is told, and its connection is closed."""
    holds = Holds(mode)
    hold = holds.on("connect")
    pool = mode.pool(creator=holds.connect)
    told = mode.event()

    async def checkout() -> None:
        with pytest.raises(anypool.PoolClosedError):
            await mode.go(pool.connect())
        told.set()

    async with mode.group() as start:
        start(checkout)
        await mode.until(lambda: hold.reached)
        if mode.name == "portal":  # whose loop ends with the pool
            hold.release()
            await mode.go(pool.close())
        else:
            await mode.go(pool.close(timeout=0))
            hold.release()
        await told.wait()
    await mode.until(lambda: not mode.world.open)


async def test_background_connect_whose_listener_takes_for_ever(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: a connection that is initialised by half must never be pooled."""
    if mode.name in ("blocking", "threads"):
        pytest.skip("its connect can't be cut short")
    monkeypatch.setattr("anypool._pools.upkeep.CONNECT_TIMEOUT", 0.02)
    slow = True

    class Slow:
        async def connect(self, connection: Any, record: Any) -> None:
            if slow:
                await anyio.sleep(10 * PATIENCE)

    connect = mode.world.connect

    async def create() -> Any:
        return await connect()

    pool = mode.pool(creator=create, listeners=[Slow()], timeout=0.02, min_size=1)
    await mode.go(pool.open())
    with pytest.raises(anypool.PoolTimeoutError) as caught:
        await mode.go(pool.wait(0.2))
    assert isinstance(caught.value.__cause__, TimeoutError)
    slow = False
    await mode.go(pool.wait())
    await mode.until(lambda: len(mode.world.open) == 1)
    assert mode.world.open[0] > 1
    await mode.go(pool.close())


# Size.


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
    monkeypatch.setattr("anypool._pools.upkeep.CONNECT_TIMEOUT", 0.05)
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


async def test_care_survives_an_error(
    mode: Mode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error in the background is logged, and the pool is looked after again."""
    pool, clock = await opened(mode, min_size=1, max_idle=60, pool_size=2)
    lease = await mode.go(pool.unique_connection())
    async with mode.block(pool.unique_connection()):
        pass
    await mode.go(lease.close())
    tend = anypool.QueuePool._tend
    errors = [ValueError("of the pool")]

    def fail_once(pool: Any) -> float:
        if errors:
            raise errors.pop()
        return tend(pool)

    monkeypatch.setattr(anypool.QueuePool, "_tend", fail_once)
    await look(mode, pool)
    await mode.until(lambda: "could not be looked after" in caplog.text)
    assert "of the pool" in caplog.text
    clock.now += 61
    await look(mode, pool)
    await mode.until(lambda: len(mode.world.open) == 1)
    await mode.go(pool.close())


async def test_max_idle_closes_what_is_not_needed(mode: Mode) -> None:
    pool, clock = await opened(mode, pool_size=5, min_size=1, max_idle=60)
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


# Age and health.


async def test_jitter_keeps_connections_from_dying_together(mode: Mode) -> None:
    pool, clock = await opened(mode, min_size=20, pool_size=20, recycle=100)
    limits = {record._expires_at - clock.now for record in inner(pool)._idle}
    assert len(limits) > 15
    assert min(limits) > 90
    assert max(limits) <= 100
    clock.now += 95
    await look(mode, pool)
    old = sum(limit < 95 for limit in limits)
    await mode.until(lambda: pool.stats().closed.get("recycle") == old)
    await mode.go(pool.wait())
    await mode.until(lambda: pool.checkedin() == 20)
    await mode.go(pool.close())


async def test_jitter_of_ones_own_choice_holds_when_opened(mode: Mode) -> None:
    pool, clock = await opened(mode, min_size=5, recycle=100, recycle_jitter=0)
    assert {record._expires_at - clock.now for record in inner(pool)._idle} == {100}
    await mode.go(pool.close())


async def test_renewal_doesnt_end_with_the_first_that_is_young(mode: Mode) -> None:
    pool, clock = await opened(mode, pool_size=2, recycle=100, recycle_jitter=0)
    old = await mode.go(pool.unique_connection())
    clock.now += 60
    young = await mode.go(pool.unique_connection())
    await mode.go(young.close())
    await mode.go(old.close())
    clock.now += 41
    await look(mode, pool)
    await mode.until(lambda: mode.world.open == [2, 3])
    await mode.go(pool.close())


@pytest.mark.parametrize("kind", ["StaticPool", "Singleton"])
async def test_shared_connection_is_renewed_for_whoever_has_it_alone(
    mode: Mode, kind: str
) -> None:
    pool, clock = await opened(mode, kind, recycle=10)
    for number in (1, 2):
        lease = await mode.go(pool.unique_connection())
        assert lease.connection.number == number
        await mode.go(lease.close())
        clock.now += 11
    leases = [await mode.go(pool.unique_connection())]
    clock.now += 11
    leases.append(await mode.go(pool.unique_connection()))
    assert [lease.connection.number for lease in leases] == [3, 3]
    for lease in leases:
        await mode.go(lease.close())
    await mode.go(pool.close())


@pytest.mark.parametrize("kind", ["StaticPool", "Singleton"])
async def test_shared_connection_is_pinged_for_whoever_has_it_alone(
    mode: Mode, kind: str
) -> None:
    pool = mode.pool(kind, pre_ping=True)
    for pings in (0, 1):  # the first one is new
        lease = await mode.go(pool.unique_connection())
        assert mode.world.count("ping") == pings
        await mode.go(lease.close())
    leases = [await mode.go(pool.unique_connection()) for _ in range(2)]
    assert mode.world.count("ping") == 2
    for lease in leases:
        await mode.go(lease.close())
    await mode.go(pool.close())


async def test_ping_before_every_checkout(mode: Mode) -> None:
    pool = mode.pool(pre_ping=True)
    for _ in range(3):
        async with mode.block(pool.connect()):
            pass
    assert mode.world.count("ping") == 2  # the first one is new
    await mode.go(pool.close())


async def test_dead_connection_is_logged(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    pool = mode.pool(pre_ping=True)
    async with mode.block(pool.connect()):
        pass
    mode.world.fail["ping"] = ConnectionResetError("password=SECRET")
    with caplog.at_level(logging.INFO, "anypool"):
        async with mode.block(pool.connect()) as connection:
            assert connection.number == 2
    assert "is dead" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("recycle", [0.5, 1, 3600])
async def test_opened_pool_has_a_jitter_of_a_tenth(mode: Mode, recycle: float) -> None:
    pool, _ = await opened(mode, recycle=recycle)
    assert inner(pool)._jitter == recycle / 10
    await mode.go(pool.close())


async def test_ping_after_idling(mode: Mode) -> None:
    pool, clock = await opened(mode, pre_ping=30)
    for pause, pings in ((0, 0), (29, 0), (31, 1), (1, 1), (31, 2)):
        clock.now += pause
        async with mode.block(pool.connect()):
            assert mode.world.count("ping") == pings
    await mode.go(pool.close())


async def test_opened_pool_pings_once_for_each_checkout(mode: Mode) -> None:
    pool = mode.pool(pre_ping=True)
    async with mode.block(pool):
        for pings in range(4):  # the first one is new
            async with mode.block(pool.connect()):
                assert mode.world.count("ping") == pings


async def test_server_that_answers_no_ping_is_not_stormed(mode: Mode) -> None:
    mode.world.fail["ping"] = ConnectionResetError()
    pool = mode.pool(pre_ping=True)
    async with mode.block(pool):
        for connects in range(1, 4):
            async with mode.block(pool.connect()):
                assert mode.world.count("connect") == connects


async def test_stale_connection_is_replaced_by_who_may_not_wait(mode: Mode) -> None:
    pool = mode.pool()
    async with mode.block(pool):
        async with mode.block(pool.connect()):
            pass
        inner(pool)._age()
        async with mode.block(pool.connect(timeout=0)) as connection:
            assert connection.number == 2
        inner(pool)._age()
        mode.world.fail["connect"] = OSError("refused")
        with pytest.raises(OSError, match="refused"):
            await mode.go(pool.connect(timeout=0))


async def test_pool_that_never_waits_is_warmed(mode: Mode) -> None:
    """A timeout of 0 is for callers, not for what is done in the background."""
    pool = mode.pool(timeout=0, min_size=2, fail_fast=True)
    async with mode.block(pool):
        await mode.go(pool.wait(PATIENCE))
        async with mode.block(pool.connect()):
            assert pool.stats().failed == 0


async def test_checkout_may_take_longer_than_the_pools_timeout(mode: Mode) -> None:
    _slow_connects(mode, 0.05)
    pool = mode.pool(timeout=0.01)
    async with mode.block(pool):
        async with mode.block(pool.connect(timeout=PATIENCE)):
            assert pool.stats().opened == 1
        assert pool.stats().failed == 0


@pytest.mark.parametrize("is_open", [False, True])
async def test_one_checkout_gets_past_all_stale_connections(
    mode: Mode, is_open: bool
) -> None:
    pool = mode.pool(pool_size=6, pre_ping=True)
    if is_open:
        await mode.go(pool.open())
    leases = [await mode.go(pool.unique_connection()) for _ in range(6)]
    for lease in leases:
        await mode.go(lease.close())
    dead = set(mode.world.open)

    def ping() -> None:
        if mode.world.events[-1][1] in dead:
            raise ConnectionResetError

    mode.world.on["ping"] = ping
    begin = time.monotonic()
    async with mode.block(pool.connect()) as connection:
        assert connection.number not in dead
    assert time.monotonic() - begin < PATIENCE / 4
    assert pool.stats().closed["ping"] >= 1
    await mode.go(pool.close())


async def test_dead_connection_takes_all_of_the_time(mode: Mode) -> None:
    """Who has found a dead connection when the time is over doesn't wait for another."""
    pool, clock = await opened(mode, min_size=1, pool_size=1, max_overflow=0, pre_ping=True)
    async with mode.block(pool.connect()):
        clock.now += 1

    def ping() -> None:
        clock.now += 31
        raise ConnectionResetError

    mode.world.on["ping"] = ping
    with pytest.raises(anypool.PoolTimeoutError, match="connecting timed out, timeout 30"):
        await mode.go(pool.connect())
    stats = pool.stats()
    assert (stats.timeouts, stats.checked_out, stats.waiting) == (1, 0, 0)
    await mode.go(pool.wait())
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 2
    await mode.go(pool.close())


async def test_timeout_after_a_dead_connection_is_told_as_it_was_given(mode: Mode) -> None:
    """Who waits for another connection waits for what is left, and hears of the whole."""
    pool, clock = await opened(mode, min_size=1, pool_size=1, max_overflow=0, pre_ping=True)
    async with mode.block(pool.connect()):
        clock.now += 1

    def ping() -> None:
        clock.now += 29.98
        inner(pool).suspend()
        raise ConnectionResetError

    mode.world.on["ping"] = ping
    with pytest.raises(anypool.PoolTimeoutError, match="connection timed out, timeout 30"):
        await mode.go(pool.connect())
    pool.resume()
    await mode.go(pool.wait())
    await mode.go(pool.close())


async def test_keepalive_pings_what_idles(mode: Mode) -> None:
    pool, clock = await opened(mode, min_size=2, keepalive=60)
    clock.now += 61
    await look(mode, pool)
    await mode.until(lambda: mode.world.count("ping") == 2)
    await mode.until(lambda: pool.checkedin() == 2)
    mode.world.fail["ping"] = ConnectionResetError()
    clock.now += 61
    await look(mode, pool)
    await mode.until(lambda: pool.stats().closed.get("ping") == 2)
    await mode.go(pool.wait())
    assert len(mode.world.open) == 2
    await mode.go(pool.close())


@pytest.mark.parametrize("what", ["keepalive", "max_idle", "recycle"])
async def test_upkeep_leaves_what_is_out_alone(mode: Mode, what: str) -> None:
    pool, clock = await opened(mode, **{what: 60})
    out, idle = [await mode.go(pool.unique_connection()) for _ in range(2)]
    await mode.go(idle.close())
    clock.now += 61
    await look(mode, pool)
    expected = "ping" if what == "keepalive" else "close"
    await mode.until(lambda: mode.world.events_of(2)[-1] == expected)
    await mode.settle()
    assert mode.world.events_of(1) == []
    assert pool.stats().checked_out == 1
    await mode.go(out.close())
    await mode.go(pool.close())


async def test_drain_replaces_all_connections(mode: Mode) -> None:
    pool = mode.pool(min_size=3)
    await mode.go(pool.open())
    await mode.go(pool.wait())
    lease = await mode.go(pool.connect())
    number = lease.connection.number
    await mode.go(pool.drain())
    await mode.until(lambda: mode.world.open == [number, 4, 5])
    await mode.go(lease.close())
    await mode.until(lambda: mode.world.open == [4, 5, 6])
    await mode.go(pool.close())


async def test_drain_of_a_pool_that_is_not_open(mode: Mode) -> None:
    pool = mode.pool()
    async with mode.block(pool.connect()):
        pass
    await mode.go(pool.drain())
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 2
    assert mode.world.open == [2]
    await mode.go(pool.close())


@pytest.mark.parametrize("is_open", [False, True])
async def test_interrupted_ping_keeps_its_slot(mode: Mode, is_open: bool) -> None:
    """No other connection takes the place of one that is still there."""
    if mode.blocking:
        pytest.skip("needs cancellation")
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, pre_ping=True, pool_size=1, max_overflow=0)
    await _open_and_use(mode, pool, is_open)
    pinging, closing = holds.on("ping"), holds.on("close")
    async with mode.group() as start:
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                await mode.until(lambda: pinging.reached)
                scope.cancel()

            start(cancel)
            await pool.connect()
        start(_use, mode, pool)
        await mode.until(lambda: pool.stats().waiting == 1)
        assert mode.world.count("connect") == 1
        pinging.release()
        await mode.until(lambda: closing.reached)
        assert mode.world.count("connect") == 1
        closing.release()
    assert mode.world.open == [2]
    await pool.close()


@pytest.mark.parametrize("is_open", [False, True])
async def test_slow_ping_in_a_thread_keeps_its_slot(
    mode: Mode, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller waits for the next connection that may exist."""
    pool, pinging = await _slow_to_ping(mode, is_open, monkeypatch)
    with pytest.raises(anypool.PoolTimeoutError):
        await pool.connect(timeout=0)
    assert (pool.checkedin(), pool.checkedout(), len(inner(pool)._out)) == (0, 1, 1)
    async with mode.group() as start:
        start(_use, mode, pool)
        await mode.until(lambda: pool.stats().waiting == 1)
        assert mode.world.count("connect") == 1
        assert mode.world.count("close") == 0
        pinging.release()
    assert mode.world.open == [2]
    assert pool.stats().closed == {"ping": 1}
    await pool.close()


@pytest.mark.parametrize("is_open", [False, True])
async def test_whose_ping_is_slow_in_a_thread_waits_for_another_connection(
    mode: Mode, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, pinging = await _slow_to_ping(mode, is_open, monkeypatch)
    async with mode.group() as start:
        start(_use, mode, pool)
        await mode.until(lambda: pool.stats().waiting == 1)
        assert (pool.checkedin(), pool.checkedout()) == (0, 1)
        assert mode.world.open == [1]
        pinging.release()
    assert mode.world.open == [2]
    await pool.close()


async def _slow_to_ping(
    mode: Mode, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Hold]:
    """Make a pool whose idle connection won't answer a ping before it is released."""
    if mode.name != "threads":
        pytest.skip("needs pings that can't be stopped")
    monkeypatch.setattr("anypool._pools.fitness.PING_TIMEOUT", 0.02)
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, pre_ping=True, pool_size=1, max_overflow=0)
    await _open_and_use(mode, pool, is_open)
    return pool, holds.on("ping")


async def _open_and_use(mode: Mode, pool: Any, is_open: bool) -> None:
    if is_open:
        await mode.go(pool.open())
    await _use(mode, pool)


async def _use(mode: Mode, pool: Any) -> None:
    async with mode.block(pool.connect()):
        pass


# Bursts.


async def test_burst_is_served_by_returns(mode: Mode) -> None:
    """HikariCP's spike: 50 callers at once, slow connects, uses of 2 ms."""
    _slow_connects(mode, 0.5)  # enough for a busy machine, too
    pool = mode.pool(pool_size=50, max_overflow=0, min_size=5)
    await mode.go(pool.open())
    await mode.go(pool.wait())
    await _burst(mode, pool)
    await mode.settle()
    assert len(mode.world.connections) <= 6
    await mode.go(pool.close())


async def test_burst_at_an_empty_pool(mode: Mode) -> None:
    _slow_connects(mode, 0.5)
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


def _slow_connects(mode: Mode, seconds: float) -> None:
    create = mode.world.connect

    def slow() -> Any:
        time.sleep(seconds)
        return create()

    async def slow_async() -> Any:
        await anyio.sleep(seconds)
        return await create()

    mode.world.connect = slow_async if mode.world.coroutine else slow  # type: ignore[method-assign]  # a slower one


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


# An absent server.


async def test_absent_server_is_asked_at_growing_intervals(mode: Mode) -> None:
    mode.world.fail["connect"] = OSError("refused")
    pool = mode.pool(pool_size=20, timeout=0.3)
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


# Statistics.


async def test_stats(mode: Mode) -> None:
    pool, clock = await opened(mode, pool_size=1, max_overflow=1)
    first = await mode.go(pool.unique_connection())
    second = await mode.go(pool.unique_connection())
    stats = pool.stats()
    assert (stats.size, stats.checked_out, stats.idle, stats.waiting) == (2, 2, 0, 0)
    assert (stats.checkouts, stats.opened) == (2, 2)

    async def wait() -> None:
        async with mode.block(pool.connect()):
            pass

    async with mode.group() as start:
        start(wait)
        await mode.until(lambda: pool.stats().waiting == 1)
        clock.now += 3
        assert pool.stats().oldest_wait == 3
        await mode.go(first.close())
    with pytest.raises(anypool.PoolTimeoutError):
        lease = await mode.go(pool.unique_connection())
        await mode.go(pool.unique_connection(timeout=0))
    await mode.go(lease.close())
    clock.now += 2
    await mode.go(second.close())
    stats = pool.stats()
    assert stats.use_time == 3 + 5
    assert (stats.checkouts, stats.timeouts, stats.cancelled) == (4, 1, 0)
    assert stats.wait_time >= 3
    assert stats.waits >= 1
    assert (stats.size, stats.idle, stats.checked_out) == (1, 1, 0)
    assert stats.closed == {"overflow": 1}
    with pytest.raises(AttributeError):
        stats.size = 3
    with pytest.raises(TypeError):
        stats.closed["idle"] = 3
    await mode.go(pool.close())
    after = pool.stats()
    assert (after.size, after.checkouts, after.use_time) == (0, 4, 8)
    assert after.closed == {"overflow": 1, "dispose": 1}


async def test_cancelled_waiters_are_counted(mode: Mode) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0)
    lease = await mode.go(pool.connect())
    if mode.blocking:
        if mode.name == "portal" or not hasattr(signal, "pthread_kill"):
            pytest.skip("no interrupt comes through")
        main = threading.main_thread().ident
        assert main is not None

        async def interrupt() -> None:
            await mode.until(lambda: pool.stats().waiting == 1)
            signal.pthread_kill(main, signal.SIGINT)

        async with mode.group() as start:
            start(interrupt)
            with pytest.raises(KeyboardInterrupt):
                await mode.go(pool.unique_connection())
    else:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.unique_connection().__aenter__)
            await mode.until(lambda: pool.stats().waiting == 1)
            tasks.cancel_scope.cancel()
    stats = pool.stats()
    assert (stats.cancelled, stats.timeouts, stats.waiting) == (1, 0, 0)
    assert stats.waits == 1
    await mode.go(lease.close())
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    await mode.go(pool.close())


@pytest.mark.parametrize("kind", KINDS)
async def test_stats_of_all_pools(mode: Mode, kind: str) -> None:
    pool = mode.pool(kind)
    for _ in range(3):
        async with mode.block(pool.connect()):
            stats = pool.stats()
            assert (stats.checked_out, stats.size) == (1, 1)
    stats = pool.stats()
    assert stats.checkouts == 3
    assert stats.opened == len(mode.world.connections)
    assert sum(stats.closed.values()) == stats.opened - len(mode.world.open)
    assert not math.isnan(stats.use_time)
    await mode.go(pool.close())
    stats = pool.stats()
    assert sum(stats.closed.values()) == stats.opened


async def test_use_times_are_measured_for_those_who_ask(mode: Mode) -> None:
    pool, clock = await opened(mode)

    async def use(times: int) -> None:
        for _ in range(times):
            async with mode.block(pool.connect()):
                clock.now += 1

    await use(1200)
    assert not inner(pool)._timed
    async with mode.block(pool.connect()):
        clock.now += 100  # not measured: nobody had asked
        assert pool.stats().use_time == 1000
        clock.now += 1
    assert pool.stats().use_time == 1001
    await use(1200)
    assert pool.stats().use_time == 2201
    await mode.go(pool.close())


@pytest.mark.parametrize("how", ["close", "invalidate", "detach", "drop"])
async def test_use_ends_with_the_lease(mode: Mode, how: str) -> None:
    pool, clock = await opened(mode)
    leases = [await mode.go(pool.connect())]
    clock.now += 3
    if how == "drop":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            leases.clear()
        await mode.settle()
    else:
        await mode.go(getattr(leases[0], how)())
    await mode.until(lambda: pool.stats().checked_out == 0)
    clock.now += 5
    assert pool.stats().use_time == 3
    for lease in leases:
        await mode.go(lease.close())
    assert pool.stats().use_time == 3
    await mode.go(pool.close())


async def test_detached_connections_are_not_counted(mode: Mode) -> None:
    """However they are closed: they aren't the pool's any more."""
    pool = mode.pool()
    for close in ("close", "invalidate"):
        lease = await mode.go(pool.connect())
        await mode.go(lease.detach())
        await mode.go(getattr(lease, close)())
    assert not mode.world.open
    assert pool.stats().closed == {}
