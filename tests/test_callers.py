"""Whose caller: a thread and its context, in blocking code; a task, in async code."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import fastapi
import httpx
import pytest
from fastapi.responses import StreamingResponse

import anypool
from anypool import sync

from .support.fakes import World


@pytest.fixture
def pool() -> Iterator[Any]:
    pool = sync.QueuePool(World(coroutine=False).connect, pool_size=5)
    yield pool
    pool.close()


def test_a_plain_thread_shares_with_itself(pool: Any) -> None:
    outer = pool.connect()
    assert pool.connect() is outer
    outer.close()
    assert outer.is_valid, "it was counted"
    outer.close()
    assert pool.checkedout() == 0


def test_what_an_executor_runs_in_a_plain_thread_shares(pool: Any) -> None:
    """As of old: the thread is the caller, if nobody lends it a context."""
    with ThreadPoolExecutor(1) as executor:
        first = executor.submit(pool.connect).result()
        assert executor.submit(pool.connect).result() is first
        executor.submit(first.close).result()
        executor.submit(first.close).result()
    assert pool.checkedout() == 0


async def _to_thread(function: Callable[..., Any]) -> Any:
    return await anyio.to_thread.run_sync(function)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("connected_before", [False, True])
def test_calls_in_worker_threads_never_share(
    pool: Any, backend: str, connected_before: bool
) -> None:
    """Not even if the main thread, whose context they have copies of, has used the pool."""
    if connected_before:
        with pool.connect():
            pass

    async def main() -> None:
        leases = [await _to_thread(pool.connect) for _ in range(3)]
        assert len({id(lease.connection) for lease in leases}) == 3
        assert len({lease._caller for lease in leases}) == 3
        for lease in leases:
            await _to_thread(lease.close)
        again = await _to_thread(pool.connect)
        assert again not in leases
        await _to_thread(again.close)

    anyio.run(main, backend=backend)
    assert pool.checkedout() == 0


def test_nested_calls_in_one_worker_thread_share(pool: Any) -> None:
    def nested() -> bool:
        with pool.connect() as outer, pool.connect() as inner:
            return outer is inner

    assert asyncio.run(asyncio.to_thread(nested))
    assert pool.checkedout() == 0


def test_a_context_of_ones_own_is_another_caller(pool: Any) -> None:
    """Whatever the thread: what runs in a context is not what runs in another."""
    context = contextvars.Context()
    lease = pool.connect()
    other = context.run(pool.connect)
    assert other is not lease
    assert context.run(pool.connect) is other
    assert pool.connect() is lease
    for each in (lease, lease, other, other):
        each.close()
    assert pool.checkedout() == 0


def test_a_thread_that_inherits_a_context_is_another_caller(pool: Any) -> None:
    """As threads do on free-threaded builds."""
    lease, found = pool.connect(), []
    inherited = contextvars.copy_context()

    def work() -> None:
        other = pool.connect()
        found.append(other is lease)
        other.close()

    thread = threading.Thread(target=inherited.run, args=(work,))
    thread.start()
    thread.join(10)
    assert found == [False]
    lease.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("connected_before", [False, True])
def test_tasks_that_use_a_blocking_pool_never_share(
    pool: Any, backend: str, connected_before: bool
) -> None:
    """In the loop's own thread, across awaits, with inherited contexts."""
    if connected_before:
        with pool.connect():
            pass

    async def main() -> None:
        found: list[int] = []
        both = anyio.Event()

        async def work() -> None:
            with pool.connect() as connection:
                found.append(id(connection))
                if len(found) == 2:
                    both.set()
                await both.wait()
                with pool.connect() as nested:
                    assert nested is connection

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            group.start_soon(work)
        assert len(set(found)) == 2

    anyio.run(main, backend=backend)
    assert pool.checkedout() == 0


def test_a_caller_ends_with_its_context() -> None:
    """And so does its connection, in a pool that has one for each caller."""
    world = World(coroutine=False)
    pool = sync.SingletonThreadPool(world.connect, pool_size=3)

    async def main() -> None:
        for _ in range(3):
            lease = await asyncio.to_thread(pool.connect)
            await asyncio.to_thread(lease.close)
            del lease
            gc.collect()

    asyncio.run(main())
    gc.collect()
    assert len(world.connections) == 3
    assert world.open == []
    pool.close()


def test_return_by_another_caller_leaves_nothing(pool: Any) -> None:
    async def main() -> None:
        for _ in range(500):
            lease = await asyncio.to_thread(pool.connect)
            lease.close()

    asyncio.run(main())
    assert pool.checkedout() == 0
    assert len(pool.async_pool._ledger.leases.callers) < 250


def test_a_facade_over_a_running_pool() -> None:
    world = World(coroutine=True)

    async def main() -> None:
        pool = anypool.QueuePool(world.connect, pool_size=5)
        facade = sync.over(pool)
        leases = [await asyncio.to_thread(facade.connect) for _ in range(2)]
        assert leases[0].connection is not leases[1].connection
        for lease in leases:
            await asyncio.to_thread(lease.close)
        assert pool.checkedout() == 0
        await pool.close()

    asyncio.run(main())


def test_without_use_threadlocal_nobody_shares() -> None:
    pool = sync.QueuePool(World(coroutine=False).connect, use_threadlocal=False)
    with pool.connect() as one, pool.connect() as other:
        assert one is not other
    pool.close()


# What frameworks do with worker threads.


def application(pool: Any) -> fastapi.FastAPI:
    """Requests that write their own number in a transaction, and read it back."""
    app = fastapi.FastAPI()

    def dependency() -> Iterator[Any]:
        with pool.connect() as connection:
            yield connection

    async def async_dependency() -> AsyncIterator[Any]:
        with pool.connect() as connection:
            yield connection

    given, given_in_loop = fastapi.Depends(dependency), fastapi.Depends(async_dependency)

    def write(connection: Any, number: int) -> None:
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS mine (number)")
        connection.execute("INSERT INTO mine VALUES (?)", (number,))

    def read(connection: Any) -> Any:
        return [number for (number,) in connection.execute("SELECT number FROM mine")]

    @app.get("/plain/{number}")
    def plain(number: int, connection: Any = given) -> Any:
        write(connection, number)
        pause.wait(0.01)
        return read(connection)

    @app.get("/async/{number}")
    async def asynchronous(number: int, connection: Any = given) -> Any:
        write(connection, number)
        await asyncio.sleep(0.01)
        return read(connection)

    @app.get("/loop/{number}")
    async def in_the_loop(number: int, connection: Any = given_in_loop) -> Any:
        write(connection, number)
        await asyncio.sleep(0.01)
        return read(connection)

    @app.get("/stream/{number}")
    def stream(number: int) -> Any:
        def lines() -> Iterator[str]:
            with pool.connect() as connection:
                write(connection, number)
                for _ in range(3):
                    yield " "
                yield str(read(connection))

        return StreamingResponse(lines())

    pause = threading.Event()
    return app


@pytest.mark.parametrize("kind", ["plain", "async", "loop", "stream"])
@pytest.mark.parametrize("used_before", [False, True])
def test_overlapping_requests_never_share(
    tmp_path: Path, kind: str, used_before: bool
) -> None:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(tmp_path / "app.db", check_same_thread=False)

    pool = sync.QueuePool(connect, pool_size=20, max_overflow=20)
    if used_before:
        with pool.connect():
            pass

    async def main() -> None:
        transport = httpx.ASGITransport(app=application(pool))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            async def request(number: int) -> None:
                answer = await client.get(f"/{kind}/{number}")
                assert answer.json() == [number]

            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(request, number)

    anyio.run(main)
    assert pool.checkedout() == 0
    pool.close()
