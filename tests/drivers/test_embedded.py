"""Drivers without a server: SQLite, DuckDB, and what is no database at all."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiosqlite
import anyio
import anyio.to_thread
import pytest

import anypool
from anypool import ConnectionState, sync
from anypool._core.driver import CLEAN
from anypool._drivers.aiosqlite import AiosqliteDriver, make_daemon
from anypool._drivers.closing import ClosingDriver
from anypool._drivers.dbapi import DBAPIDriver
from anypool._drivers.generic import GenericDriver
from anypool._drivers.generic_async import GenericAsyncDriver
from anypool._drivers.registry import driver_for
from anypool._drivers.sqlite3 import SQLiteDriver
from anypool._drivers.transports import hang_up, shut_down

from ..support.modes import PATIENCE
from .absent import module_of

if TYPE_CHECKING:
    import duckdb
else:
    duckdb = module_of("duckdb")

SQLITE_MODES: list[dict[str, Any]] = [{}, {"isolation_level": None}]
if sys.version_info >= (3, 12):
    SQLITE_MODES += [{"autocommit": True}, {"autocommit": False}]


def _as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    """Make something of a row that a reset can't unpack: a row factory."""
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


@pytest.mark.parametrize("arguments", SQLITE_MODES, ids=str)
def test_full_reset_of_sqlite(arguments: dict[str, Any], tmp_path: Path) -> None:
    driver = SQLiteDriver()
    connection = sqlite3.connect(tmp_path / "app.db", **arguments)
    connection.execute("CREATE TABLE t (id)")
    connection.commit()
    baseline = driver.baseline(connection)
    driver.note_session(connection, baseline, None)
    connection.row_factory = _as_dict
    connection.text_factory = bytes
    connection.execute('ATTACH \':memory:\' AS "other "" one"')
    connection.execute('CREATE TEMP TABLE "a "" name" (id)')
    connection.execute("CREATE TEMP VIEW v AS SELECT 1")
    connection.execute("CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END")
    connection.commit()
    if not connection.in_transaction:
        connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (1)")
    assert driver.state(connection, baseline) is ConnectionState.OPEN
    driver.reset(connection, "full")
    driver.restore(connection, baseline)
    assert connection.row_factory is None
    assert connection.text_factory is str
    # With autocommit=False (Python 3.12) a transaction is open at all times.
    is_open = driver.state(connection, baseline) is ConnectionState.OPEN
    assert is_open == (arguments == {"autocommit": False})
    count = connection.execute("SELECT count(*) FROM sqlite_temp_master").fetchone()
    assert count == (0,)
    assert [row[1] for row in connection.execute("PRAGMA database_list")] == [
        "main",
        "temp",
    ][: len(list(connection.execute("PRAGMA database_list")))]
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    connection.close()
    assert not driver.is_open(connection)
    assert driver.state(connection, baseline) is ConnectionState.CLOSED


@pytest.mark.parametrize("mode", ["rollback", "commit"])
@pytest.mark.parametrize("arguments", SQLITE_MODES, ids=str)
def test_end_of_a_transaction_of_sqlite(
    arguments: dict[str, Any], mode: Any, tmp_path: Path
) -> None:
    """However it was begun; and where none is open, there is nothing to do."""
    driver = SQLiteDriver()
    connection = sqlite3.connect(tmp_path / "app.db", **arguments)
    connection.execute("CREATE TABLE t (id)")
    connection.commit()
    for rows in (1, 2):
        if not connection.in_transaction:
            connection.execute("BEGIN")
        connection.execute("INSERT INTO t VALUES (1)")
        driver.reset(connection, mode)
        driver.reset(connection, mode)
        assert connection.in_transaction == (arguments == {"autocommit": False})
        count = connection.execute("SELECT count(*) FROM t").fetchone()
        assert count == (rows if mode == "commit" else 0,)
        driver.reset(connection, mode)
    connection.close()


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite"])
def test_ping_of_sqlite(scheme: str, tmp_path: Path) -> None:
    """It makes the database do something, and finds out that it can't."""
    pool = sync.create_pool(
        f"{scheme}:///{tmp_path}/app.db", pool_size=1, max_overflow=0, pre_ping=True
    )
    with pool.connect() as connection:
        first = connection
        statements: list[str] = []
        pool.call(connection.set_trace_callback, statements.append)
    with pool.connect() as connection:
        assert connection is first
    assert statements.count("SELECT 1") == 1
    pool.call(first.close)
    with pool.connect() as connection:
        assert connection is not first
    assert pool.stats().closed == {"ping": 1}
    pool.dispose()


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite"])
def test_closed_by_its_user(scheme: str, tmp_path: Path) -> None:
    pool = sync.create_pool(f"{scheme}:///{tmp_path}/app.db", pool_size=1, max_overflow=0)
    with pool.connect() as connection:
        pool.call(connection.close)
    with pool.connect() as connection:
        pool.call(connection.execute, "SELECT 1")
    pool.dispose()


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT max(i) FROM n"


def test_running_statement_is_interrupted(tmp_path: Path) -> None:
    async def main() -> None:
        pool = anypool.create_pool(f"sqlite+aiosqlite:///{tmp_path}/app.db", pool_size=1)
        with anyio.fail_after(5):
            async with pool.connect() as first:
                pass
            with anyio.move_on_after(0.1) as scope:
                async with pool.connect() as connection:
                    await connection.execute(ENDLESS)
            assert scope.cancelled_caught
            async with pool.connect() as again:
                assert again is first
                await again.execute("SELECT 1")
        await pool.dispose()

    anyio.run(main)


def test_statements_that_nobody_waits_for_any_more(tmp_path: Path) -> None:
    """A time limit inside of the block: its end looks like any other."""

    async def main() -> None:
        pool = anypool.create_pool(f"sqlite+aiosqlite:///{tmp_path}/app.db", pool_size=1)
        with anyio.fail_after(5):
            async with pool.connect() as first:
                for _ in range(3):
                    with anyio.move_on_after(0.01):
                        await first.execute(ENDLESS)
            async with pool.connect() as again:
                assert again is first
                driver = AiosqliteDriver()
                assert driver.state(again, driver.baseline(again)) is CLEAN
                await again.execute("SELECT 1")
        await pool.dispose()

    anyio.run(main)


LONG = "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b"


@pytest.mark.parametrize(("connect", "statement"), [("sqlite3", ENDLESS), ("duckdb", LONG)])
def test_statement_in_another_thread_is_interrupted(connect: str, statement: str) -> None:
    connection: Any
    if connect == "sqlite3":
        connection = sqlite3.connect(":memory:", check_same_thread=False)
    else:
        connection = duckdb.connect(":memory:")
    driver = driver_for(connection, awaited=False)
    errors: list[Exception] = []

    def execute() -> None:
        try:
            connection.execute(statement).fetchall()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=execute, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while thread.is_alive() and time.monotonic() < deadline:
        driver.interrupt(connection)  # which it may not have begun to execute
        thread.join(0.01)
    assert "nterrupt" in str(errors)
    connection.close()


def test_aiosqlite_is_open_until_it_is_closed() -> None:
    async def main() -> None:
        connection = await aiosqlite.connect(":memory:")
        assert AiosqliteDriver().is_open(connection)
        await connection.close()
        assert not AiosqliteDriver().is_open(connection)

    anyio.run(main)


def test_full_reset_of_aiosqlite(tmp_path: Path) -> None:
    async def main() -> None:
        pool = anypool.create_pool(
            f"sqlite+aiosqlite:///{tmp_path}/app.db", pool_size=1, reset_on_return="full"
        )
        async with pool.connect() as first:
            await first.execute("CREATE TEMP TABLE leftover (id)")
        async with pool.connect() as connection:
            assert connection is first
            with pytest.raises(sqlite3.OperationalError, match="no such table"):
                await connection.execute("SELECT * FROM leftover")
        await pool.dispose()

    anyio.run(main)


def test_pings_of_aiosqlite(tmp_path: Path) -> None:
    async def main() -> None:
        pool = anypool.create_pool(
            f"sqlite+aiosqlite:///{tmp_path}/app.db", pool_size=1, pre_ping=True
        )
        seen: list[str] = []
        async with pool.connect() as first:
            await first.set_trace_callback(seen.append)
        async with pool.connect() as connection:
            assert connection is first
            assert seen == ["SELECT 1"]
        await pool.dispose()

    anyio.run(main)


def test_statement_that_fails_on_aiosqlite_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        pool = anypool.create_pool(f"sqlite+aiosqlite:///{tmp_path}/app.db", pool_size=1)
        for _ in range(2):
            async with pool.connect() as connection:
                with pytest.raises(sqlite3.OperationalError):
                    await connection.execute("SELECT nonsense")
                driver = driver_for(connection, awaited=True)
        assert driver.state(connection, driver.baseline(connection)) is CLEAN
        await pool.dispose()

    anyio.run(main)


def test_aiosqlite_that_is_out_for_too_long_is_stopped(tmp_path: Path) -> None:
    async def main() -> None:
        pool = anypool.create_pool(f"sqlite+aiosqlite:///{tmp_path}/app.db")
        async with pool.connect():
            before = set(threading.enumerate())
            lease = await pool.unique_connection()
        (thread,) = set(threading.enumerate()) - before
        await pool.close(timeout=0)
        assert not lease.is_valid
        await anyio.to_thread.run_sync(thread.join, PATIENCE)
        assert not thread.is_alive()

    anyio.run(main)


def test_hanging_up_where_nothing_is_left() -> None:
    """Neither a loop that could do it nor a socket that could be shut down."""
    loop = asyncio.new_event_loop()
    loop.close()
    hang_up(loop, None, lambda: pytest.fail("in a closed loop"))


def test_hanging_up_is_left_to_a_loop_that_runs() -> None:
    seen: list[threading.Thread] = []

    def abort() -> None:
        seen.append(threading.current_thread())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(hang_up, loop, None, abort)

    asyncio.run(main())
    assert seen == [threading.current_thread()]


def test_shut_down_leaves_the_socket_to_its_owner() -> None:
    near, far = socket.socketpair()
    with far:
        shut_down(near.fileno())
        assert far.recv(1) == b""
        os.fstat(near.fileno())  # raises if it is nobody's number any more
        near.close()


def test_connection_that_is_never_closed_holds_nothing_up(tmp_path: Path) -> None:
    """Its thread is one that Python doesn't wait for when it exits."""

    async def main() -> None:
        pool = anypool.QueuePool(lambda: aiosqlite.connect(tmp_path / "app.db"))
        async with pool.connect():
            before = set(threading.enumerate())
            async with pool.unique_connection():
                (thread,) = set(threading.enumerate()) - before
                assert thread.daemon
        await pool.dispose()

    anyio.run(main)


def test_thread_that_runs_is_not_made_a_daemon() -> None:
    make_daemon(threading.current_thread())
    assert not threading.current_thread().daemon


def test_return_of_aiosqlite_is_no_thread_hop(tmp_path: Path) -> None:
    async def main() -> None:
        pool = anypool.create_pool(f"sqlite+aiosqlite:///{tmp_path}/app.db", pool_size=1)
        for _ in range(2):
            async with pool.connect() as connection:
                async with connection.execute("SELECT 1") as cursor:
                    assert await cursor.fetchall() == [(1,)]
                driver: Any = driver_for(connection, awaited=True)
                assert driver.state(connection, driver.baseline(connection)) is CLEAN
        await pool.dispose()

    anyio.run(main)


def test_duckdb(tmp_path: Path) -> None:
    pool = sync.create_pool(f"duckdb:///{tmp_path}/app.duckdb", pool_size=1)
    with pool.connect() as first:
        first.execute("CREATE TABLE t (id integer)")
    with pool.connect() as connection:
        assert connection is first, "no transaction to roll back is no error"
        connection.begin()
        connection.execute("INSERT INTO t VALUES (1)")
    with pool.connect() as connection:
        assert connection is first
        assert connection.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
        assert type(pool.async_pool._parts.connector.driver).__name__ == "DuckDBDriver"
        connection.close()
    with pool.connect() as connection:
        assert isinstance(connection, duckdb.DuckDBPyConnection)
        assert connection is not first
        driver_for(connection, awaited=False).ping(connection)
    pool.dispose()


def test_sockets_in_a_pool() -> None:
    ends: list[socket.socket] = []

    def connect() -> socket.socket:
        near, far = socket.socketpair()
        ends.append(far)
        return near

    pool = sync.QueuePool(connect, pool_size=1)
    with pool.connect() as first:
        first.send(b"hello")
        assert ends[0].recv(5) == b"hello"
    with pool.connect() as again:
        assert again is first
        driver = driver_for(again, awaited=False)
        assert isinstance(driver, ClosingDriver)
        assert driver.is_disconnect(BrokenPipeError(), again)
        assert not driver.is_disconnect(ValueError(), again)
        driver.ping(again)
    pool.dispose()
    assert first.fileno() == -1
    for end in ends:
        end.close()


class Channel:
    """An async connection that is no database."""

    closed = False

    async def aclose(self) -> None:
        self.closed = True


def test_async_things_in_a_pool() -> None:
    async def main() -> None:
        async def connect() -> Channel:
            return Channel()

        pool = anypool.QueuePool(connect, pool_size=1)
        async with pool.connect() as first:
            assert isinstance(driver_for(first, awaited=True), GenericAsyncDriver)
        async with pool.connect() as again:
            assert again is first
        await pool.dispose()
        assert first.closed

    anyio.run(main)


class Plain:
    """A connection of a driver that nobody knows."""

    def rollback(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Special(Plain):
    """One that its users know."""


def test_registered_drivers() -> None:
    class SpecialDriver(DBAPIDriver):
        pass

    class Late(Special):
        pass

    assert type(driver_for(Plain(), awaited=False)) is GenericDriver
    driver = SpecialDriver()
    anypool.register_driver(Special, driver)
    assert driver_for(Special(), awaited=False) is driver
    assert driver_for(Late(), awaited=False) is driver
    assert type(driver_for(Plain(), awaited=False)) is GenericDriver
    other = SpecialDriver()
    anypool.register_driver(f"{__name__.partition('.')[0]}.Plain", other)
    assert driver_for(Plain(), awaited=False) is other
    assert driver_for(Special(), awaited=False) is driver, "the nearest class decides"
    with pytest.raises(ValueError, match="expected the name"):
        anypool.register_driver("Plain", other)
    with pytest.raises(TypeError, match="expected a class"):
        anypool.register_driver(Plain(), other)  # type: ignore[arg-type]


def test_no_driver_is_imported_before_it_is_needed() -> None:
    import subprocess

    code = (
        "import sys; before = set(sys.modules); import anypool, anypool.sync; "
        "names = {'psycopg', 'psycopg2', 'asyncpg', 'pymysql', 'aiomysql', 'asyncmy', "
        "'duckdb', 'aiosqlite', 'sqlite3'} & (set(sys.modules) - before); "
        "sys.exit(repr(names) if names else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
