"""What happens in one certain moment, between two steps of the pool's own code.

Other harnesses find these by trying all of them. Here each is brought about on purpose.
"""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import warnings
import weakref
from collections import deque
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import anypool
from anypool import sync
from anypool._drivers.coroutine import CoroutineDriver
from anypool._runtimes.thread import ThreadRuntime

from .support.fakes import World
from .support.holds import Hold, Holds, waiting
from .support.modes import PATIENCE, Mode, Threads


@pytest.fixture
def world() -> World:
    return World(coroutine=False)


class Contested(deque[Any]):
    """A queue from which another thread takes something just before this one does.

    Attributes:
        armed: whether it does so next time.
        taken: what it has taken.
    """

    def __init__(self, items: deque[Any]) -> None:
        super().__init__(items)
        self.armed = False
        self.taken: list[Any] = []

    def popleft(self) -> Any:
        self._lose()
        return super().popleft()

    def remove(self, value: Any) -> None:
        self._lose()
        super().remove(value)

    def _lose(self) -> None:
        if self.armed:
            self.armed = False
            self.taken.append(super().popleft())


def contest(pool: Any) -> Contested:
    """Have another thread take idle slots of a pool's."""
    inner = pool.async_pool
    ledger = inner._ledger
    idle = Contested(ledger.idle)
    ledger.idle, ledger.put_idle = idle, idle.append
    return idle


def give_back(pool: Any, idle: Contested) -> None:
    """Return what the other thread has taken, as the uncontended path does."""
    pool.async_pool._ledger.put_idle(idle.taken.pop())
    pool.async_pool._parts.closer.tidy()


def test_idle_slot_is_taken_before_a_waiter_gets_it(world: World) -> None:
    pool = sync.QueuePool(world.connect, pool_size=1, max_overflow=0)
    pool.connect().close()
    idle = contest(pool)
    pool.suspend()
    served = threading.Event()

    async def wait() -> None:
        with pool.connect(timeout=PATIENCE):
            served.set()

    threads = Threads()
    threads.start(wait)
    while not waiting(pool):
        served.wait(0.001)
    idle.armed = True
    pool.resume()
    assert (waiting(pool), len(idle.taken)) == (1, 1)
    give_back(pool, idle)
    threads.join()
    assert served.is_set()
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)


def test_idle_slot_is_taken_before_it_is_looked_after(world: World) -> None:
    pool = sync.QueuePool(world.connect, pool_size=1, max_idle=1)
    pool.connect().close()
    idle = contest(pool)
    idle.armed = True
    books = pool.async_pool
    assert books._ledger.decide(books._keeper._take_due, math.inf) == []
    give_back(pool, idle)
    assert world.open == [1]
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)


def test_dropped_slot_is_taken_before_it_is_collected(world: World) -> None:
    pool = sync.QueuePool(world.connect, pool_size=1)
    books = pool.async_pool
    dropped = books._ledger.dropped = Contested(books._ledger.dropped)
    dropped.armed = True
    with pytest.warns(ResourceWarning, match="dropped"):
        pool.connect()
        gc.collect()
    assert (pool.checkedout(), len(dropped.taken)) == (1, 1)
    dropped.append(dropped.taken.pop())
    books._reclaimer.collect()
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)


@pytest.mark.parametrize("timeout", [0, PATIENCE])
def test_slot_comes_back_before_its_waiter_is_in_the_queue(
    timeout: float, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The uncontended return takes no lock, and nobody is there yet whom it could see."""
    pool = sync.QueuePool(world.connect, pool_size=1, max_overflow=0)
    lease = pool.unique_connection()
    runtime = pool.async_pool._runtime
    make = runtime.gate

    def gate() -> Any:
        lease.close()
        return make()

    monkeypatch.setattr(runtime, "gate", gate)
    with pool.connect(timeout=timeout) as connection:
        assert connection.number == 1
    assert (pool.checkedin(), pool.checkedout(), waiting(pool)) == (1, 0, 0)


class Told:
    """The gate of a waiter that is told, by somebody who is interrupted right then."""

    def __init__(self, gate: Any) -> None:
        self._gate = gate
        self.acquire = gate.acquire
        self.told = 0

    def release(self) -> None:
        self.told += 1
        if self.told == 1:
            self._gate.release()
            raise KeyboardInterrupt
        raise RuntimeError("release unlocked lock")


def test_waiter_is_told_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = sync.QueuePool(world.connect, pool_size=1, max_overflow=0)
    runtime = pool.async_pool._runtime
    gate = Told(runtime.gate())
    monkeypatch.setattr(runtime, "gate", lambda: gate)
    lease = pool.unique_connection()
    numbers: list[int] = []

    async def wait() -> None:
        with pool.connect(timeout=PATIENCE) as connection:
            numbers.append(connection.number)

    threads = Threads()
    threads.start(wait)
    while not waiting(pool):
        threading.Event().wait(0.001)
    with pytest.raises(KeyboardInterrupt):
        lease.close()
    threads.join()
    assert (numbers, gate.told) == ([1], 2)
    assert (pool.checkedin(), pool.checkedout(), waiting(pool)) == (1, 0, 0)


@pytest.mark.parametrize("how", ["closed", "half closed", "detached"])
def test_terminating_is_interrupted(how: str, world: World) -> None:
    """Of what an interrupt has left, an interrupt leaves no more: the slot is free."""
    pool = sync.QueuePool(world.connect, pool_size=1, max_overflow=0)
    lease = pool.connect()
    connection = lease.connection
    world.fail["rollback"] = world.fail["close"] = KeyboardInterrupt()
    if how != "closed":
        strikes = iter([True, True])

        def close() -> None:
            if next(strikes, False):
                raise KeyboardInterrupt
            connection.closed = True

        connection.close = close
        if how == "half closed":
            next(strikes)
        else:
            lease.detach()
    with pytest.raises(KeyboardInterrupt):
        lease.close()
    world.fail.clear()
    gc.collect()
    assert connection.closed
    world.assert_sound()
    assert pool.stats().closed == ({} if how == "detached" else {"lost": 1})
    assert pool.checkedout() == 0
    with pool.connect(timeout=0) as other:
        assert other is not connection


async def test_close_that_a_listener_holds_up_is_not_waited_for(mode: Mode) -> None:
    """The pool is closed for good meanwhile: its connection is, too, and only once."""
    if mode.blocking or not mode.world.coroutine:
        pytest.skip("needs listeners that wait")
    begun, go_on = anyio.Event(), anyio.Event()

    class Slow:
        async def close(self, connection: Any, record: Any) -> None:
            begun.set()
            await go_on.wait()

    pool = mode.pool(listeners=[Slow()])
    async with pool.connect():
        pass
    async with mode.group() as start:
        start(pool.dispose)
        await begun.wait()
        await pool.close(timeout=0)
        await mode.until(lambda: not mode.world.open)
        go_on.set()
    assert mode.world.count("close") == 1
    assert pool.stats().size == 0


async def test_close_in_a_thread_that_does_not_end_is_left_to_it(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode.name != "threads":
        pytest.skip("a thread that can't be stopped")
    monkeypatch.setattr("anypool._core.bounds.CLOSE_TIMEOUT", 0.05)
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect)
    leases = [await pool.unique_connection() for _ in range(3)]
    for lease in leases:
        await lease.close()
    closing = holds.on("close")
    await pool.close(timeout=0)
    assert closing.reached == 3
    assert pool.stats().size == 0
    closing.release()
    await mode.until(lambda: not mode.world.open)


async def _pinged_in_thread(
    mode: Mode, kind: str, limit: float, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Hold]:
    """Return a pool with an idle connection, and what holds its ping up."""
    if mode.name != "threads":
        pytest.skip("a thread that can't be stopped")
    monkeypatch.setattr("anypool._core.bounds.PING_TIMEOUT", limit)
    holds = Holds(mode)
    pool = mode.pool(kind, creator=holds.connect, pre_ping=True)
    async with pool.connect():
        pass
    return pool, holds.on("ping")


@pytest.mark.parametrize("kind", ["AssertionPool", "StaticPool", "Singleton"])
async def test_ping_in_a_thread_that_does_not_end_is_left_to_it(
    mode: Mode, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its connection, which nobody else may use before it has."""
    pool, pinging = await _pinged_in_thread(mode, kind, 0.02, monkeypatch)
    async with pool.connect() as connection:
        assert connection.number == 2
        assert mode.world.open == [1, 2]
        pinging.release()
        await mode.until(lambda: mode.world.open == [2])
    assert pool.stats().closed == {"ping": 1}
    await pool.close()


@pytest.mark.parametrize("kind", ["StaticPool", "Singleton"])
async def test_ping_in_a_thread_outlasts_its_caller(
    mode: Mode, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is not closed before the thread is done with it."""
    pool, pinging = await _pinged_in_thread(mode, kind, 0.05, monkeypatch)
    with pytest.raises(anypool.PoolTimeoutError):
        await pool.connect(timeout=0.01)
    await mode.until(lambda: len(mode.world.connections) == 2)
    pinging.release()
    async with pool.connect() as connection:
        assert connection.number == 2
    await mode.until(lambda: mode.world.open == [2])
    assert pool.stats().closed == {"ping": 1}
    await pool.close()


@pytest.mark.parametrize("how", ["dispose", "close"])
@pytest.mark.parametrize("kind", ["QueuePool", "AssertionPool", "StaticPool", "Singleton"])
async def test_connect_in_a_thread_outlasts_its_caller_and_the_pool(
    mode: Mode, kind: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nobody wants the connection any more."""
    monkeypatch.setattr("anypool._core.bounds.CLOSE_TIMEOUT", 0.02)
    if mode.name != "threads":
        pytest.skip("a thread that can't be stopped")
    holds = Holds(mode)
    connecting = holds.on("connect")
    pool = mode.pool(kind, creator=holds.connect)
    with pytest.raises(anypool.PoolTimeoutError):
        await pool.connect(timeout=0.01)
    await mode.until(lambda: connecting.reached == 1)
    if how == "dispose":
        await pool.dispose()
    else:
        await pool.close(timeout=0)
    connecting.release()
    await mode.until(lambda: mode.world.count("close") and pool.stats().size == 0)
    assert not mode.world.open
    await pool.close()


async def _kept_alive(mode: Mode, holds: Holds) -> tuple[Any, Hold]:
    """Return a pool whose only connection is just being pinged, and what holds that up."""
    pool = mode.pool(creator=holds.connect, pool_size=1, max_overflow=0, keepalive=0.001)
    await pool.open()
    async with pool.connect():
        pass
    pinging = holds.on("ping")
    await mode.until(lambda: pool._keeper.kick() or pinging.reached)
    return pool, pinging


def _upkeep() -> asyncio.Task[Any]:
    (task,) = [task for task in asyncio.all_tasks() if "_keep_alive" in str(task)]
    return task


@pytest.mark.parametrize("how", ["too long", "cancelled"])
async def test_keepalive_in_a_thread_that_does_not_end_is_left_to_it(
    mode: Mode, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stops waiting for it, nobody gets this connection any more."""
    if mode.name != "threads":
        pytest.skip("a thread that can't be stopped")
    limit = 0.02 if how == "too long" else PATIENCE
    monkeypatch.setattr("anypool._core.bounds.PING_TIMEOUT", limit)
    holds = Holds(mode)
    pool, pinging = await _kept_alive(mode, holds)
    if how == "cancelled":
        _upkeep().cancel()
    with pytest.raises(anypool.PoolTimeoutError):
        await pool.connect(timeout=0.1)  # it is still in use
    pinging.release()
    async with pool.connect() as connection:
        assert connection.number == 2
    assert mode.world.open == [2]
    assert pool.stats().closed == {"ping": 1}
    await pool.close()


async def test_interrupted_call_of_a_connection_that_is_gone(mode: Mode) -> None:
    """Another thread has just closed it: nothing is there to be stopped."""
    if mode.name != "threads":
        pytest.skip("calls in threads")
    pool = mode.pool()
    lease = await pool.connect()
    record, connection = lease._record, lease.connection
    record.connection = None
    await pool._executor._interrupt(lease._caller)
    record.connection = connection
    await lease.close()
    await pool.close()


async def test_keepalive_is_cancelled(mode: Mode) -> None:
    """Its connection, on which the answer may be on its way, is nobody's any more."""
    if mode.name not in ("asyncio", "uvloop"):
        pytest.skip("asyncio's own cancellation")
    holds = Holds(mode)
    pool, pinging = await _kept_alive(mode, holds)
    upkeep, closing = _upkeep(), holds.on("close")
    upkeep.cancel()
    await mode.until(lambda: closing.reached)
    pinging.release()
    with pytest.raises(anypool.PoolTimeoutError):
        await pool.connect(timeout=0.05)  # it is not closed yet
    assert upkeep.cancelled()
    closing.release()
    async with pool.connect() as connection:
        assert connection.number == 2
    assert mode.world.open == [2]
    assert pool.stats().closed == {"lost": 1}
    await pool.close()


def test_work_beside_the_callers_without_a_loop(world: World) -> None:
    """It gets as far as it can."""
    pool = anypool.QueuePool(world.connect)
    steps: list[str] = []

    async def work() -> None:
        steps.append("begun")
        try:
            await anyio.lowlevel.checkpoint()
            steps.append("ended")
        finally:
            steps.append("given up")

    pool._parts.background.spawn(work())
    assert steps == ["begun", "given up"]


@pytest.mark.filterwarnings("ignore:.*dropped without close:ResourceWarning")
def test_lease_and_pool_are_found_by_the_collector_at_once(world: World) -> None:
    """The pool is gone when the finalizer of its lease runs: there is nothing to do."""
    pool = sync.QueuePool(world.connect)
    lease = pool.connect()
    finalizer, gone = lease._ref, weakref.ref(lease)
    lease.connection.cycle = [pool, lease]
    world.connections.clear()
    del pool, lease
    gc.collect()
    assert finalizer is not None
    assert gone() is None


@pytest.mark.parametrize("kind", ["QueuePool", "Singleton"])
async def test_lease_is_lost_before_it_is_in_any_book(mode: Mode, kind: str) -> None:
    """As by an interrupt: its finalizer finds nothing, and says nothing."""
    pool = mode.pool(kind)
    async with mode.block(pool.connect()):
        pass
    books = getattr(pool, "async_pool", pool)
    books._ledger.leases.new(pool, books._runtime.caller() if not mode.blocking else None)
    gc.collect()
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 1


def test_what_threads_run_beside_is_said_to_have_ended() -> None:
    ended: list[str] = []

    async def work() -> None:
        ended.append("work")

    assert ThreadRuntime().spawn(work(), lambda: ended.append("told"))
    assert ended == ["work", "told"]


@pytest.mark.parametrize("lines", [True, False])
async def test_checkout_by_code_without_lines(mode: Mode, lines: bool) -> None:
    """As that which some tools generate: its function's line will have to do."""

    def connect() -> Any:
        # Some line after the first.
        return pool.connect()

    first = connect.__code__.co_firstlineno
    if not lines:
        connect.__code__ = connect.__code__.replace(co_linetable=b"")
    pool = mode.pool("AssertionPool")
    lease = await mode.go(connect())
    with pytest.raises(AssertionError, match=f":{first + 2 if lines else first}"):
        await mode.go(pool.unique_connection())
    await mode.go(lease.close())


def test_record_that_nobody_has_checked_out() -> None:
    assert anypool.ConnectionRecord(0, None)._line() == ("<unknown>", 0)


def test_lease_is_dropped_while_another_of_its_slot_is_returned(world: World) -> None:
    """Who is at work on the slot sees to it afterwards."""
    pool = sync.StaticPool(world.connect)
    lease = pool.connect()
    others = [pool.unique_connection()]
    world.on["rollback"] = others.clear
    with pytest.warns(ResourceWarning, match="dropped"):
        lease.close()
    assert not pool.async_pool._ledger.leases.out
    assert world.events_of(1) == ["rollback", "rollback"]
    pool.dispose()
    assert not world.open


def test_caller_ends_after_its_pool(world: World) -> None:
    pools = [sync.SingletonThreadPool(world.connect)]
    go_on, used = threading.Event(), threading.Event()
    callers: list[Any] = []

    async def use() -> None:
        with pools[0].connect():
            pass
        callers.extend(pools[0].async_pool._ledger.kept)
        used.set()
        assert go_on.wait(PATIENCE)

    threads = Threads()
    threads.start(use)
    assert used.wait(PATIENCE)
    pools.clear()
    gc.collect()
    go_on.set()
    threads.join()
    assert [caller() for caller in callers] == [None]


class LastDriver(CoroutineDriver):
    """Ends connections in one certain way."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.called: list[str] = []

    async def ping(self, connection: Any, /) -> None:
        raise AssertionError("nobody asked for that")

    def terminate(self, connection: Any, /) -> bool:
        self.called.append("terminate")
        if self.way == "terminate fails":
            raise OSError("no")
        return False

    def close(self, connection: Any, /) -> Any:
        self.called.append("close")
        if self.way == "close fails":
            raise OSError("no")
        if self.way == "close waits":
            return self._wait()
        if self.way == "close fails in the end":
            return self._fail()
        return None

    async def _wait(self) -> None:
        await anyio.sleep(60)

    async def _fail(self) -> None:
        raise OSError("no")


@pytest.mark.parametrize(
    "way",
    [
        "terminate fails",
        *("close fails", "close waits", "close fails in the end", "close is done at once"),
    ],
)
def test_connection_that_outlives_its_loop(way: str) -> None:
    """It is closed as far as that gets without a loop; nobody is there to complain to."""
    driver = LastDriver(way)
    pool = anypool.QueuePool(World(coroutine=True).connect, driver=driver)
    leases: list[Any] = []

    async def main() -> None:
        leases.append(await pool.connect())

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()  # and nothing of what asyncio.run() would do before
    with pytest.warns(ResourceWarning, match="dropped"):
        leases.clear()
        gc.collect()
    assert driver.called == ["terminate", "close"][: 1 + (way != "terminate fails")]
    driver.way = "close is done at once"
    asyncio.run(main())  # and the pool goes on elsewhere
    assert (pool.checkedin(), pool.checkedout()) == (0, 0)


@pytest.mark.interrupts
@pytest.mark.parametrize("what", ["detached", "empty"])
def test_something_else_outlives_its_loop(what: str, world: World) -> None:
    """What isn't the pool's any more, and a slot without a connection."""
    pool = anypool.QueuePool(world.connect)
    leases: list[Any] = []

    async def main() -> None:
        leases.append(await pool.connect())
        if what == "detached":
            await leases[0].detach()
        else:
            await leases[0].close()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        leases.clear()
        pool._ledger.new_record()  # and lost at once
        gc.collect()
    assert world.open == ([] if what == "detached" else [1])
    assert pool.stats().closed == {}
    world.assert_sound()
    asyncio.run(main())  # which ends in the orderly way
    assert world.open == []


def test_connections_of_a_loop_that_was_just_closed_count_as_lost() -> None:
    world = World(coroutine=True)
    pool = anypool.QueuePool(world.connect)

    async def use() -> None:
        async with pool.connect():
            pass

    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
    loop.close()  # and nothing of what asyncio.run() would do before
    asyncio.run(use())
    stats = pool.stats()
    assert (stats.opened, stats.size, world.open) == (2, 0, [])
    assert stats.closed == {"lost": 1, "dispose": 1}


async def test_slow_ping_beside_what_is_out(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its own slot is left to the thread."""
    if mode.name != "threads":
        pytest.skip("a thread that can't be stopped")
    monkeypatch.setattr("anypool._core.bounds.PING_TIMEOUT", 0.02)
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, pre_ping=True, pool_size=2, max_overflow=0)
    leases = [await pool.unique_connection() for _ in range(2)]
    await leases.pop().close()
    pinging = holds.on("ping")
    with pytest.raises(anypool.PoolTimeoutError):
        await pool.unique_connection(timeout=0)
    assert pool.checkedout() == 2
    pinging.release()
    await mode.until(lambda: pool.checkedout() == 1)
    assert mode.world.open == [1]
    await leases.pop().close()
    await pool.close()
