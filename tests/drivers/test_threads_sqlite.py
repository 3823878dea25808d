"""sqlite3 connections that were made without check_same_thread=False."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest

import anypool
from anypool import sync
from anypool._drivers.sqlite3 import SQLiteDriver

from ..support.modes import PATIENCE

CURE = "check_same_thread=False"


def elsewhere(function: Callable[[], None]) -> BaseException | None:
    """Call a function in another thread; return what it raises."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return errors[0] if errors else None


def test_an_async_pool_says_so_at_once(tmp_path: Path) -> None:
    made: list[sqlite3.Connection] = []

    def create() -> sqlite3.Connection:
        made.append(sqlite3.connect(tmp_path / "app.db"))
        return made[-1]

    async def main() -> None:
        pool = anypool.QueuePool(create, pool_size=1, max_overflow=0)
        for _ in range(3):  # the one slot comes back each time
            with pytest.raises(anypool.InvalidRequestError, match=CURE):
                async with pool.connect():
                    raise AssertionError("it is of no use here")
        await pool.close()

    anyio.run(main)
    for connection in made:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.total_changes


def test_a_blocking_pool_notes_it_on_the_error(tmp_path: Path) -> None:
    """One thread alone may use it. Others get an error, and leave it as it was."""
    pool = sync.QueuePool(lambda: sqlite3.connect(tmp_path / "app.db"), pool_size=1)
    with pool.connect() as first:
        first.execute("CREATE TABLE t (x)")

    def use() -> None:
        with pool.connect() as connection:
            assert connection is first
            connection.execute("SELECT 1")

    error = elsewhere(use)
    assert isinstance(error, sqlite3.ProgrammingError)
    assert any(CURE in note for note in error.__notes__)
    with pool.connect() as again:
        assert again is first
        again.execute("SELECT 1")
    assert elsewhere(pool.close) is None
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        first.execute("SELECT 1")


def test_returned_by_another_thread(tmp_path: Path) -> None:
    """What it left open can't be ended there but by closing it."""
    pool = sync.QueuePool(lambda: sqlite3.connect(tmp_path / "app.db"), pool_size=1)
    lease = pool.connect()
    lease.connection.execute("CREATE TABLE t (x)")
    lease.connection.execute("INSERT INTO t VALUES (1)")
    assert elsewhere(lease.close) is None
    with pool.connect() as connection:
        assert connection.execute("SELECT * FROM t").fetchall() == []
    assert pool.stats().closed == {"reset": 1}
    pool.close()


def test_what_the_driver_does_in_another_thread(tmp_path: Path) -> None:
    driver = SQLiteDriver()
    connection = sqlite3.connect(tmp_path / "app.db")

    def terminate() -> None:
        with pytest.raises(anypool.InvalidRequestError, match=CURE):
            driver.reset(connection, "rollback")
        assert driver.terminate(connection)

    assert elsewhere(terminate) is None
    assert not driver.is_open(connection)


def test_closed_connection_has_no_locks(tmp_path: Path) -> None:
    """Without the GIL, another thread's statements end when that thread goes on."""
    path = tmp_path / "app.db"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=0, check_same_thread=False)

    pool = sync.QueuePool(connect, pool_size=1)
    used, over = threading.Event(), threading.Event()

    def use() -> None:
        with pool.connect() as connection:
            connection.execute("CREATE TABLE t (x)")
            connection.execute("INSERT INTO t VALUES (1)")
        used.set()
        over.wait(PATIENCE)

    other = threading.Thread(target=use)
    other.start()
    assert used.wait(PATIENCE)
    try:
        lease = pool.connect()
        lease.execute("INSERT INTO t VALUES (2)")
        lease.invalidate()
        with closing(connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
    finally:
        over.set()
        other.join()
