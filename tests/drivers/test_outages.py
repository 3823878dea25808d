"""Servers that go away for a while, and opened pools that outlive that."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import pytest

import anypool

from .conftest import Live
from .servers import PATIENCE, Postgres

ONE_OF_EACH = [
    "psycopg-async",
    "psycopg-blocking",
    "asyncpg-async",
    "pymysql-blocking",
    "aiomysql-async",
]
each_family = pytest.mark.parametrize("mode", ONE_OF_EACH, indirect=True)


async def fill(mode: Live, pool: Any, count: int) -> None:
    """Have so many idle connections in the pool."""
    leases = [await mode.go(pool.unique_connection()) for _ in range(count)]
    for lease in leases:
        await mode.go(lease.close())
    assert pool.checkedin() == count


@each_family
@pytest.mark.parametrize("is_open", [False, True])
async def test_one_checkout_gets_past_all_dead_connections(
    mode: Live, is_open: bool
) -> None:
    pool = mode.pool(pool_size=6, pre_ping=True)
    if is_open:
        await mode.go(pool.open())
    await fill(mode, pool, 6)
    mode.proxy.cut()
    begin = time.monotonic()
    async with mode.block(pool.connect()) as connection:
        assert await mode.execute(pool, connection, "SELECT 1") == 1
    assert time.monotonic() - begin < 2
    await mode.go(pool.close())


@each_family
async def test_each_caller_sees_one_error_at_most_without_pings(mode: Live) -> None:
    pool = mode.pool(pool_size=4, max_overflow=0, on_disconnect="pool")
    await mode.go(pool.open())
    await fill(mode, pool, 4)
    mode.proxy.cut()
    errors = []

    async def use() -> None:
        mine = 0
        for _ in range(5):
            try:
                async with mode.block(pool.connect()) as connection:
                    await mode.execute(pool, connection, "SELECT 1")
            except anypool.PoolError:
                raise
            except Exception:
                mine += 1
        errors.append(mine)

    async with mode.group() as start:
        for _ in range(4):
            start(use)
    assert max(errors) <= 1
    assert sum(errors) <= 4
    await mode.go(pool.close())


@each_family
async def test_callers_that_wait_for_an_absent_server(mode: Live) -> None:
    """They are served soon after it is back, and it is not stormed meanwhile."""
    pool = mode.pool(pool_size=5, max_overflow=0, pre_ping=True, timeout=PATIENCE)
    await mode.go(pool.open())
    await fill(mode, pool, 5)
    mode.proxy.refuse()
    served: list[float] = []

    async def use() -> None:
        async with mode.block(pool.connect()) as connection:
            await mode.execute(pool, connection, "SELECT 1")
        served.append(time.monotonic())

    async with mode.group() as start:
        for _ in range(20):
            start(use)
        await mode.until(lambda: pool.stats().failed >= 3)
        failed, connects = pool.stats().failed, mode.proxy.connects
        assert not served
        back = time.monotonic()
        mode.proxy.resume()
    # The longest pause so far was 0.1 s, doubled four times at most, and a quarter more.
    assert max(served) - back < 4
    assert failed <= 8
    assert mode.proxy.connects - connects <= 5
    mode.proxy.refuse()
    await mode.go(pool.dispose())
    with pytest.raises(anypool.PoolTimeoutError) as caught:
        await mode.go(pool.connect(timeout=0.5))
    assert caught.value.__cause__ is not None
    assert not isinstance(caught.value.__cause__, anypool.PoolError)
    await mode.go(pool.close())


@each_family
async def test_server_that_does_not_answer_pings(mode: Live) -> None:
    """A checkout ends at its deadline, and close() soon; where a blocking driver can't be
    stopped, when that gives up itself."""
    pool = mode.pool(pool_size=2, pre_ping=True)
    await mode.go(pool.open())
    await fill(mode, pool, 2)
    if mode.blocking:
        pytest.skip("blocking drivers can't be stopped")
    mode.proxy.stall()
    begin = time.monotonic()
    with pytest.raises(anypool.PoolTimeoutError):
        await mode.go(pool.connect(timeout=0.5))
    assert time.monotonic() - begin < 2
    await mode.go(pool.close(timeout=0.5))
    assert time.monotonic() - begin < 8
    mode.proxy.resume()
    assert pool.stats().size == 0


@each_family
async def test_min_size_after_all_sessions_are_ended(mode: Live) -> None:
    """With keepalive, and nobody who uses the pool."""
    pool = mode.pool(pool_size=4, min_size=3, keepalive=0.2)
    await mode.go(pool.open())
    await mode.go(pool.wait(PATIENCE))
    leases = [await mode.go(pool.unique_connection()) for _ in range(3)]
    sessions = [await mode.session(pool, lease.connection) for lease in leases]
    for lease in leases:
        await mode.go(lease.close())
    for session in sessions:
        mode.server.kill(session)
    await mode.until(lambda: pool.stats().opened >= 6 and pool.stats().idle == 3)
    leases = [await mode.go(pool.unique_connection()) for _ in range(3)]
    fresh = [await mode.session(pool, lease.connection) for lease in leases]
    assert not set(fresh) & set(sessions)
    for lease in leases:
        await mode.go(lease.close())
    await mode.go(pool.close())


@each_family
async def test_never_too_many_sessions(mode: Live) -> None:
    """While everything happens at once that replaces connections, under load."""
    limit = 4
    with mode.server.account(100) as name:
        question = mode.server.sessions_of(name)
        login = f"{name}:sesame%2F%3A%40%25%3F"
        pool = mode.pool(
            login=login, pool_size=3, max_overflow=1, min_size=1, recycle=0.3, max_idle=0.2
        )
        await mode.go(pool.open())
        over = threading.Event()
        most: list[int] = []
        watcher = threading.Thread(target=_watch, args=(mode, question, over, most))
        watcher.start()
        done: list[int] = []
        disturbed = threading.Event()

        async def use() -> None:
            end = time.monotonic() + 0.5
            while time.monotonic() < end or not disturbed.is_set():
                async with mode.block(pool.connect()) as connection:
                    await mode.execute(pool, connection, "SELECT 1")
                done.append(1)

        async def disturb() -> None:
            try:
                for size in (1, 3, 2, 3):
                    await mode.go(pool.drain())
                    enough = len(done) + 20
                    await mode.until(partial(_more_than, done, enough))
                    await mode.go(pool.resize(size))
            finally:
                disturbed.set()

        async with mode.group() as start:
            for _ in range(8):
                start(use)
            start(disturb)
        await mode.until(lambda: pool.stats().idle == 1)  # max_idle, and min_size
        over.set()
        watcher.join(PATIENCE)
        await mode.go(pool.close())
        mode.server.until(question, 0)
    stats = pool.stats()
    assert len(done) > 50
    # A session may be listed for a moment after its client has said goodbye.
    assert max(most) <= limit + (1 if isinstance(mode.server, Postgres) else 2)
    assert sum(stats.closed.values()) == stats.opened


def _more_than(things: list[int], count: int) -> bool:
    return len(things) > count


def _watch(mode: Live, question: str, over: threading.Event, most: list[int]) -> None:
    connection = mode.server.connect()
    with connection.cursor() as cursor:
        while not over.wait(0.005):
            cursor.execute(question)
            most.append(cursor.fetchone()[0])
    connection.close()
