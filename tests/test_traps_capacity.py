"""Traps of capacity and locking: slots that get lost, waiters that nobody wakes."""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
import warnings
from typing import Any

import pytest

import anypool
from anypool import sync

from .support.fakes import World
from .support.holds import Holds, overlaps, waiting
from .support.modes import PATIENCE, Mode


async def _assert_full_capacity(mode: Mode, pool: Any, capacity: int) -> None:
    """All of the pool's connections can be had at once, and one more can not."""
    leases = [await mode.go(pool.unique_connection(timeout=5)) for _ in range(capacity)]
    assert len({lease.connection for lease in leases}) == capacity
    with pytest.raises(anypool.PoolTimeoutError):
        await mode.go(pool.unique_connection(timeout=0))
    for lease in leases:
        await mode.go(lease.close())
    assert pool.checkedout() == 0


async def test_slow_connect_blocks_nobody_else(mode: Mode) -> None:
    """Trap: the creator ran under the overflow lock, returns included."""
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, pool_size=3)
    lease = await mode.go(pool.unique_connection())
    slow = holds.on("connect")

    async def connect_slowly() -> None:
        async with mode.block(pool.unique_connection()):
            pass

    async with mode.group() as start:
        start(connect_slowly)
        await mode.until(lambda: slow.reached)
        await mode.go(lease.close())
        async with mode.block(pool.unique_connection(timeout=5)) as conn:
            assert conn.number == 1
        assert pool.checkedout() == 1
        slow.release()
    assert pool.checkedout() == 0


async def test_slow_close_blocks_nobody_else(mode: Mode) -> None:
    """Trap: the overflow lock was held while closing."""
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, pool_size=1, max_overflow=2)
    first, second = [await mode.go(pool.unique_connection()) for _ in range(2)]
    slow = holds.on("close")

    async def close_slowly() -> None:
        await mode.go(second.close())

    await mode.go(first.close())
    async with mode.group() as start:
        start(close_slowly)
        await mode.until(lambda: slow.reached)
        async with mode.block(pool.unique_connection(timeout=5)) as conn:
            assert conn.number == 1
        slow.release()
    assert (pool.overflow(), pool.checkedout()) == (0, 0)


@pytest.mark.parametrize("why", ["invalidated", "recycled", "disposed"])
async def test_failed_reconnect_loses_no_slot(mode: Mode, why: str) -> None:
    """Trap: the slot was lost when reconnecting failed after it had left the queue."""
    pool = mode.pool(pool_size=1, max_overflow=0, recycle=0 if why == "recycled" else -1)
    lease = await mode.go(pool.connect())
    if why == "invalidated":
        await mode.go(lease.invalidate())
    if why == "disposed":
        await mode.go(pool.dispose())
    await mode.go(lease.close())
    born = time.monotonic()
    await mode.until(lambda: time.monotonic() > born)
    mode.world.fail["connect"] = OSError("refused")
    for _ in range(3):
        with pytest.raises(OSError, match="refused"):
            await mode.go(pool.connect(timeout=5))
        assert pool.checkedout() == 0
    del mode.world.fail["connect"]
    await _assert_full_capacity(mode, pool, 1)


async def test_overflow_is_closed_before_it_stops_counting(mode: Mode) -> None:
    """Trap: overflow connections were dropped without close(), or counted off before."""
    pool = mode.pool(pool_size=1, max_overflow=1)
    first, second = [await mode.go(pool.unique_connection()) for _ in range(2)]
    await mode.go(first.close())
    counts: list[tuple[int, int]] = []
    mode.world.on["close"] = lambda: counts.append((pool.overflow(), pool.checkedout()))
    await mode.go(second.close())
    assert counts == [(1, 1)]
    assert (pool.overflow(), pool.checkedout()) == (0, 0)
    assert mode.world.open == [1]


async def test_newcomers_open_nothing_while_overflow_is_closing(mode: Mode) -> None:
    """Never more than pool_size + max_overflow are open, one that is closing included."""
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, pool_size=1, max_overflow=1)
    first, second = [await mode.go(pool.unique_connection()) for _ in range(2)]
    await mode.go(first.close())
    slow = holds.on("close")

    async def close() -> None:
        await mode.go(second.close())

    async with mode.group() as start:
        start(close)
        await mode.until(lambda: slow.reached)
        third = await mode.go(pool.unique_connection(timeout=0))
        with pytest.raises(anypool.PoolTimeoutError):
            await mode.go(pool.unique_connection(timeout=0))
        slow.release()
    await mode.go(third.close())
    assert mode.world.open == [1]


@pytest.mark.parametrize("max_overflow", [0, 2])
async def test_pool_size_zero_has_no_limit(mode: Mode, max_overflow: int) -> None:
    """Trap: pool_size=0 was still capped by max_overflow."""
    pool = mode.pool(pool_size=0, max_overflow=max_overflow, timeout=0)
    leases = [await mode.go(pool.unique_connection()) for _ in range(12)]
    assert pool.checkedout() == 12
    for lease in leases:
        await mode.go(lease.close())
    assert pool.checkedin() == 12


async def test_dispose_leaves_no_waiter_behind(mode: Mode) -> None:
    """Trap: callers went on waiting on a disposed pool; others got a dead connection."""
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=None)
    lease = await mode.go(pool.connect())
    served: list[Any] = []

    async def wait() -> None:
        async with mode.block(pool.connect()) as conn:
            assert not conn.closed
            served.append(conn.number)

    async with mode.group() as start:
        start(wait)
        start(wait)
        await mode.until(lambda: waiting(pool) == 2)
        await mode.go(pool.dispose())
        await mode.go(lease.close())
    assert served == [2, 2]
    assert mode.world.open == [2]


async def test_dispose_with_connections_out_counts_right(mode: Mode) -> None:
    """Trap: dispose() made checkedout() wrong, and a pool of one had two live."""
    pool = mode.pool(pool_size=1, max_overflow=0)
    lease = await mode.go(pool.connect())
    for _ in range(3):
        await mode.go(pool.dispose())
        assert pool.checkedout() == pool.size() - pool.checkedin() + pool.overflow() == 1
    with pytest.raises(anypool.PoolTimeoutError):
        await mode.go(pool.unique_connection(timeout=0))
    await mode.go(lease.close())
    assert pool.checkedout() == 0
    assert mode.world.open == []
    await _assert_full_capacity(mode, pool, 1)
    assert mode.world.open == [2]


async def test_dispose_during_a_return_closes_once(mode: Mode) -> None:
    """A connection that is being reset when the pool is disposed is closed afterwards."""
    for kind in ("QueuePool", "StaticPool", "AssertionPool", "Singleton", "NullPool"):
        holds = Holds(mode)
        pool = mode.pool(kind, creator=holds.connect)
        lease = await mode.go(pool.connect())
        slow = holds.on("rollback")

        async def close(lease: Any = lease) -> None:
            await mode.go(lease.close())

        async with mode.group() as start:
            start(close)
            await mode.until(lambda slow=slow: slow.reached)  # type: ignore[misc]
            await mode.go(pool.dispose())
            slow.release()
        await mode.until(lambda: mode.world.open == [])
        assert overlaps(mode) == [], kind


async def test_assertion_pool_has_one_connection_live_across_dispose(mode: Mode) -> None:
    """Trap: after dispose() a pool of one had two live."""
    holds = Holds(mode)
    pool = mode.pool("AssertionPool", creator=holds.connect)
    lease = await mode.go(pool.connect())
    await mode.go(pool.dispose())
    slow = holds.on("close")

    async def close() -> None:
        await mode.go(lease.close())

    async with mode.group() as start:
        start(close)
        await mode.until(lambda: slow.reached)
        with pytest.raises(AssertionError, match="out already"):
            await mode.go(pool.connect())
        slow.release()
    assert mode.world.open == []
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2


@pytest.mark.parametrize(
    "how", ["failed connect", "return", "discard", "invalidate", "detach", "drop"]
)
async def test_freed_capacity_wakes_a_waiter(mode: Mode, how: str) -> None:
    """Trap: a failed connect freed capacity but woke no waiter."""
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, pool_size=1, max_overflow=0, timeout=None)
    slow = holds.on("connect")
    leases: list[Any] = []
    taken = mode.event()
    free = mode.event()

    async def first() -> None:
        if how == "failed connect":
            holds.errors.append(OSError("refused"))
            with pytest.raises(OSError, match="refused"):
                await mode.go(pool.connect())
            return
        lease = await mode.go(pool.connect())
        leases.append(lease)
        taken.set()
        await free.wait()
        if how == "return":
            await mode.go(lease.close())
        elif how == "discard":
            mode.world.fail["rollback"] = OSError("gone")
            await mode.go(lease.close())
            del mode.world.fail["rollback"]
        elif how == "invalidate":
            await mode.go(lease.invalidate())
        elif how == "detach":
            await mode.go(lease.detach())
        else:
            leases.clear()
            with pytest.warns(ResourceWarning, match="dropped"):
                del lease
                await mode.settle()

    served: list[int] = []

    async def second() -> None:
        async with mode.block(pool.connect()) as conn:
            served.append(conn.number)

    async with mode.group() as start:
        start(first)
        await mode.until(lambda: slow.reached)
        start(second)
        await mode.until(lambda: waiting(pool) == 1)
        slow.release()
        if how != "failed connect":
            await taken.wait()
            free.set()
    assert len(served) == 1
    for lease in leases:
        await mode.go(lease.close())
    assert pool.checkedout() == 0
    await _assert_full_capacity(mode, pool, 1)


async def test_busy_caller_starves_nobody(mode: Mode) -> None:
    """Trap: a caller that returns and takes again overtook all waiters (362 of 400)."""
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=None)
    lease = await mode.go(pool.connect())
    order: list[str] = []

    async def wait(name: str) -> None:
        async with mode.block(pool.connect()):
            order.append(name)

    async with mode.group() as start:
        for number in range(5):
            start(wait, f"waiter {number}")
            await mode.until(lambda number=number: waiting(pool) == number + 1)  # type: ignore[misc]
        await mode.go(lease.close())
        for _ in range(5):
            async with mode.block(pool.connect()):
                order.append("busy")
    waiters = [name for name in order if name != "busy"]
    assert waiters == [f"waiter {number}" for number in range(5)]
    assert order.index("busy") == 5


async def test_newcomer_with_no_patience_does_not_overtake(mode: Mode) -> None:
    """A checkout that won't wait gets nothing while somebody else waits."""
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=None)
    lease = await mode.go(pool.connect())
    served: list[str] = []

    async def wait() -> None:
        async with mode.block(pool.connect()):
            served.append("waiter")

    async with mode.group() as start:
        start(wait)
        await mode.until(lambda: waiting(pool) == 1)
        with pytest.raises(anypool.PoolTimeoutError):
            await mode.go(pool.unique_connection(timeout=0))
        await mode.go(lease.close())
    assert served == ["waiter"]
    await _assert_full_capacity(mode, pool, 1)


async def test_one_deadline_for_waiting_and_connecting(mode: Mode) -> None:
    """Trap: the timeout started anew for each phase, or didn't bound connecting."""
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, pool_size=1, max_overflow=0)
    lease = await mode.go(pool.connect())
    slow = holds.on("connect")
    took: list[float] = []

    async def wait() -> None:
        began = time.monotonic()
        with pytest.raises(anypool.PoolTimeoutError, match="connecting"):
            await mode.go(pool.connect(timeout=0.5))
        took.append(time.monotonic() - began)

    async with mode.group() as start:
        start(wait)
        await mode.until(lambda: waiting(pool) == 1)
        began = time.monotonic()
        await mode.until(lambda: time.monotonic() > began + 0.35)
        await mode.go(lease.invalidate())
        await mode.until(lambda: slow.reached)
        if mode.name == "blocking":
            # A blocking connect can't be cut short: it is told when it is over.
            await mode.until(lambda: time.monotonic() > began + 0.6)
            slow.release()
    slow.release()
    assert 0.45 <= took[0] < 0.8
    await mode.until(lambda: pool.checkedout() == 0)
    await _assert_full_capacity(mode, pool, 1)


async def test_stale_connections_are_replaced_without_a_pause(mode: Mode) -> None:
    """Trap: after a server restart, the pool slept between stale connections (30 s)."""
    stale: set[int] = set()

    class Ping:
        def checkout(self, connection: Any, record: Any, lease: Any) -> None:
            if connection.number in stale:
                raise anypool.DisconnectionError("server restarted")

    pool = mode.pool(pool_size=6, listeners=[Ping()])
    leases = [await mode.go(pool.unique_connection()) for _ in range(6)]
    for lease in leases:
        await mode.go(lease.close())
    stale.update(range(1, 7))
    began = time.monotonic()
    leases = [await mode.go(pool.unique_connection()) for _ in range(6)]
    assert time.monotonic() - began < 5
    assert [lease.connection.number for lease in leases] == [7, 8, 9, 10, 11, 12]
    for lease in leases:
        await mode.go(lease.close())
    assert len(mode.world.open) == 6


async def test_wall_clock_is_not_used(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: invalidation by wall clock: wrong on jumps, missed on equal timestamps."""
    pool = mode.pool(recycle=1000)
    async with mode.block(pool.connect()):
        pass
    for jump in (-1e9, 4e9):
        monkeypatch.setattr(time, "time", lambda jump=jump: jump)
        async with mode.block(pool.connect()) as conn:
            assert conn.number == 1
    lease = await mode.go(pool.connect())
    await mode.go(pool.dispose())  # in the same tick of any clock
    await mode.go(lease.close())
    assert mode.world.open == []


class Stop(BaseException):
    """What is no Exception: stands for cancellations and interrupts."""


@pytest.mark.parametrize(
    "error", [OSError("no"), Stop("no")], ids=["Exception", "BaseException"]
)
@pytest.mark.parametrize("what", ["connect", "checkout", "checkin"])
async def test_raising_listener_loses_no_slot(
    mode: Mode, what: str, error: BaseException
) -> None:
    """Trap: a raising checkin listener lost the slot for ever; a raising connect listener
    pooled a half-initialised connection, or stranded it open."""
    failing = True

    class Listener:
        def fail(self, *_: Any) -> None:
            if failing:
                raise error

    setattr(Listener, what, Listener.fail)
    pool = mode.pool(pool_size=1, max_overflow=0, listeners=[Listener()])
    for _ in range(3):
        with pytest.raises(type(error)):
            async with mode.block(pool.connect(timeout=5)):
                pass
        await mode.until(lambda: pool.checkedout() == 0)
    failing = False
    async with mode.block(pool.connect(timeout=5)) as conn:
        assert not conn.closed
    if what != "checkout" or isinstance(error, Stop):
        assert conn.number == 4
    assert mode.world.open == [conn.number]
    await _assert_full_capacity(mode, pool, 1)


@pytest.mark.parametrize(("pool_size", "max_overflow"), [(1, 0), (2, 1), (1, 3)])
def test_threads_at_random(pool_size: int, max_overflow: int) -> None:
    """Many threads that return, invalidate, drop and dispose, switched at every chance:
    nobody shares a connection, no limit is broken, nothing is lost."""
    world = World(coroutine=False)
    pool = sync.QueuePool(
        world.connect,
        pool_size=pool_size,
        max_overflow=max_overflow,
        timeout=PATIENCE,
        use_threadlocal=False,
    )
    end = time.monotonic() + 0.5
    wrong: list[str] = []
    most = [0]

    def work(seed: int) -> None:
        choose = random.Random(seed)
        try:
            while time.monotonic() < end:
                lease = pool.connect()
                connection = lease.connection
                if connection.in_use or connection.closed:
                    wrong.append(f"{connection.in_use=} {connection.closed=}")
                connection.in_use = True
                most[0] = max(most[0], pool.checkedout())
                time.sleep(0)
                connection.in_use = False
                act = choose.random()
                if act < 0.7:
                    lease.close()
                elif act < 0.8:
                    lease.invalidate()
                elif act < 0.9:
                    pool.dispose()
                    lease.close()
                    lease.close()
                del lease, connection
        except BaseException as error:
            wrong.append(repr(error))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            threads = [
                threading.Thread(target=work, args=(n,), daemon=True) for n in range(6)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(2 * PATIENCE)
                assert not thread.is_alive()
            gc.collect()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong
    assert most[0] <= pool_size + max_overflow
    assert pool.checkedout() == 0
    assert len(world.open) <= pool_size
    pool.dispose()
    assert world.open == []
    world.assert_sound()
