"""Opened and closed: nothing is left, whatever is under way."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import anyio.to_thread
import pytest

import anypool

from .support.holds import Holds
from .support.modes import PATIENCE, Mode
from .support.opened import inner, look, opened

KINDS = ["QueuePool", "NullPool", "StaticPool", "AssertionPool", "Singleton"]


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
        await mode.until(lambda: inner(pool)._ledger.closed)
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
    assert mode.world.open == [1]
    await mode.go(lease.close())
    assert not mode.world.open
    assert not lease.is_valid
    await mode.go(pool.close())


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


async def test_who_waits_for_a_warm_pool_is_told_of_the_close(mode: Mode) -> None:
    pool = mode.pool(min_size=1)
    pool.suspend()  # so that it stays cold
    await mode.go(pool.open())
    told = mode.event()

    async def wait() -> None:
        with pytest.raises(anypool.PoolClosedError):
            await mode.go(pool.wait(2 * PATIENCE))
        told.set()

    async with mode.group() as start:
        start(wait)
        await mode.until(lambda: inner(pool)._ledger.growth.watchers)
        await mode.go(pool.close())
        await told.wait()


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
        await mode.until(lambda: inner(pool)._ledger.closed)
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
        await mode.until(lambda: inner(pool)._ledger.closed)
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
    await mode.until(lambda: hold.reached == pool.stats().checked_out == 1)
    async with mode.group() as start:
        start(pool.close, 0)
        await mode.until(lambda: pool._ledger.closed and not pool._ledger.leases.out)
        hold.release()
    await mode.until(lambda: mode.world.connections)
    await mode.until(lambda: not mode.world.open)


async def test_connection_that_does_not_close_is_terminated_in_the_end(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode.blocking or mode.name == "threads":
        pytest.skip("a thread can't be stopped")
    monkeypatch.setattr("anypool._core.bounds.CLOSE_TIMEOUT", 0.05)
    monkeypatch.setattr("anypool._core.bounds.RETURN_TIMEOUT", 0.5)
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


@pytest.mark.parametrize("kind", ["QueuePool", "NullPool", "AssertionPool"])
async def test_close_while_a_caller_closes_a_connection(mode: Mode, kind: str) -> None:
    """That has its time, and is not done once more."""
    holds = Holds(mode)
    pool = mode.pool(kind, creator=holds.connect)
    lease = await mode.go(pool.connect())
    hold = holds.on("close")

    async def invalidate() -> None:
        await mode.go(lease.invalidate())

    async def close() -> None:
        await mode.go(pool.close(timeout=0))
        assert not mode.world.open

    async with mode.group() as start:
        start(invalidate)
        await mode.until(lambda: hold.reached)
        start(close)
        await mode.until(lambda: inner(pool)._ledger.closers)
        hold.release()
    assert [what for what, _ in mode.world.events].count("close") == 1
    assert "terminate" not in [what for what, _ in mode.world.events]
    assert pool.stats().closed == {"invalid": 1}


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


@pytest.mark.parametrize("kind", KINDS)
async def test_close_while_a_caller_connects(
    mode: Mode, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is told, and its connection is closed, and counted."""
    monkeypatch.setattr("anypool._core.bounds.CLOSE_TIMEOUT", 0.02)
    holds = Holds(mode)
    hold = holds.on("connect")
    pool = mode.pool(kind, creator=holds.connect)
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
    stats = pool.stats()
    assert stats.opened == sum(stats.closed.values())
    assert (stats.size, stats.checked_out) == (0, 0)


async def test_background_connect_whose_listener_takes_for_ever(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: a connection that is initialised by half must never be pooled."""
    if mode.name in ("blocking", "threads"):
        pytest.skip("its connect can't be cut short")
    monkeypatch.setattr("anypool._core.bounds.CONNECT_TIMEOUT", 0.02)
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
