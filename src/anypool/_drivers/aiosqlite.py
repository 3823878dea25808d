"""aiosqlite: sqlite3 in a thread of its own, behind coroutines."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import weakref
from contextvars import Context
from typing import Any

import aiosqlite

from .._core.driver import CHANGED, CLEAN, CLOSED, OPEN, ConnectionState
from .._core.resetmode import ResetMode
from .coroutine import CoroutineDriver
from .sqlite3 import (
    Baseline,
    end_all,
    has_changed,
    put_back,
)
from .sqlite_session import Session, holds_data, look_at

INTERVAL = 0.02
"""Seconds between two attempts to interrupt."""


class AiosqliteDriver(CoroutineDriver):
    """Looks at sqlite3's own state, so that idle returns cost no thread hop."""

    def baseline(self, connection: aiosqlite.Connection, /) -> Any:
        statements = vars(connection).get("_execute")
        if not isinstance(statements, Statements):
            vars(connection)["_execute"] = statements = Statements(connection)
        statements.baseline = Baseline(connection._conn, 0)
        return statements

    async def note_session(
        self, connection: aiosqlite.Connection, baseline: Any, first: Any, /
    ) -> None:
        # The object is the same, before and after the connect listeners.
        baseline.noted = baseline.baseline.noted = await baseline(
            look_at, connection._conn, first and baseline.noted
        )

    def state(self, connection: aiosqlite.Connection, baseline: Any, /) -> ConnectionState:
        # A statement that somebody gave up waiting for may still be running or queued in
        # the connection's thread, and begin a transaction after this look.
        # So may a cursor that was not read to its end: it is a read transaction.
        try:
            if has_changed(connection._conn, baseline.baseline.session):
                return CHANGED
            in_doubt = (
                baseline.unfinished > 0 or baseline.reading or connection.in_transaction
            )
        except (ValueError, sqlite3.ProgrammingError):
            return CLOSED
        return OPEN if in_doubt else CLEAN

    async def reset(self, connection: aiosqlite.Connection, mode: ResetMode, /) -> None:
        # Queued behind whatever the connection's thread is still doing.
        statements: Any = connection._execute
        unfinished = isinstance(statements, Statements) and statements.unfinished
        work = statements(end_all, connection._conn, mode)
        if unfinished:
            # Somebody gave up waiting; so nobody wants their end.
            await interrupt_until_done(connection, asyncio.ensure_future(work))
            statements.unfinished = 0  # they came before this one
        else:
            await work

    async def holds_data(self, connection: aiosqlite.Connection, /) -> Any:
        execute: Any = connection._execute
        return await execute(holds_data, connection._conn)

    async def restore(
        self, connection: aiosqlite.Connection, baseline: Statements, /
    ) -> None:
        await baseline(put_back, connection._conn, baseline.baseline)

    async def interrupt(self, connection: aiosqlite.Connection, /) -> None:
        await connection.interrupt()

    async def ping(self, connection: aiosqlite.Connection, /) -> None:
        async with connection.execute("SELECT 1"):
            pass

    def terminate(self, connection: aiosqlite.Connection, /) -> bool:
        stop(connection)
        return True

    def is_open(self, connection: aiosqlite.Connection, /) -> bool:
        try:
            connection.in_transaction  # noqa: B018  # raises on a closed connection
        except ValueError:
            return False
        return True


class Statements:
    """Takes the place of a connection's ``_execute``, which all it does goes through, and
    counts what was begun and not awaited to its end.

    Attributes:
        unfinished: so many were.
        reading: cursors that may have rows left.
        baseline: what callers started from.
        noted: the session as it was when it was last noted.
    """

    baseline: Baseline
    noted: Session | None = None

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = weakref.ref(connection)
        self.unfinished = 0
        # Cursors that may have rows left; they leave when they are garbage collected.
        self.reading: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()

    async def __call__(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        connection: Any = self._connection()
        self.unfinished += 1
        try:
            result = await type(connection)._execute(connection, function, *args, **kwargs)
        except Exception:
            self.unfinished -= 1
            raise
        self.unfinished -= 1
        self._note_cursor(function, result)
        return result

    def _note_cursor(self, function: Any, result: Any) -> None:
        """Note which cursors were not read to their ends."""
        if isinstance(result, sqlite3.Cursor):
            if result.description is not None:
                self.reading.add(result)
            else:
                self.reading.discard(result)
        elif not result or getattr(function, "__name__", "") == "fetchall":
            cursor = getattr(function, "__self__", None)
            if isinstance(cursor, sqlite3.Cursor):
                self.reading.discard(cursor)  # read to its end, or closed


async def interrupt_until_done(
    connection: aiosqlite.Connection, work: asyncio.Task[None]
) -> None:
    """Wait for what is queued last, and stop what comes before it.

    More than once, since a statement that has not begun yet can't be interrupted.
    """
    try:
        while not work.done():
            await connection.interrupt()
            await asyncio.wait({work}, timeout=INTERVAL)
    finally:
        work.cancel()
    work.result()


def stop(connection: aiosqlite.Connection) -> None:
    """Have the connection's thread close it and end, without waiting for that."""
    # stop() asks asyncio for an event loop, to tell it when all is done. The one that runs
    # may be closed by then, of which the connection's thread would complain; where none
    # runs, the main thread may be given a new one that nobody would ever close. A thread of
    # its own is given none. At the interpreter's exit no thread can be begun any more.
    if sys.is_finalizing():  # pragma: no cover  # nothing measures that: test_exit.py
        return
    thread = threading.Thread(target=connection.stop, daemon=True)
    Context().run(thread.start)


def make_daemon(connecting: Any) -> None:
    """Keep a connection that is never closed from holding up the interpreter's exit.

    Python joins every thread that isn't a daemon before it exits, and aiosqlite's ends
    only when its connection is closed. Its thread is made, but not yet started, when
    ``aiosqlite.connect()`` returns; aiosqlite before 0.22 *is* the thread.
    """
    thread = getattr(connecting, "_thread", connecting)
    if not thread.is_alive():
        thread.daemon = True
