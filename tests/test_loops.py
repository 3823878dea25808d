"""Event loops: which one a pool belongs to, and what is said in the wrong place."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import count, pairwise
from typing import Any

import anyio
import anyio.to_thread
import pytest

import anypool
from anypool import sync
from anypool._runtimes.loop import AnyioRuntime
from anypool._sync.begun import first_then
from anypool._sync.bridge import LoopThread, _serve

from .support.fakes import World
from .support.tracing import AtLine

BACKENDS = ["asyncio", "trio"]


@pytest.fixture
def world() -> World:
    return World(coroutine=True)


class Checkpoints:
    """May be awaited, and is no coroutine."""

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()


def loop_threads() -> set[threading.Thread]:
    """Return the threads in which facades run event loops."""
    return {t for t in threading.enumerate() if t.name == "anypool event loop"}


def in_thread(function: Callable[[], Any]) -> Any:
    """Run a function in a thread of its own; return its result, or raise its error."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


@pytest.mark.parametrize("backend", BACKENDS)
def test_loop_ends_in_the_middle_of_upkeep(
    backend: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the end of the loop cuts short is not begun anew, again and again."""
    slow: list[None] = []

    async def connect() -> Any:
        if slow:
            await anyio.sleep_forever()
        return await world.connect()

    pool = anypool.QueuePool(connect, pool_size=3, min_size=2)
    begun: list[object] = []
    start = AnyioRuntime.start

    def counting(self: AnyioRuntime, work: Any, **how: Any) -> bool:
        begun.append(work)
        return start(self, work, **how)

    monkeypatch.setattr(AnyioRuntime, "start", counting)

    async def main() -> None:
        await pool.open()
        await pool.wait()
        slow.append(None)
        await pool.drain()
        await anyio.lowlevel.checkpoint()

    for _ in range(2):
        begun.clear()
        slow.clear()
        anyio.run(main, backend=backend)
        assert len(begun) < 20
        assert world.open == []


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "kind", ["QueuePool", "NullPool", "StaticPool", "AssertionPool", "SingletonTaskPool"]
)
def test_built_before_a_loop_runs_and_used_in_two(
    kind: str, backend: str, world: World
) -> None:
    """When a loop ends, the pool closes its connections there; the next loop gets new
    ones."""
    pool = getattr(anypool, kind)(world.connect)

    async def main() -> None:
        async with pool.connect():
            assert len(world.open) == 1

    anyio.run(main, backend=backend)
    assert world.open == []
    stats = pool.stats()
    assert (stats.size, stats.idle, stats.checked_out) == (0, 0, 0)
    anyio.run(main, backend=backend)
    assert len(world.connections) == 2
    assert world.open == []
    world.assert_sound()


def test_loop_closed_without_shutdown(world: World) -> None:
    """A loop that just stops to be: its connections are dropped by the next one."""
    pool = anypool.QueuePool(world.connect)

    async def main() -> None:
        async with pool.connect():
            pass

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    asyncio.run(main())
    assert len(world.connections) == 2
    assert world.open == []


def test_lease_of_a_dead_loop_is_harmless(world: World) -> None:
    pool = anypool.QueuePool(world.connect)
    leases: list[anypool.PooledConnection[Any]] = []

    async def first() -> None:
        leases.append(await pool.connect())

    async def second() -> None:
        await leases.pop().close()
        async with pool.connect():
            assert pool.checkedout() == 1
        assert pool.checkedout() == 0

    asyncio.run(first())
    asyncio.run(second())
    world.assert_sound()


@pytest.mark.parametrize("backend", BACKENDS)
def test_second_live_loop_is_refused(backend: str, world: World) -> None:
    pool = anypool.QueuePool(world.connect)

    async def use() -> None:
        async with pool.connect():
            pass

    async def main() -> None:
        await use()
        with pytest.raises(anypool.InvalidRequestError, match="another event loop"):
            await anyio.to_thread.run_sync(
                in_thread, lambda: anyio.run(use, backend=backend)
            )
        with pytest.raises(anypool.InvalidRequestError, match="another event loop"):
            await anyio.to_thread.run_sync(in_thread, lambda: use().send(None))
        await use()

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_outside_of_any_loop(backend: str, world: World) -> None:
    """Driving a coroutine by hand, before or after a loop was there, is told apart."""
    pool = anypool.QueuePool(world.connect)

    async def use() -> None:
        async with pool.connect():
            pass

    for _ in range(2):
        coroutine = use()
        with pytest.raises(
            anypool.InvalidRequestError, match="no.*event loop|anypool.sync"
        ):
            coroutine.send(None)
        anyio.run(use, backend=backend)


async def _misuse(pool: anypool.QueuePool[Any]) -> None:
    checkout: Any = pool.connect()
    with pytest.raises(anypool.InvalidRequestError, match="async with pool.connect"):
        checkout.execute("select 1")
    with pytest.raises(anypool.InvalidRequestError, match="async with pool.connect"):
        with checkout:
            pass
    lease: Any = await checkout
    with pytest.raises(TypeError, match="async with"):
        with lease:
            pass
    await lease.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_connect_without_await(backend: str, world: World) -> None:
    """``conn = pool.connect()`` is an error at its first use, and says what is missing."""
    anyio.run(_misuse, anypool.QueuePool(world.connect), backend=backend)


def test_async_listener_that_waits_in_a_blocking_pool() -> None:
    """A blocking pool has no loop to wait in: the connection is closed, the slot free."""
    world = World(coroutine=False)

    class Waits:
        async def connect(self, connection: object, record: object) -> None:
            await asyncio.sleep(0)

    pool = sync.QueuePool(world.connect, listeners=[Waits()])
    with pytest.raises(anypool.InvalidRequestError, match=r"Waits.connect\(\) waited"):
        pool.connect()
    assert world.open == []
    assert pool.checkedout() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_facade_over_a_running_pool_shares_its_budget(backend: str, world: World) -> None:
    """sync.over(pool): tasks and worker threads draw on the same connections."""
    pool = anypool.QueuePool(world.connect, pool_size=1, max_overflow=0, timeout=5)

    async def main() -> None:
        facade = sync.over(pool)
        assert facade.async_pool is pool

        def work() -> int:
            with facade.connect() as conn:
                assert facade.connect().connection is conn  # nested
                facade.connect().close()
                lease = facade.connect()
                lease.close()
                lease.close()
                number: int = conn.number
            return number

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(anyio.to_thread.run_sync, work)
            async with pool.connect() as conn:
                assert conn.number == 1
        assert len(world.connections) == 1
        await anyio.to_thread.run_sync(in_thread, work)  # a thread that isn't anyio's
        with pytest.raises(anypool.InvalidRequestError, match="own thread"):
            facade.connect()
        gc.collect()
        assert pool.checkedout() == 0

    anyio.run(main, backend=backend)
    assert world.open == []


STRANGERS = {
    "dispose": lambda pool, lease: pool.dispose(),
    "drain": lambda pool, lease: pool.drain(),
    "resize": lambda pool, lease: pool.resize(1),
    "suspend": lambda pool, lease: pool.suspend(),
    "resume": lambda pool, lease: pool.resume(),
    "open": lambda pool, lease: pool.open(),
    "wait": lambda pool, lease: pool.wait(),
    "close": lambda pool, lease: pool.close(),
    "call": lambda pool, lease: pool.call(lease.connection.execute, "select 1"),
    "close of a lease": lambda pool, lease: lease.close(),
    "invalidate": lambda pool, lease: lease.invalidate(),
    "detach": lambda pool, lease: lease.detach(),
    "cursor": lambda pool, lease: lease.cursor(),
    "connect": lambda pool, lease: pool.connect(),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("what", STRANGERS)
def test_nothing_is_done_in_another_loop(what: str, backend: str, world: World) -> None:
    """While that of the pool lives: its drivers belong there, as those who wait."""

    async def main() -> None:
        pool = anypool.QueuePool(world.connect, pool_size=2, min_size=1)
        lease = await pool.connect()

        async def strange() -> None:
            done = STRANGERS[what](pool, lease)
            if done is not None:
                await done

        def elsewhere() -> None:
            with pytest.raises(anypool.InvalidRequestError, match="another event loop"):
                anyio.run(strange, backend=backend)

        await anyio.to_thread.run_sync(in_thread, elsewhere)
        assert lease.is_valid
        assert pool.checkedout() == 1
        assert world.events_of(1) == []
        await lease.close()
        await pool.close()

    anyio.run(main, backend=backend)
    assert world.open == []


def test_facade_over_a_pool_without_a_loop(world: World) -> None:
    facade = sync.over(anypool.QueuePool(world.connect))
    with pytest.raises(anypool.InvalidRequestError, match="no running event loop"):
        facade.connect()


def test_facade_runs_async_drivers_in_its_own_loop(world: World) -> None:
    """An async driver's connections are used through call(), from any thread."""
    pool = sync.QueuePool(world.connect)
    with pool.connect() as conn:
        pool.call(conn.execute, "select 1")
        assert pool.call(lambda: 7) == 7
        assert in_thread(lambda: pool.call(conn.execute, "select 2")) is None
    assert world.events_of(1) == ["execute", "execute", "rollback"]
    pool.dispose()
    assert world.open == []


def test_coroutine_function_as_creator_of_a_facade(world: World) -> None:
    async def creator() -> Any:
        return await world.connect()

    pool = sync.QueuePool(creator)
    with pool.connect() as conn:
        assert conn.number == 1
    pool.dispose()


def test_loop_thread_of_a_facade_ends_with_it(world: World) -> None:
    before = loop_threads()
    pool = sync.QueuePool(world.connect)
    with pool.connect():
        pass
    threads = loop_threads() - before
    assert threads
    del pool
    gc.collect()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert world.open == []


@pytest.mark.parametrize("run", [lambda main: asyncio.run(main()), anyio.run])
def test_used_in_its_loop_but_outside_of_any_task(run: Any, world: World) -> None:
    """In a callback of asyncio's there is nobody whom a connection could be for."""
    pool = anypool.QueuePool(world.connect)
    told: list[str] = []

    def callback() -> None:
        with pytest.raises(anypool.InvalidRequestError) as caught:
            pool.connect().__await__().send(None)
        told.append(str(caught.value))

    async def main() -> None:
        async with pool.connect():
            pass
        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(0)
        async with pool.connect() as connection:
            assert connection.number == 1

    run(main)
    assert len(told) == 1
    assert "outside of any task" in told[0]


def test_other_runtime_errors_of_a_creator_are_its_own() -> None:
    """Only that of asyncio means that the creator needs a loop."""

    def create() -> Any:
        raise RuntimeError("can't start new thread")

    before = loop_threads()
    pool = sync.QueuePool(create)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.connect()
    assert loop_threads() <= before


def test_facade_over_a_pool_without_a_loop_is_not_opened(world: World) -> None:
    """Nor is it closed for that."""
    pool = anypool.QueuePool(world.connect)
    with pytest.raises(anypool.InvalidRequestError, match="no running event loop"):
        sync.over(pool).open()

    async def main() -> None:
        async with pool, pool.connect():
            pass

    asyncio.run(main())


def test_facade_is_interrupted_while_its_loop_works() -> None:
    """Ctrl-C cancels in the loop what the main thread has waited for."""
    main_thread = threading.get_ident()
    ended: list[BaseException] = []

    async def create() -> Any:
        try:
            # Not yet while it is only handing its work over.
            while ("result", "call") not in pairwise(_functions(main_thread)):
                await asyncio.sleep(0.001)
            signal.pthread_kill(main_thread, signal.SIGINT)
            await asyncio.sleep(60)
        except BaseException as error:
            ended.append(error)
            raise

    pool: sync.QueuePool[Any] = sync.QueuePool(create, pool_size=1, max_overflow=0)
    with pytest.raises(KeyboardInterrupt):
        pool.connect()
    pool.close()
    assert [type(error) for error in ended] == [asyncio.CancelledError]
    assert pool.checkedout() == 0


def _functions(thread: Any) -> list[str]:
    """Return the names of the functions that a thread is in."""
    frame = sys._current_frames().get(thread)
    names = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


def test_loop_thread_that_has_ended_by_itself() -> None:
    bridge = LoopThread()
    portal = bridge._portal
    assert portal is not None
    portal.call(portal.stop)
    bridge.thread.join(10)
    assert not bridge.thread.is_alive()
    bridge.stop()
    assert bridge.has_ended()


@pytest.mark.parametrize("what", ["connect", "return"])
def test_facade_is_closed_at_any_moment(
    world: World, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another thread is just handing something over to its loop."""
    monkeypatch.setattr("anypool._core.bounds.END_TIMEOUT", 0.02)

    async def create() -> Any:
        return await world.connect()

    told = []
    for number in count(1):
        pool: sync.QueuePool[Any] = sync.QueuePool(create)
        lease = pool.connect() if what == "return" else None
        close = partial(in_thread, partial(pool.close, timeout=0))
        try:
            with AtLine(number, close) as at:
                if lease is None:
                    lease = pool.connect()
                lease.close()
        except anypool.PoolClosedError as error:
            told.append(error)
        pool.close()
        assert not world.open
        del lease
        if at.where is None:
            break
    assert told


def test_work_that_is_handed_over_while_the_loop_ends() -> None:
    """Its thread must not wait for a loop that runs no more."""
    bridge = LoopThread()
    late = object()
    bridge._calling.add(late)
    bridge.stop()
    bridge.thread.join(0.05)
    assert bridge.thread.is_alive()
    bridge._calling.discard(late)
    bridge.thread.join(10)
    assert not bridge.thread.is_alive()


def test_loop_that_ends_in_the_moment_work_comes() -> None:
    bridge = LoopThread()
    portal: Any = bridge._portal

    class Ending:
        def start_task_soon(self, *args: Any) -> None:
            bridge._portal = portal
            bridge.stop()
            raise RuntimeError("This portal is not running")

    bridge._portal = Ending()  # type: ignore[assignment]  # as far as it is used
    with pytest.raises(anypool.PoolClosedError):
        bridge.call(anyio.sleep, 0)
    bridge.thread.join(10)
    assert not bridge.thread.is_alive()


def test_connect_that_has_begun_is_no_coroutine(world: World) -> None:
    """Then there is nothing to close, if it is not wanted any more."""
    begun = first_then(Checkpoints(), world.connect)
    del begun


def test_error_of_the_portal_comes_through() -> None:
    """A blocking call in the loop's own thread would wait for itself."""
    bridge = LoopThread()

    async def nested() -> None:
        bridge.call(nested)

    with pytest.raises(RuntimeError, match="event loop thread"):
        bridge.call(nested)
    bridge.stop()


def test_recreated_pool_has_the_creator_itself(world: World) -> None:
    """And not what was made of it when it turned out to be an async one."""

    def create() -> Any:
        return world.connect()

    for creator in (create, partial(create)):
        pool: sync.QueuePool[Any] = sync.QueuePool(creator)
        for _ in range(3):
            with pool.connect():
                pass
            before, pool = pool, pool.recreate()
            before.close()
        whole: Any = pool.async_pool._parts.connector.creator
        assert getattr(whole, "func", whole) is create
        pool.close()


def test_connect_that_has_begun_and_is_not_wanted_any_more(world: World) -> None:
    """Python doesn't complain of a coroutine that was never awaited."""

    class Refusing:
        number = 0

        def before_connect(self, parameters: dict[str, Any], record: Any) -> None:
            self.number += 1
            if self.number > 1:
                raise ConnectionRefusedError

    def create() -> Any:
        return world.connect()

    pool: sync.QueuePool[Any] = sync.QueuePool(create, listeners=[Refusing()])
    with pytest.raises(ConnectionRefusedError):
        pool.connect()
    pool.close()


def test_loop_thread_whose_start_was_interrupted() -> None:
    """Nobody is there who could ever stop it."""
    bridge = LoopThread()
    gone = weakref.ref(bridge)
    del bridge
    gc.collect()
    ready = threading.Event()
    in_thread(lambda: anyio.run(_serve, gone, ready, set()))
    assert not ready.is_set()


def test_another_thread_moves_the_facade_to_its_loop_a_moment_before(world: World) -> None:
    class Connecting:
        """As what most async drivers return: no coroutine."""

        def __await__(self) -> Any:
            return world.connect().__await__()

    pool = sync.QueuePool(Connecting, pool_size=1)
    numbers: list[int] = []

    def use() -> None:
        with pool.connect() as connection:
            numbers.append(connection.number)

    class Lock:
        """Is had by another thread first."""

        def __enter__(self) -> None:
            pool._switching = lock
            in_thread(use)
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    lock, pool._switching = pool._switching, Lock()  # type: ignore[assignment]
    use()
    assert numbers == [1, 1]
    pool.close()


def test_facade_over_a_pool_is_not_recreated(world: World) -> None:
    facade = sync.over(anypool.QueuePool(world.connect))
    with pytest.raises(anypool.InvalidRequestError, match="recreate the async pool"):
        facade.recreate()


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_facade_as_a_context_manager(error: type[BaseException] | None) -> None:
    """What is out is waited for, unless the program is being stopped."""
    world = World(coroutine=False)
    pool = sync.QueuePool(world.connect)
    begin = time.monotonic()
    with nullcontext() if error is None else pytest.raises(error):
        with pool:
            lease = pool.connect()
            if error is KeyboardInterrupt:
                raise error
            lease.close()
            if error is not None:
                raise error
    assert time.monotonic() - begin < 5  # close() would wait for 10 seconds
    assert not lease.is_valid
    assert world.open == []


def test_creator_of_awaitables_is_called_in_the_loop_once_that_is_known(
    world: World,
) -> None:
    """A plain function may block, and is called in a thread; the first result tells."""
    threads: list[int] = []

    def create() -> Any:
        threads.append(threading.get_ident())
        return world.connect()

    async def main() -> None:
        pool = anypool.QueuePool(create)
        leases = [await pool.unique_connection() for _ in range(3)]
        for lease in leases:
            await lease.close()
        await pool.close()

    asyncio.run(main())
    here = threading.get_ident()
    assert [thread == here for thread in threads] == [False, True, True]
