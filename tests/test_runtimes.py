"""The runtimes, asked directly: before a wait, after a loop's end, short of threads."""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Callable, Coroutine, Generator
from inspect import CORO_CLOSED, getcoroutinestate
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing

import anypool
from anypool import sync
from anypool._drivers.registry import discard, start
from anypool._parts.finalizers import run_first_step
from anypool._parts.job import Job
from anypool._runtimes.asyncio_home import AsyncioHome
from anypool._runtimes.delivery import Delivery
from anypool._runtimes.thread import ThreadRuntime, run
from anypool._runtimes.trio_home import TrioHome

from .support.fakes import World
from .support.modes import PATIENCE

if TYPE_CHECKING:
    from anypool._runtimes.protocol import Runtime

BACKENDS = ["asyncio", "trio"]


async def _nothing() -> None:
    pass


def _no_caller() -> Any:
    raise AssertionError("nobody calls here")


def _home(backend: str) -> Any:
    return (TrioHome if backend == "trio" else AsyncioHome)(_nothing, _no_caller)


@pytest.fixture
def pool() -> anypool.QueuePool[Any]:
    return anypool.QueuePool(World(coroutine=True).connect)


def _settled(pool: anypool.QueuePool[Any]) -> Runtime:
    runtime: Runtime = pool._runtime
    runtime.caller()
    return runtime


@pytest.mark.parametrize("timeout", [None, 0, PATIENCE])
@pytest.mark.parametrize("backend", BACKENDS)
def test_open_gate_lets_through_at_once(backend: str, timeout: float | None) -> None:
    async def main() -> None:
        home = _home(backend)
        gate = home.gate()
        gate.release()
        with anyio.fail_after(PATIENCE):
            await home.wait(gate, timeout)

    anyio.run(main, backend=backend)


def test_home_in_a_closed_loop_takes_nothing() -> None:
    """Nor does it complain: a finalizer may ask at any time."""

    async def settle_in() -> AsyncioHome:
        return AsyncioHome(_nothing, _no_caller)

    loop = asyncio.new_event_loop()
    home = loop.run_until_complete(settle_in())
    loop.close()
    _takes_nothing(home)


def test_home_in_a_trio_run_that_is_over_takes_nothing() -> None:
    async def settle_in() -> TrioHome:
        return TrioHome(_nothing, _no_caller)

    _takes_nothing(trio.run(settle_in))


def _takes_nothing(home: Any) -> None:
    told: list[object] = []
    assert not home.alive()
    assert not home.post(lambda: told.append("posted"))
    work = _nothing()
    assert not home.spawn(work, lambda: told.append("done"))
    work.close()
    assert told == []


@pytest.mark.parametrize("settled", [False, True])
def test_work_without_a_loop_is_given_up_in_silence(
    settled: bool, pool: anypool.QueuePool[Any]
) -> None:
    """A coroutine that is dropped unrun would warn."""

    async def main() -> None:
        _settled(pool)

    runtime: Any = pool._runtime
    if settled:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
    work = _nothing()
    assert runtime.start(work)
    assert getcoroutinestate(work) == CORO_CLOSED
    work = _nothing()
    assert not runtime.spawn(work)
    assert not runtime.post(_no_caller)
    work.close()


def test_nothing_to_settle_without_a_loop(pool: anypool.QueuePool[Any]) -> None:
    runtime: Any = pool._runtime
    anyio.run(runtime.settle, PATIENCE)
    assert not runtime.settled


@pytest.mark.parametrize("late", [False, True])
def test_creator_that_was_left_brings_a_coroutine(
    late: bool, pool: anypool.QueuePool[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread can't be stopped; what it brings is given up in silence.

    Or it has just brought it when its caller, who has not heard of it yet, is cancelled.
    """
    begun, go_on, made = threading.Event(), threading.Event(), threading.Event()
    really_make = Delivery.make

    def make(delivery: Delivery) -> None:
        really_make(delivery)
        made.set()

    monkeypatch.setattr(Delivery, "make", make)
    brought: list[Coroutine[Any, Any, None]] = []

    def create() -> Any:
        begun.set()
        assert go_on.wait(PATIENCE)
        brought.append(_nothing())
        return brought[0]

    async def main() -> None:
        record: Any = anypool.ConnectionRecord(0, None)
        task = asyncio.create_task(
            _settled(pool).open(record, create, inline=False, start=start, discard=discard)
        )
        while not begun.is_set():
            await asyncio.sleep(0.001)
        if late:
            go_on.set()
            assert made.wait(PATIENCE)  # the loop stands still meanwhile
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        with anyio.fail_after(PATIENCE):
            while not brought or getcoroutinestate(brought[0]) != CORO_CLOSED:
                await asyncio.sleep(0.001)

    asyncio.run(main())


@pytest.mark.parametrize("moment", ["before", "after"])
def test_caller_leaves_in_the_moment_its_connection_arrives(moment: str) -> None:
    """Whichever thread is the first to say so, one of the two closes the connection."""
    world = World(coroutine=False)
    delivery: Any = Delivery(world.connect, discard)
    lock = delivery._lock

    class Contested:
        def __enter__(self) -> None:
            if moment == "before":
                refuse()
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()
            if moment == "after":
                refuse()

    def refuse() -> None:
        delivery._lock = lock
        delivery.refuse()

    delivery._lock = Contested()
    delivery.make()
    assert (len(world.connections), world.open) == (1, [])
    world.assert_sound()


def test_job_and_its_caller_are_cancelled_before_the_first_step(
    pool: anypool.QueuePool[Any],
) -> None:
    """In this order, and the caller before it has noticed that the job is over."""
    ran: list[object] = []

    async def work() -> None:
        ran.append(1)

    async def main() -> None:
        begun = work()
        _settled(pool)
        job = Job(pool._parts.background, begun)
        caller = asyncio.create_task(job.run())
        before = asyncio.all_tasks()
        await asyncio.sleep(0)
        (task,) = asyncio.all_tasks() - before
        task.add_done_callback(lambda _: caller.cancel())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert task.cancelled()
        assert job.done
        assert getcoroutinestate(begun) == CORO_CLOSED

    asyncio.run(main())
    assert ran == []


class Ready:
    """As many drivers have it: no coroutine, but something to await."""

    def __await__(self) -> Generator[None, None, int]:
        yield from ()
        return 4711


async def _ready() -> int:
    return await Ready()


@types.coroutine
def _old_style() -> Generator[None, None, int]:
    yield from ()
    return 4711


@pytest.mark.parametrize("work", [Ready, _ready, _old_style])
def test_what_never_waits_needs_no_loop(work: Callable[[], Any]) -> None:
    assert run(work()) == 4711


class Waiting:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def _waiting() -> None:
    await Waiting()


@types.coroutine
def _old_style_waiting() -> Generator[None, None, None]:
    yield


@pytest.mark.parametrize("work", [Waiting, _waiting, _old_style_waiting])
def test_what_waits_needs_a_loop(work: Callable[[], Any]) -> None:
    with pytest.raises(anypool.InvalidRequestError, match="waited for an event loop"):
        run(work())
    run_first_step(work())


def test_creator_fails_for_another_reason_than_a_missing_loop() -> None:
    """Then it is not called once more in one."""
    for message in ("no", "no running event loop here", "zzz"):
        calls: list[str] = []

        def create(calls: list[str] = calls, message: str = message) -> int:
            calls.append(message)
            raise RuntimeError(message)

        pool = sync.QueuePool(create)
        with pytest.raises(RuntimeError, match=message):
            pool.connect()
        assert calls == [message]


def test_starting_a_thread_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs by then, and is waited for."""
    runtime = ThreadRuntime()
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    class Interrupted(threading.Thread):
        def start(self) -> None:
            super().start()
            raise KeyboardInterrupt

    async def work() -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        ended.set()

    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            runtime.start(work())
    assert begun.wait(PATIENCE)
    anyio.run(runtime.settle, 0)  # not for longer than it was told
    assert not ended.is_set()
    go_on.set()
    anyio.run(runtime.settle, PATIENCE)
    assert ended.is_set()


@pytest.mark.parametrize("backend", BACKENDS)
def test_settling_waits_for_what_is_vital(backend: str) -> None:
    """The rest is cut short at once; and in the end all of it."""
    ended: list[str] = []

    async def main() -> None:
        home, go_on = _home(backend), anyio.Event()

        async def work(name: str) -> None:
            try:
                await go_on.wait()
                ended.append(f"{name} is done")
            except anyio.get_cancelled_exc_class():
                ended.append(f"{name} is cut short")
                raise

        with anyio.fail_after(PATIENCE):
            home.spawn(work("upkeep"), vital=False)
            home.spawn(work("close"), vital=True)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(home.settle, 10 * PATIENCE)
                while not ended:
                    await anyio.lowlevel.checkpoint()
                go_on.set()
            go_on = anyio.Event()
            home.spawn(work("late"), vital=True)
            await home.settle(0.01)
            while len(ended) < 3:
                await anyio.lowlevel.checkpoint()

    anyio.run(main, backend=backend)
    assert ended == ["upkeep is cut short", "close is done", "late is cut short"]


def test_what_a_pool_starts_beside_its_callers_is_not_vital(
    pool: anypool.QueuePool[Any],
) -> None:
    async def main() -> None:
        runtime = _settled(pool)
        runtime.start(anyio.sleep(10 * PATIENCE))
        with anyio.fail_after(PATIENCE):
            await runtime.settle(10 * PATIENCE)

    anyio.run(main)


def test_time_is_that_of_the_run(pool: anypool.QueuePool[Any]) -> None:
    """Of trio's clock, which a test may drive."""
    clock = trio.testing.MockClock()

    async def main() -> None:
        runtime = _settled(pool)
        for _ in range(3):
            clock.jump(100)
            assert runtime.now() == trio.current_time()

    trio.run(main, clock=clock)
