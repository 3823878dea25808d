"""Traps of finalizers, threads, loops and forks."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import anyio
import pytest

import anypool
from anypool import sync

from .support.bounds import stride
from .support.fakes import World
from .support.holds import Holds, interruptible
from .support.modes import PATIENCE, Mode
from .support.tracing import AtLine

KINDS = ["QueuePool", "Singleton", "NullPool", "StaticPool", "AssertionPool"]
all_kinds = pytest.mark.parametrize("kind", KINDS)


@contextmanager
def dropping() -> Iterator[None]:
    """Expect leases to be dropped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


# What a finalizer does.


@all_kinds
async def test_dropped_lease_is_rolled_back(mode: Mode, kind: str) -> None:
    """Trap: a lost async connection went back with an open transaction, or was lost."""
    told: list[Any] = []

    class Listener:
        def checkin(self, connection: Any, record: Any) -> None:
            told.append(connection.number)

    pool = mode.pool(kind, listeners=[Listener()], driver=interruptible(mode))
    lease = await mode.go(pool.connect())
    with pytest.warns(
        ResourceWarning, match=r"dropped without close.*test_traps_finalizer"
    ):
        del lease
        gc.collect()
    await mode.until(lambda: mode.world.count("rollback") == 1)
    assert told == [1]
    async with mode.block(pool.connect()) as conn:
        assert conn.number == (2 if kind == "NullPool" else 1)


async def test_dropped_lease_keeps_its_connection_in_the_pool(mode: Mode) -> None:
    """A dropped lease's connection is rolled back and used again, with no driver that
    says more about itself than DB-API does."""
    pool = mode.pool(pool_size=1, max_overflow=0)
    with dropping():
        lease = await mode.go(pool.connect())
        del lease
        gc.collect()
        await mode.until(lambda: pool.checkedout() == 0)
    assert mode.world.events_of(1) == ["rollback"]


async def test_dropped_lease_warns_with_the_line_of_its_checkout(mode: Mode) -> None:
    """Also one that waited for its connection, one that was detached, and unique ones."""
    pool = mode.pool(pool_size=1, max_overflow=0)
    for detach in (False, True):
        for connect in (pool.connect, pool.unique_connection):
            lease = await mode.go(connect())
            if detach:
                await mode.go(lease.detach())
            with pytest.warns(
                ResourceWarning, match=r"test_traps_finalizer\.py:\d+$"
            ) as seen:
                del lease
                gc.collect()
                await mode.until(lambda: pool.checkedout() == 0)
            assert [os.path.basename(w.filename) for w in seen] == [
                os.path.basename(__file__)
            ]


async def test_dropped_lease_is_returned_where_warnings_are_errors(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `python -W error`. Python reports what a finalizer raises, and goes on."""
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: reported.append(it.exc_type))
    pool = mode.pool(pool_size=1, max_overflow=0)
    lease = await mode.go(pool.connect())
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        del lease
        gc.collect()
    async with mode.block(pool.connect(timeout=PATIENCE)) as connection:
        assert connection.number == 1
    assert reported == [ResourceWarning]


async def test_dropped_detached_lease_is_closed(mode: Mode) -> None:
    """Trap: a detached connection that was lost was never closed."""
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    await mode.go(lease.detach())
    with dropping():
        del lease
        gc.collect()
        await mode.until(lambda: mode.world.open == [])
    assert mode.world.count("close") == 1


async def test_finalizer_resets_the_connection_the_lease_has_now(mode: Mode) -> None:
    """Trap: the finalizer held the connection that was first checked out: after a
    reconnect the wrong one was reset."""

    class Reject:
        def checkout(self, connection: Any, record: Any, lease: Any) -> None:
            if connection.number == 1:
                raise anypool.DisconnectionError

    pool = mode.pool(listeners=[Reject()], driver=interruptible(mode))
    lease = await mode.go(pool.connect())
    assert lease.connection.number == 2
    with dropping():
        del lease
        gc.collect()
        await mode.until(lambda: mode.world.count("rollback") == 1)
    assert mode.world.events_of(1) == ["close"]
    assert mode.world.events_of(2) == ["rollback"]


async def test_finalizer_of_a_closed_lease_does_nothing(mode: Mode) -> None:
    """A lease that was returned by hand is dropped in silence, while another has the
    connection."""
    pool = mode.pool(pool_size=1, max_overflow=0)
    old = await mode.go(pool.connect())
    await mode.go(old.close())
    new = await mode.go(pool.connect())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del old
        gc.collect()
    assert pool.checkedout() == 1
    await mode.go(new.close())


async def test_half_built_lease_is_harmless(mode: Mode) -> None:
    """Trap: the finalizer ran on a lease that was half built."""
    lease = mode.pools.PooledConnection.__new__(mode.pools.PooledConnection)
    record: Any = anypool.ConnectionRecord.__new__(anypool.ConnectionRecord)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del lease, record
        gc.collect()


async def test_caller_that_ends_leaves_its_lease(mode: Mode) -> None:
    """A task or thread that ends with a lease in its hands: returned once."""
    for kind in KINDS:
        holds = Holds(mode)
        pool = mode.pool(kind, creator=holds.connect)

        async def end(pool: Any = pool) -> None:
            lease = await mode.go(pool.connect())
            assert lease.is_valid

        with dropping():
            async with mode.group() as start:
                start(end)
            gc.collect()
            await mode.settle()
            books = getattr(pool, "async_pool", pool)
            await mode.until(lambda books=books: not books._ledger.leases.out)  # type: ignore[misc]
        async with mode.block(pool.connect()) as conn:
            assert not conn.closed
        await mode.go(pool.dispose())
        await mode.until(lambda: mode.world.open == [])
        mode.world.assert_sound()


@pytest.mark.parametrize("how", ["dropped", "closed", "finalized"])
def test_collector_anywhere_in_the_pools_own_code(how: str) -> None:
    """Trap: the finalizer ran inside the queue's lock and deadlocked.

    A dropped lease is collected at each line of a checkout and return in turn, in a pool
    that waits, opens, recycles and closes; or the application's own finalizer closes it.
    """
    scenarios = [_connect_and_discard, _time_out]
    if how == "dropped":
        scenarios += [_cycle, _invalidate, _dispose]
    for scenario in scenarios:
        number = 0
        while True:
            number += stride(2 if how == "dropped" else 3)
            world = World(coroutine=False)
            pool = sync.QueuePool(world.connect, pool_size=2, max_overflow=1)
            line = _collect_at(number, pool, scenario, GARBAGE[how])
            if line is None:
                break
            assert pool.checkedout() == 0, line
            leases = [pool.unique_connection(timeout=1) for _ in range(3)]
            for lease in leases:
                lease.close()
            assert pool.checkedout() == 0, line
            world.assert_sound()
            pool.dispose()
            assert world.open == [], line
        assert number > 20


class Garbage:
    """In a cycle with itself, and found by the collector only."""

    def __init__(self, lease: Any) -> None:
        self.me = self
        self.lease: Any = lease


class ClosingGarbage(Garbage):
    def __del__(self) -> None:
        self.lease.close()


class FinalizedGarbage(Garbage):
    def __init__(self, lease: Any) -> None:
        super().__init__(None)
        weakref.finalize(self, lease.close)


GARBAGE = {"dropped": Garbage, "closed": ClosingGarbage, "finalized": FinalizedGarbage}


def _collect_at(
    number: int, pool: Any, scenario: Any, garbage_type: type[Garbage]
) -> str | None:
    lines: list[str | None] = []
    errors: list[BaseException] = []

    def run() -> None:
        garbage_type(pool.unique_connection())
        try:
            with AtLine(number, gc.collect) as at:
                scenario(pool)
            lines.append(at.where)
        except BaseException as error:
            errors.append(error)
        gc.collect()

    gc.disable()
    try:
        with dropping():
            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            thread.join(PATIENCE)
            assert not thread.is_alive(), (
                f"deadlock at line {number} of {scenario.__name__}"
            )
    finally:
        gc.enable()
    if errors:
        raise errors[0]
    return lines[0]


def _cycle(pool: Any) -> None:
    for _ in range(2):
        with pool.connect():
            pass


def _connect_and_discard(pool: Any) -> None:
    leases = [pool.unique_connection(timeout=0) for _ in range(2)]
    for lease in leases:
        lease.close()


def _time_out(pool: Any) -> None:
    leases = [pool.unique_connection(timeout=0) for _ in range(2)]
    with suppress(anypool.PoolTimeoutError):
        leases.append(pool.unique_connection(timeout=0.0001))
    for lease in leases:
        lease.close()


def _invalidate(pool: Any) -> None:
    lease = pool.connect()
    lease.invalidate()
    lease = pool.connect()
    lease.detach()
    lease.close()


def _dispose(pool: Any) -> None:
    with pool.connect():
        pool.dispose()
    pool.dispose()


def test_collector_in_another_thread_while_the_books_are_locked() -> None:
    """A finalizer in a second thread neither waits for the first nor is forgotten."""
    world = World(coroutine=False)
    pool = sync.QueuePool(world.connect, pool_size=2, max_overflow=0)
    leases: list[Any] = []
    locked: list[int] = []

    def drop() -> None:
        if pool.async_pool._runtime.lock.locked():
            locked.append(number)
        thread = threading.Thread(target=leases.clear, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the finalizer waits for the lock"

    with dropping():
        for number in range(1, 1000):
            leases.extend(pool.unique_connection(timeout=1) for _ in range(2))
            with AtLine(number, drop) as at, suppress(anypool.PoolTimeoutError):
                pool.unique_connection(timeout=0.001).close()
            leases.clear()
            assert pool.checkedout() == 0, at.where
            if at.where is None:
                break
    assert len(locked) > 5
    world.assert_sound()


async def test_lease_dropped_in_another_thread(mode: Mode) -> None:
    """A lease that is collected in a foreign thread goes back as any other."""
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=None)
    leases = [await mode.go(pool.connect())]
    with dropping():
        thread = threading.Thread(target=leases.clear)
        thread.start()
        thread.join()
        async with mode.block(pool.connect(timeout=5)):
            assert pool.checkedout() == 1
    assert pool.checkedout() == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_lease_dropped_after_the_loop_has_ended(backend: str) -> None:
    """Where there is no loop any more, the slot is free and the connection closed."""
    for closing in (True, False):
        world = World(coroutine=True)
        pool = anypool.QueuePool(world.connect, pool_size=1, max_overflow=0)
        leases: list[Any] = []

        async def take(pool: Any = pool, leases: list[Any] = leases) -> None:
            leases.append(await pool.connect())

        if closing:
            anyio.run(take, backend=backend)
        elif backend == "asyncio":
            loop = asyncio.new_event_loop()
            loop.run_until_complete(take())
            loop.close()
        else:
            continue
        with dropping():
            leases.clear()
            gc.collect()

        async def use(pool: Any = pool) -> None:
            async with pool.connect(timeout=1):
                pass
            assert pool.checkedout() == 0
            await pool.dispose()

        anyio.run(use, backend=backend)
        assert world.open == []
        world.assert_sound()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_detached_lease_after_the_loop_has_ended(backend: str) -> None:
    """A detached lease of a dead loop can be looked at and closed without a crash."""
    world = World(coroutine=True)
    pool = anypool.QueuePool(world.connect)

    async def take() -> Any:
        lease = await pool.connect()
        lease.info["note"] = 1
        await lease.detach()
        return lease

    async def use(lease: Any) -> None:
        await lease.close()

    lease = anyio.run(take, backend=backend)
    try:
        assert lease.info == {"note": 1}
    except anypool.InvalidRequestError:
        assert not lease.is_valid or world.open == []
    anyio.run(use, lease, backend=backend)
    assert world.open == []


# Identity of callers.


def test_thread_idents_are_reused() -> None:
    """Trap: a new thread was given a dead one's connection."""
    world = World(coroutine=False)
    pool = sync.QueuePool(world.connect, pool_size=0)
    leases: list[Any] = []
    idents: set[int] = set()

    def take() -> None:
        lease = pool.connect()
        assert all(lease is not other for other in leases)
        leases.append(lease)
        idents.add(threading.get_ident())

    for _ in range(20):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
    assert len(leases) == 20
    assert len(idents) < 20, "no ident was reused: this test shows nothing"
    assert len({lease.connection for lease in leases}) == 20
    for lease in leases:
        lease.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_task_ids_are_reused(backend: str) -> None:
    """Trap: a new task was given a dead one's connection."""
    world = World(coroutine=True)

    async def main() -> None:
        pool = anypool.QueuePool(world.connect, pool_size=0)
        leases: list[Any] = []

        async def take() -> None:
            leases.append(await pool.connect())

        for _ in range(50):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take)
        assert len({id(lease) for lease in leases}) == 50
        for lease in leases:
            await lease.close()

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("kind", ["QueuePool", "NullPool"])
@pytest.mark.parametrize("how", ["drop", "return elsewhere"])
async def test_callers_that_are_gone_are_forgotten(mode: Mode, kind: str, how: str) -> None:
    """Leases that others return, or nobody does, leave nothing of their callers."""
    pool = mode.pool(kind)
    books = getattr(pool, "async_pool", pool)
    leases: list[Any] = []

    async def connect() -> None:
        lease = await mode.go(pool.connect())
        if how != "drop":
            leases.append(lease)

    with dropping():
        for _ in range(150):
            async with mode.group() as start:
                start(connect)
            if leases:
                await mode.go(leases.pop().close())
        await mode.settle()
    await mode.until(lambda: not books._ledger.leases.out)
    assert len(books._ledger.leases.callers) <= 105
    await mode.go(pool.close())


async def test_job_that_is_cancelled_before_it_begins(mode: Mode) -> None:
    """A server that cancels all of its tasks meets one that has not taken a step yet:
    who waits for it does its work."""
    if mode.name != "threads":
        pytest.skip("asyncio's own cancellation")
    pool = mode.pool()
    numbers: list[int] = []

    async def use() -> None:
        async with pool.connect() as connection:
            numbers.append(connection.number)

    user = asyncio.create_task(use())
    before = asyncio.all_tasks()
    while asyncio.all_tasks() == before:
        await asyncio.sleep(0)
    (job,) = asyncio.all_tasks() - before
    job.cancel()
    await user
    assert numbers == [1]
    await pool.close()
    assert not mode.world.open


async def test_job_and_caller_cancelled_before_it_begins(mode: Mode) -> None:
    if mode.name != "threads":
        pytest.skip("asyncio's own cancellation")
    pool = mode.pool(pool_size=1, max_overflow=0)
    user = asyncio.create_task(pool.connect().__aenter__())
    before = asyncio.all_tasks()
    while asyncio.all_tasks() == before:
        await asyncio.sleep(0)
    (job,) = asyncio.all_tasks() - before
    user.cancel()
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await user
    await mode.until(lambda: not pool.checkedout())
    assert not mode.world.connections
    async with pool.connect(timeout=PATIENCE):
        pass
    await pool.close()


@pytest.mark.parametrize("how", ["close", "invalidate", "detach", "drop"])
async def test_lease_outlives_its_caller(mode: Mode, how: str) -> None:
    """Even one that has never been in any book but that of what is out."""
    pool = mode.pool(pool_size=1, max_overflow=0)
    leases: list[Any] = []

    async def take() -> None:
        leases.append(await mode.go(pool.unique_connection()))

    async with mode.group() as start:
        start(take)
    await mode.settle()
    assert pool.checkedout() == 1
    if how == "drop":
        with dropping():
            leases.clear()
            await mode.settle()
    else:
        await mode.go(getattr(leases[0], how)())
        await mode.go(leases[0].close())
    await mode.until(lambda: pool.checkedout() == 0)
    async with mode.block(pool.connect(timeout=PATIENCE)) as connection:
        assert (connection.number == 1) == (how in ("close", "drop"))


async def test_lease_outlives_the_caller_whose_connection_it_has(mode: Mode) -> None:
    """Trap: the per-thread pool closed a dead thread's connection while it was in use."""
    pool = mode.pool("Singleton")
    books = getattr(pool, "async_pool", pool)
    leases: list[Any] = []

    async def take() -> None:
        leases.append(await mode.go(pool.connect()))

    async with mode.group() as start:
        start(take)
    await mode.settle()
    await mode.until(lambda: not books.kept())
    await mode.settle()
    assert mode.world.open == [1]
    await mode.go(leases[0].close())
    await mode.until(lambda: not mode.world.open)


async def test_child_tasks_are_other_callers(mode: Mode) -> None:
    """What a task starts has a connection of its own."""
    pool = mode.pool()
    mine = await mode.go(pool.connect())
    others: list[Any] = []

    async def child() -> None:
        lease = await mode.go(pool.connect())
        others.append(lease.connection)
        await mode.go(lease.close())

    async with mode.group() as start:
        start(child)
    assert others != [mine.connection]
    await mode.go(mine.close())


async def test_return_by_another_caller_leaves_its_mapping(mode: Mode) -> None:
    """Trap: a connection returned by another thread than took it deleted that other
    thread's mapping."""
    pool = mode.pool()
    mine = await mode.go(pool.connect())
    theirs: list[Any] = []
    taken, returned = mode.event(), mode.event()

    async def other() -> None:
        lease = await mode.go(pool.connect())
        theirs.append(lease)
        taken.set()
        await returned.wait()
        again = await mode.go(pool.connect())
        assert again is not lease
        assert again.is_valid
        await mode.go(again.close())

    async with mode.group() as start:
        start(other)
        await taken.wait()
        await mode.go(theirs[0].close())
        again = await mode.go(pool.connect())
        assert again is mine
        await mode.go(again.close())
        returned.set()
    await mode.go(mine.close())
    assert pool.checkedout() == 0


@all_kinds
@pytest.mark.parametrize("how", ["detach", "invalidate"])
async def test_detach_and_invalidate_end_the_mapping(
    mode: Mode, how: str, kind: str
) -> None:
    """Trap: detach and invalidate left the mapping, so that the caller's next connect()
    failed."""
    pool = mode.pool(kind)
    lease = await mode.go(pool.connect())
    await mode.go(getattr(lease, how)())
    new = await mode.go(pool.connect())
    assert new is not lease
    assert new.connection.number == 2
    assert (await mode.go(pool.connect())) is new
    await mode.go(new.close())
    await mode.go(lease.close())
    assert new.is_valid
    await mode.go(new.close())


async def test_failed_checkout_is_not_mapped(mode: Mode) -> None:
    """Trap: a failed checkout stayed mapped, and its retry skipped the listeners."""
    heard: list[int] = []

    class Listener:
        def checkout(self, connection: Any, record: Any, lease: Any) -> None:
            heard.append(connection.number)
            if len(heard) < 3:
                raise OSError("not now")

    pool = mode.pool(listeners=[Listener()])
    for _ in range(2):
        with pytest.raises(OSError, match="not now"):
            await mode.go(pool.connect())
    async with mode.block(pool.connect()):
        assert pool.checkedout() == 1
    assert len(heard) == 3


async def test_singleton_cleanup_spares_the_callers_own(mode: Mode) -> None:
    """Trap: cleanup of the per-thread pool removed its own, current connection."""
    pool = mode.pool("Singleton", pool_size=1)
    mine = await mode.go(pool.connect())

    async def other() -> None:
        for _ in range(2):
            async with mode.block(pool.connect()) as conn:
                assert not conn.closed

    async with mode.group() as start:
        start(other)
    assert not mine.connection.closed
    assert (await mode.go(pool.connect())) is mine
    await mode.go(mine.close())
    await mode.go(mine.close())


async def test_singleton_cleanup_spares_what_is_being_returned(mode: Mode) -> None:
    """A connection that is just being reset is not evicted under its reset."""
    holds = Holds(mode)
    pool = mode.pool("Singleton", creator=holds.connect, pool_size=1)
    slow = holds.on("rollback")

    async def first() -> None:
        lease = await mode.go(pool.connect())
        await mode.go(lease.close())

    async def second() -> None:
        lease = await mode.go(pool.connect())
        slow.release()
        await mode.go(lease.close())

    async with mode.group() as start:
        start(first)
        await mode.until(lambda: slow.reached)
        start(second)
    await mode.settle()
    assert [what for what, _ in mode.world.events if "during" in what] == []


# Loops.


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_waiting_in_one_loop_after_the_other(backend: str) -> None:
    """Trap: locks and queues bound to the wrong event loop."""
    world = World(coroutine=True)
    pool = anypool.QueuePool(world.connect, pool_size=1, max_overflow=0, timeout=5)
    static = anypool.StaticPool(world.connect)

    async def contend() -> None:
        async def use(pool: Any) -> None:
            async with pool.connect():
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(use, pool)
                tasks.start_soon(use, static)

    for _ in range(3):
        anyio.run(contend, backend=backend)
    assert world.open == []


def test_pools_leave_no_task_in_trio() -> None:
    """Nothing of a pool that was disposed of and dropped goes on in the loop."""
    world = World(coroutine=True)

    async def main() -> None:
        import trio

        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(5):
            pool = anypool.QueuePool(world.connect)
            async with pool.connect():
                pass
            await pool.dispose()
            del pool
        gc.collect()
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert trio.lowlevel.current_statistics().tasks_living == before

    anyio.run(main, backend="trio")


def test_portals_leave_no_thread() -> None:
    """Facades over async drivers that were dropped leave no thread behind."""
    world = World(coroutine=True)
    before = set(threading.enumerate())

    def new_threads() -> list[threading.Thread]:
        # One that watches for the interpreter's end, for all of them, may stay.
        return [t for t in threading.enumerate() if t not in before]

    for _ in range(5):
        pool = sync.QueuePool(world.connect)
        with pool.connect():
            pass
        pool.dispose()
        del pool
    gc.collect()
    pause = threading.Event()
    for _ in range(1000):
        if len(new_threads()) <= 1:
            break
        pause.wait(0.005)
    assert len(new_threads()) <= 1


def test_first_connects_of_many_threads_to_an_async_driver() -> None:
    """A facade that learns from its creator that the driver is an async one, from
    several threads at once, awaits all that the creator gave."""
    world = World(coroutine=True)
    for _ in range(10):
        barrier = threading.Barrier(4)
        pool = sync.QueuePool(lambda: world.connect(), pool_size=1, max_overflow=0)
        errors: list[BaseException] = []

        def use(
            pool: Any = pool, barrier: threading.Barrier = barrier, errors: Any = errors
        ) -> None:
            barrier.wait()
            try:
                with pool.connect(timeout=5):
                    pass
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert not errors
        assert pool.checkedout() == 0
        assert len(world.open) == 1
        pool.dispose()
        del pool, use
        gc.collect()  # an un-awaited coroutine would warn now


# Forks, modules, copies.


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("driver", ["blocking", "async"])
def test_forked_child_opens_its_own_connections(driver: str) -> None:
    """Trap: a forked child used the parent's sockets; or closed them under the parent."""
    script = f"""
import os, sys, warnings
from anypool import sync
warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads
made, closed = [], []

class Connection:
    def __init__(self): made.append(os.getpid())
    def rollback(self): pass
    def close(self): closed.append(os.getpid())

class AsyncConnection(Connection):
    async def rollback(self): pass
    async def close(self): closed.append(os.getpid())

async def connect(): return AsyncConnection()

pool = sync.QueuePool(connect if {driver!r} == "async" else Connection,
                      pool_size=2, max_overflow=0, timeout=5)
lease, idle = pool.connect(), pool.unique_connection()
idle.close()
mine = {{id(lease.connection), id(idle)}}
parent = lease.connection
child = os.fork()
if not child:
    try:
        one, two = pool.unique_connection(), pool.unique_connection()
        assert one.connection is not parent and two.connection is not parent
        assert made[2:] == [os.getpid()] * 2, made
        assert closed == [], closed
        one.close(), two.close()
        lease.close()
        assert closed == [], closed
        assert pool.checkedout() == 0, pool.status()
    except BaseException as error:
        print(type(error).__name__, error, file=sys.stderr)
        os._exit(1)
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert lease.connection is parent
lease.close()
assert (pool.checkedin(), pool.checkedout()) == (2, 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")


async def test_managers_make_one_pool_for_equal_arguments(mode: Mode) -> None:
    """Trap: two threads made two pools for the same arguments at start."""

    class Module:
        @staticmethod
        def connect(*args: Any, **kwargs: Any) -> Any:
            return mode.world.connect()

    module = Module()
    try:
        pools: list[Any] = []
        barrier = threading.Barrier(8)

        def get() -> None:
            barrier.wait()
            pools.append(mode.pools.manage(module).get_pool("dsn", options={"a": [1]}))

        threads = [threading.Thread(target=get) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(map(id, pools))) == 1
    finally:
        await mode.go(mode.pools.clear_managers())


async def test_recreate_keeps_class_and_options(mode: Mode) -> None:
    """Trap: recreate() lost options or hard-coded its class."""

    class Mine(mode.pools.QueuePool):  # type: ignore[misc, name-defined]
        pass

    pool = Mine(mode.world.connect, pool_size=1, max_overflow=0, timeout=0.01)
    new = pool.recreate()
    assert type(new) is Mine
    lease = await mode.go(new.connect(timeout=PATIENCE))
    with pytest.raises(anypool.PoolTimeoutError, match="size 1 overflow 0"):
        await mode.go(new.unique_connection())
    async with mode.block(pool.connect(timeout=PATIENCE)):
        assert pool.checkedout() == new.checkedout() == 1
    await mode.go(lease.close())


async def test_static_pool_connects_lazily_and_once(mode: Mode) -> None:
    """Trap: StaticPool connected twice, and eagerly."""
    holds = Holds(mode)
    pool = mode.pool("StaticPool", creator=holds.connect)
    slow = holds.on("connect")
    assert slow.reached == 0

    async def use() -> None:
        async with mode.block(pool.connect()) as conn:
            assert conn.number == 1

    async with mode.group() as start:
        for _ in range(4):
            start(use)
        await mode.until(lambda: slow.reached)
        slow.release()
    assert slow.reached == 1


async def test_static_pool_replaces_a_lost_connection_once(mode: Mode) -> None:
    """Two callers whose listeners find the connection dead get one new connection."""
    both = [0]

    class Reject:
        def checkout(self, connection: Any, record: Any, lease: Any) -> None:
            if connection.number == 1 and both[0]:
                raise anypool.DisconnectionError

    holds = Holds(mode)
    pool = mode.pool("StaticPool", creator=holds.connect, listeners=[Reject()])
    async with mode.block(pool.connect()):
        pass
    both[0] = 1
    slow = holds.on("close")

    async def use() -> None:
        async with mode.block(pool.connect()) as conn:
            assert conn.number == 2

    async with mode.group() as start:
        start(use)
        start(use)
        await mode.until(lambda: slow.reached)
        slow.release()
    assert mode.world.open == [2]
    assert mode.world.count("close") == 1


def test_assertion_pool_works_without_assertions() -> None:
    """Trap: AssertionPool used `assert`, which is gone under -O."""
    script = """
from anypool import sync
import sqlite3
pool = sync.AssertionPool(lambda: sqlite3.connect(":memory:"))
lease = pool.connect()
try:
    pool.unique_connection()
except AssertionError as error:
    print("<string>:5" in str(error))
lease.close()
pool.connect().close()
pool.dispose()
"""
    result = subprocess.run(
        [sys.executable, "-O", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "True\n", "")


@pytest.mark.parametrize("kind", ["QueuePool", "NullPool", "StaticPool", "AssertionPool"])
def test_lease_is_closed_in_the_middle_of_a_decision(kind: str) -> None:
    """It is put off until that is made; looking is free, all else is refused."""
    world = World(coroutine=False)
    options = {"pool_size": 1, "max_overflow": 2} if kind == "QueuePool" else {}
    pool: Any = getattr(sync, kind)(world.connect, **options)
    other = pool.unique_connection() if options else None
    lease = pool.unique_connection()

    def decide() -> None:
        lease.close()
        assert not lease.is_valid
        assert pool.stats().checked_out == (1 if options else 0)
        with pytest.raises(anypool.InvalidRequestError, match="signal handler"):
            pool.unique_connection()

    pool.async_pool._ledger.decide(decide)
    assert world.events_of(lease_number := len(world.connections))[0] == "rollback"
    assert lease_number == (2 if options else 1)
    if other is not None:
        other.close()
    with pool.connect():
        assert pool.stats().checked_out == 1
    pool.close()
    assert not world.open
    world.assert_sound()


def test_lease_that_is_dropped_in_a_decision_that_fails() -> None:
    """It is not left for the next one: somebody may wait for it."""
    world = World(coroutine=False)
    pool = sync.QueuePool(world.connect, pool_size=1, max_overflow=0, timeout=None)
    leases = [pool.unique_connection()]

    def wait() -> None:
        pool.connect().close()

    def fail() -> None:
        leases.clear()
        raise anypool.TooManyWaitersError

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not pool.stats().waiting:
        assert time.monotonic() < deadline
    with dropping(), pytest.raises(anypool.TooManyWaitersError):
        pool.async_pool._ledger.decide(fail)
    thread.join(PATIENCE)
    assert not thread.is_alive(), "nobody has served it"
    pool.close()
    world.assert_sound()


def test_signal_handler_in_the_middle_of_a_decision() -> None:
    """It may look; whatever else it wants is refused, and nothing waits for itself."""
    world = World(coroutine=False)
    pool = sync.QueuePool(world.connect, pool_size=1, max_overflow=0)
    seen: list[anypool.PoolStats] = []
    refused: list[Exception] = []

    def cycle() -> None:
        pool.unique_connection().close()

    def handle() -> None:
        seen.append(pool.stats())
        for use in (cycle, pool.dispose):
            try:
                use()
            except anypool.PoolTimeoutError:
                pass
            except anypool.InvalidRequestError as error:
                refused.append(error)

    def run() -> None:
        pool.async_pool._path._checkouts.timeout = 0
        for number in count(1):
            with AtLine(number, handle) as at:
                with suppress(anypool.PoolTimeoutError):
                    pool.unique_connection(timeout=0).close()
            if at.where is None:
                return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it waits for itself"
    assert len(seen) > 20
    assert all("finalizer or signal handler" in str(error) for error in refused)
    assert len(refused) > 5
    with pool.connect():
        assert pool.checkedout() == 1
    assert pool.checkedout() == 0
    pool.close()
    world.assert_sound()
