"""What is left of pools that were opened: after close(), the loop's end, or their loss.

No thread, no task, no file, no slot.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

import anypool
from anypool._core.record import ConnectionRecord
from anypool._parts.care import Care

from .support.fakes import World
from .support.modes import PATIENCE, Mode
from .support.opened import begin_connects

BACKENDS = ["asyncio", "trio"]


before_the_test: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _threads_of_other_tests() -> None:
    # A failed test, whose pool its traceback holds, is no reason for others to fail.
    before_the_test.clear()
    before_the_test.update(threading.enumerate())


def threads() -> list[threading.Thread]:
    """Return the pools' own threads, but for one that waits for the program's end."""
    return [
        each
        for each in threading.enumerate()
        if each.name.startswith("anypool")
        and each.name != "anypool exit"
        and each not in before_the_test
    ]


def tasks(mode: Mode) -> int:
    """Return how many tasks there are in the loop, trio's own included."""
    if mode.blocking:
        return 0
    if mode.name == "trio":
        root = trio.lowlevel.current_root_task()
        assert root is not None
        return len(_below(root))
    return len(asyncio.all_tasks())


def _below(task: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    children = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return [task, *(each for child in children for each in _below(child))]


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


def instances(kind: type[Any]) -> int:
    return sum(isinstance(each, kind) for each in gc.get_objects())


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")


@needs_proc
async def test_hundred_pools_leave_nothing(mode: Mode, tmp_path: Path) -> None:
    """With a thing of everything: out, idle, waiting, connecting, due, stale."""

    def connect() -> Any:
        return sqlite3.connect(tmp_path / "test.db", check_same_thread=False)

    async def use_one() -> None:
        creator = mode.world.connect if mode.world.coroutine else connect
        options: dict[str, Any] = {"keepalive": 60, "recycle": 60, "pre_ping": True}
        pool = mode.pool(creator=creator, min_size=2, pool_size=3, **options)
        await mode.go(pool.open())
        lease = await mode.go(pool.unique_connection())
        async with mode.block(pool.connect()):
            pass
        await mode.go(pool.drain())
        await mode.go(pool.close(timeout=0))
        assert not lease.is_valid
        assert not threads()

    await use_one()  # once for all that is made only once
    gc.collect()
    before = tasks(mode), files(), instances(ConnectionRecord), instances(Care)
    for _ in range(100):
        await use_one()
    assert tasks(mode) <= before[0]
    gc.collect()
    after = tasks(mode), files(), instances(ConnectionRecord), instances(Care)
    assert all(now <= then for now, then in zip(after, before, strict=True)), (
        before,
        after,
    )
    assert not mode.world.open


async def test_no_task_outlives_the_close(mode: Mode) -> None:
    before = tasks(mode)
    pool = mode.pool(min_size=2)
    async with mode.block(pool):
        await mode.go(pool.wait())
    assert tasks(mode) == before  # while the pool itself is still there
    assert not threads()
    with pytest.raises(anypool.PoolClosedError):
        await mode.go(pool.connect())
    assert pool.stats().size == 0


async def test_dropped_pool_leaves_nothing(mode: Mode) -> None:
    before = tasks(mode)
    pool = mode.pool(min_size=2)
    await mode.go(pool.open())
    await mode.go(pool.wait())
    assert len(mode.world.open) == 2
    del pool
    gc.collect()
    await mode.until(lambda: not threads() and tasks(mode) == before)
    if not mode.world.coroutine:  # those with coroutines can't be closed by a finalizer
        assert not mode.world.open


@pytest.mark.parametrize("backend", BACKENDS)
def test_opened_pool_in_two_runs(backend: str) -> None:
    """Its care goes on in the next loop; its statistics, too."""
    world = World(coroutine=True)
    pool = anypool.QueuePool(world.connect, min_size=2)
    seen: list[anypool.PoolStats] = []

    async def main() -> None:
        await pool.open()
        async with pool.connect():
            pass
        await pool.wait(PATIENCE)
        assert len(world.open) == 2
        seen.append(pool.stats())

    for _ in range(3):
        anyio.run(main, backend=backend)
        assert not world.open
        seen.append(pool.stats())
    for before, after in pairwise(seen):
        assert_monotonic(before, after)
    assert seen[-1].checkouts == 3
    assert sum(seen[-1].closed.values()) == seen[-1].opened == 6
    world.assert_sound()


@pytest.mark.parametrize("end", ["asyncio", "trio", "without a word"])
def test_opened_pool_is_resumed_between_two_runs(end: str) -> None:
    """Where no loop runs, nothing can be begun: the next one does."""
    world = World(coroutine=True)
    pool = anypool.QueuePool(world.connect, pool_size=1, max_overflow=0, min_size=1)

    async def main() -> None:
        await pool.open()
        await pool.wait(PATIENCE)
        async with pool.connect(timeout=PATIENCE):
            assert pool.checkedout() == 1

    if end == "without a word":
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
    else:
        anyio.run(main, backend=end)
        assert (pool.checkedin(), pool.overflow()) == (0, -1)
    pool.suspend()
    pool.resume()
    if end != "without a word":
        assert (pool.checkedin(), pool.overflow()) == (0, -1)
    anyio.run(main, backend="asyncio" if end == "without a word" else end)
    assert not world.open
    world.assert_sound()


@pytest.mark.parametrize("coroutine", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_loop_that_ends_in_the_middle_of_a_renewal(backend: str, coroutine: bool) -> None:
    """What is cancelled then is closed, and not replaced, again and again."""
    world = World(coroutine=coroutine)
    pool = anypool.QueuePool(world.connect, min_size=2)

    async def main() -> None:
        await pool.open()
        await pool.wait(PATIENCE)
        await pool.drain()
        await anyio.lowlevel.checkpoint()

    begin = time.monotonic()
    anyio.run(main, backend=backend)
    assert time.monotonic() - begin < 2
    assert world.count("connect") <= 4
    assert not world.open
    assert (pool.checkedin(), pool.overflow()) == (0, -5)
    world.assert_sound()


@pytest.mark.parametrize("coroutine", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pause", [0, 1, 10])
def test_leases_that_are_dropped_at_the_very_end_of_a_loop(
    backend: str, coroutine: bool, pause: int
) -> None:
    """Their connections are closed in the orderly way, which takes some time."""
    world = World(coroutine=coroutine)
    pool = anypool.QueuePool(world.connect, pool_size=1)

    async def main() -> None:
        leases = [await pool.unique_connection() for _ in range(3)]
        world.pause = pause
        leases.clear()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        anyio.run(main, backend=backend)
        gc.collect()
    assert world.open == []
    assert world.count("close") == 3
    assert (pool.checkedin(), pool.checkedout()) == (0, 0)
    world.assert_sound()


@pytest.mark.parametrize("what", ["connect", "ping", "close"])
def test_loop_that_ends_in_the_middle_of_something(what: str) -> None:
    """What the first loop has not finished never comes back to the pool."""
    world = World(coroutine=True)
    pool = anypool.QueuePool(world.connect, min_size=2, pre_ping=True)

    async def begin() -> None:
        world.pause = 0
        await pool.open()
        await pool.wait(PATIENCE)
        world.pause = 10**6
        if what == "connect":
            begin_connects(pool, 1)
        elif what == "close":
            await pool.drain()
        else:
            waiting.append(asyncio.ensure_future(pool.unique_connection()))
        await asyncio.sleep(0.01)

    waiting: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # tasks are destroyed while they wait
    loop.run_until_complete(begin())
    loop.close()
    world.pause = 0

    async def main() -> None:
        async with pool.connect():
            await pool.wait(PATIENCE)
            waiting.clear()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                gc.collect()
        await pool.wait(PATIENCE)
        assert (pool.checkedout(), pool.checkedin()) == (0, 2)
        await pool.close()
        assert pool.stats().size == 0

    asyncio.run(main())


async def test_care_that_was_cancelled_is_taken_again(mode: Mode) -> None:
    """A server that shuts down cancels all of its tasks, and then cleans up."""
    if mode.name not in ("asyncio", "uvloop", "threads"):
        pytest.skip("asyncio's own cancellation")
    mode.world.fail["connect"] = OSError("refused")
    pool = mode.pool(pool_size=1)
    await pool.open()
    await mode.settle()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if "_run" in repr(task) and "Care" in repr(task):
            task.cancel()
    await mode.settle()
    mode.world.on["connect"] = lambda: mode.world.fail.clear()  # from the second on
    async with pool.connect(timeout=PATIENCE):
        pass
    await pool.close()


def refuse(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("size", [1, 4])
def test_no_thread_to_be_had(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the interpreter ends, no threads are started any more: close() works without."""
    mode = Mode("blocking")
    pool = mode.pool(min_size=size)
    pool.open()
    pool.wait()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        leases = [pool.unique_connection() for _ in range(5)]
        for lease in leases:
            lease.close()
        pool.close()
    assert not mode.world.open
    assert not threads()
    mode.world.assert_sound()


def test_open_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be begun is begun at the next occasion."""
    mode = Mode("blocking")
    pool = mode.pool(min_size=2)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pool.open()
        with pool.connect():
            assert not threads()
    with pool.connect(), pool.unique_connection(), pool.unique_connection():
        assert len(threads()) >= 1
    pool.close()
    assert not threads()


def test_close_while_a_thread_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread has made one and not yet started it: that one is waited for."""
    mode = Mode("blocking")
    start: Callable[[Any], None] = threading.Thread.start
    reached, go_on = threading.Event(), threading.Event()

    def late(self: threading.Thread) -> None:
        if self.name == "anypool worker" and not reached.is_set():
            reached.set()
            assert go_on.wait(PATIENCE)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", late)
    pool = mode.pool(min_size=1)
    opener = threading.Thread(target=pool.open)
    opener.start()
    assert reached.wait(PATIENCE)
    threading.Timer(0.05, go_on.set).start()
    begin = time.monotonic()
    pool.close()
    assert time.monotonic() - begin < PATIENCE / 4
    opener.join(PATIENCE)
    assert not mode.world.open


@pytest.mark.parametrize("count", [8])
def test_threads_that_come_at_once_begin_one_care(count: int) -> None:
    mode = Mode("blocking")
    pool = mode.pool(pool_size=count)
    pool.async_pool._ledger.open()
    together = threading.Barrier(count)

    def use() -> None:
        together.wait(PATIENCE)
        with pool.connect():
            together.wait(PATIENCE)

    users = [threading.Thread(target=use) for _ in range(count)]
    for user in users:
        user.start()
    for user in users:
        user.join(PATIENCE)
    pool.close()
    assert not threads()


def assert_monotonic(before: anypool.PoolStats, after: anypool.PoolStats) -> None:
    for name in (
        "checkouts",
        "waits",
        "timeouts",
        "cancelled",
        "opened",
        "failed",
        "wait_time",
        "use_time",
        "connect_time",
    ):
        assert (getattr(after, name) or 0) >= (getattr(before, name) or 0), (
            *(name, before, after),
        )
    for reason, count in before.closed.items():
        assert after.closed.get(reason, 0) >= count, (reason, before, after)
