"""aiosqlite: sqlite3 in a thread of its own, behind coroutines."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import aiosqlite

from .._core.options import ResetMode
from .coroutine import CoroutineDriver
from .sqlite3 import end_transaction, reset_session


class AiosqliteDriver(CoroutineDriver):
    """Looks at sqlite3's own state, so that idle returns cost no thread hop."""

    def needs_reset(self, connection: aiosqlite.Connection, /) -> bool:
        # A statement whose caller was cancelled may still be running or queued in the
        # connection's thread, and begin a transaction after this look. The pool passes
        # such returns to interrupt() and reset() without asking.
        try:
            return connection.in_transaction
        except ValueError:  # it is closed; reset() will say so
            return True

    async def reset(self, connection: aiosqlite.Connection, mode: ResetMode, /) -> None:
        # Queued behind whatever the connection's thread is still doing.
        if mode == "full":
            await connection._execute(reset_session, connection._conn)
        else:
            await connection._execute(end_transaction, connection._conn, mode)

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


def stop(connection: aiosqlite.Connection) -> None:
    """Have the connection's thread close it and end, without waiting for that."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # stop() asks asyncio for an event loop, which the main thread may then be given:
        # a new one that nobody would ever close. A thread of its own is given none.
        threading.Thread(target=connection.stop, daemon=True).start()
    else:
        connection.stop()


def make_daemon(connecting: Any) -> None:
    """Keep a connection that is never closed from holding up the interpreter's exit.

    Python joins every thread that isn't a daemon before it exits, and aiosqlite's ends
    only when its connection is closed. Its thread is made, but not yet started, when
    ``aiosqlite.connect()`` returns; aiosqlite before 0.22 *is* the thread.
    """
    thread = getattr(connecting, "_thread", connecting)
    if not thread.is_alive():
        thread.daemon = True
