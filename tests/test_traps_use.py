"""Traps of use: what applications meet that hold a pool right."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import anyio.to_thread
import pytest

import anypool
from anypool import sync

from .support.holds import Holds, waiting
from .support.modes import Mode


def _sqlite(mode: Mode, path: Path) -> Any:
    """Return a creator of real connections for this mode."""
    if mode.world.coroutine:
        return lambda: aiosqlite.connect(path)
    return lambda: sqlite3.connect(path, check_same_thread=False)


async def _fetch(mode: Mode, pool: Any, conn: Any, statement: str) -> Any:
    """Execute a statement; return its first row."""
    cursor = await _call(mode, pool, conn.execute, statement)
    row = await _call(mode, pool, cursor.fetchone)
    await _call(mode, pool, cursor.close)
    return row


async def _call(mode: Mode, pool: Any, function: Any, *args: Any) -> Any:
    return await mode.go(pool.call(function, *args))


def sqlite_mode(mode: Mode) -> None:
    """aiosqlite runs on asyncio."""
    if mode.name == "trio":
        pytest.skip("aiosqlite needs asyncio")


async def test_return_keeps_what_the_init_hook_has_set(mode: Mode, tmp_path: Path) -> None:
    """Trap: RESET ALL on return wiped what the user's init hook had set."""
    sqlite_mode(mode)

    class Initialise:
        def connect(self, connection: Any, record: Any) -> Any:
            return connection.execute("PRAGMA cache_size = -4321")

    pool = mode.pool(
        creator=_sqlite(mode, tmp_path / "t.db"), listeners=[Initialise()], pool_size=1
    )
    for _ in range(3):
        async with mode.block(pool.connect()) as conn:
            assert (await _fetch(mode, pool, conn, "PRAGMA cache_size")) == (-4321,)
            await _fetch(mode, pool, conn, "BEGIN")
    await mode.go(pool.dispose())


async def test_next_caller_finds_no_open_transaction(mode: Mode, tmp_path: Path) -> None:
    """However a caller leaves, the next one gets a connection with nothing begun."""
    sqlite_mode(mode)
    pool = mode.pool(
        creator=_sqlite(mode, tmp_path / "t.db"), pool_size=1, max_overflow=0, timeout=10
    )
    async with mode.block(pool.connect()) as conn:
        await _fetch(mode, pool, conn, "CREATE TABLE t (x)")

    async def begin(conn: Any) -> None:
        await _fetch(mode, pool, conn, "INSERT INTO t VALUES (1)")
        assert conn.in_transaction

    async def leave_block() -> None:
        async with mode.block(pool.connect()) as conn:
            await begin(conn)

    async def close() -> None:
        lease = await mode.go(pool.connect())
        await begin(lease.connection)
        await mode.go(lease.close())

    async def fail() -> None:
        with pytest.raises(RuntimeError):
            async with mode.block(pool.connect()) as conn:
                await begin(conn)
                raise RuntimeError

    async def drop() -> None:
        lease = await mode.go(pool.connect())
        await begin(lease.connection)
        with pytest.warns(ResourceWarning, match="dropped"):
            del lease
            await mode.settle()

    for leave in (leave_block, close, fail, drop):
        await leave()
        async with mode.block(pool.connect()) as conn:
            assert not conn.in_transaction, leave.__name__
            assert (await _fetch(mode, pool, conn, "SELECT count(*) FROM t")) == (0,)
    await mode.go(pool.dispose())


@pytest.mark.parametrize("how", ["inside", "finally", "block"])
async def test_statement_that_was_given_up_on_is_not_the_next_callers(
    mode: Mode, tmp_path: Path, how: str
) -> None:
    """A statement that nobody waits for any more is over before the connection goes on,
    and its transaction with it."""
    if mode.blocking or mode.name == "trio":
        pytest.skip("needs cancellation, and asyncio")
    import threading

    go = threading.Event()

    class Slow:
        def connect(self, connection: Any, record: Any) -> Any:
            return connection.create_function("slow", 0, lambda: go.wait(5))

    path = tmp_path / "t.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    pool = mode.pool(
        creator=_sqlite(mode, path), listeners=[Slow()], pool_size=1, max_overflow=0
    )

    async def statements(conn: Any) -> None:
        with anyio.move_on_after(0.02 if how == "inside" else None):
            await pool.call(conn.execute, "SELECT slow()")
        with anyio.move_on_after(0.02 if how == "inside" else None):
            await pool.call(conn.execute, "INSERT INTO t VALUES (1)")

    async def work() -> None:
        if how == "finally":
            lease = await pool.connect()
            try:
                await statements(lease.connection)
            finally:
                await lease.close()
        else:
            async with pool.connect() as conn:
                await statements(conn)

    async def cancelled() -> None:
        with anyio.move_on_after(0.05 if how != "inside" else None):
            await work()

    async def next_caller() -> None:
        async with pool.connect() as conn:
            assert not conn.in_transaction
            assert (await _fetch(mode, pool, conn, "SELECT count(*) FROM t")) == (0,)
            assert not conn.in_transaction

    try:
        async with mode.group() as start:
            start(cancelled)
            await mode.until(lambda: pool.checkedout() == 1)
            start(next_caller)
            await mode.until(lambda: waiting(pool) == 1)
            await anyio.sleep(0.1)
            go.set()
    finally:
        go.set()
    await mode.go(pool.dispose())


async def test_dropped_connection_is_not_handed_out(mode: Mode) -> None:
    """Trap: connections that a server or firewall had dropped were handed out."""
    dead: set[int] = set()

    class Look:
        def checkout(self, connection: Any, record: Any, lease: Any) -> None:
            if connection.number in dead:
                raise anypool.DisconnectionError

    pool = mode.pool(listeners=[Look()])
    async with mode.block(pool.connect()) as conn:
        dead.add(conn.number)
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2
    assert mode.world.open == [2]


async def test_lifetime_is_checked_at_checkout(mode: Mode) -> None:
    """Trap: a lifetime was only checked on return, so that what had aged in the pool was
    handed out."""
    pool = mode.pool(recycle=3600)
    async with mode.block(pool.connect()):
        pass
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 1
    books = getattr(pool, "async_pool", pool)
    for record in books._ledger.idle:
        record._expires_at -= 3601  # an hour goes by
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2
    assert mode.world.open == [2]


async def test_checkout_makes_no_round_trip(mode: Mode) -> None:
    """Trap: a check on every checkout cost a round trip."""
    pool = mode.pool()
    async with mode.block(pool.connect()):
        pass
    mode.world.events.clear()
    async with mode.block(pool.connect()):
        assert mode.world.events == []


async def test_timeout_may_be_infinite(mode: Mode) -> None:
    """Trap: what some functions take for no limit is too much for a thread's lock."""
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=math.inf)
    lease = await mode.go(pool.connect())
    served = mode.event()

    async def wait() -> None:
        async with mode.block(pool.connect()):
            served.set()

    async with mode.group() as start:
        start(wait)
        await mode.until(lambda: waiting(pool))
        await mode.go(lease.close())
        await served.wait()


async def test_nested_checkouts_need_one_connection(mode: Mode) -> None:
    """Trap: nested checkouts by one request deadlocked whole applications."""
    pool = mode.pool(pool_size=2, max_overflow=0, timeout=5)

    async def request() -> None:
        async with mode.block(pool.connect()) as outer:
            await mode.go(pool.call(outer.execute, "select 1"))
            async with mode.block(pool.connect()) as inner:
                assert inner is outer

    async with mode.group() as start:
        for _ in range(10):
            start(request)
    assert pool.checkedout() == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("driver", ["blocking", "async"])
def test_waiting_threads_leave_room_for_returns(backend: str, driver: str) -> None:
    """Trap: blocking waits used up the thread pool that the returns needed."""
    mode = Mode("threads" if driver == "blocking" else "asyncio")

    async def main() -> None:
        pool = anypool.QueuePool(
            Holds(mode).connect, pool_size=1, max_overflow=0, timeout=20, recycle=0
        )
        facade = sync.over(pool)
        served: list[int] = []

        def use() -> None:
            with facade.connect() as conn:
                served.append(conn.number)

        limiter = anyio.to_thread.current_default_thread_limiter()
        callers = int(limiter.total_tokens) + 5
        async with anyio.create_task_group() as tasks:
            lease = await pool.connect()
            for _ in range(callers):
                tasks.start_soon(anyio.to_thread.run_sync, use)
            await mode.until(lambda: waiting(pool) == int(limiter.total_tokens))
            await lease.close()
        assert len(served) == callers
        await pool.dispose()

    anyio.run(main, backend=backend)
    mode.world.assert_sound()
