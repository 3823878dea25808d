"""asyncpg: PostgreSQL's protocol in Cython, for asyncio."""

from __future__ import annotations

import sys
from typing import Any

import asyncpg

from .._core.options import ResetMode
from .coroutine import CoroutineDriver
from .losses import means_lost
from .protocol import BUSY, CLEAN, CLOSED, OPEN, ConnectionState
from .transports import hang_up

CLOSE_TIMEOUT = 5.0
"""Seconds that the server may take for a goodbye."""


class AsyncpgDriver(CoroutineDriver):
    """asyncpg keeps the transaction's state, as the server reported it last."""

    def baseline(self, connection: asyncpg.Connection, /) -> int:
        return _references(connection)

    def state(self, connection: asyncpg.Connection, baseline: Any, /) -> ConnectionState:
        if connection.is_closed():
            return CLOSED
        # A statement under way shows nowhere else: its future and its coroutine refer to
        # the protocol, which nothing new does otherwise.
        if _references(connection) > baseline and not connection._cancellations:
            return BUSY
        # While a cancellation is under way, what became of the statement is not known.
        in_doubt = connection.is_in_transaction() or bool(connection._cancellations)
        return OPEN if in_doubt else CLEAN

    async def reset(self, connection: asyncpg.Connection, mode: ResetMode, /) -> None:
        # asyncpg's own reset() does RESET ALL, which wipes what a connect listener has set;
        # and DISCARD ALL makes its other statements superfluous.
        if mode != "full" or connection.is_in_transaction() or connection._cancellations:
            await connection.execute("COMMIT" if mode == "commit" else "ROLLBACK")
        # A transaction object that was not ended is over now; asyncpg would make the next
        # one a savepoint inside of it.
        connection._top_xact = None
        if mode == "full":
            connection._listeners.clear()
            connection._log_listeners.clear()
            connection._query_loggers.clear()
            connection._termination_listeners.clear()
            await connection.execute("DISCARD ALL")
            await connection.reload_schema_state()  # its prepared statements are gone

    async def interrupt(self, connection: asyncpg.Connection, /) -> None:
        # When a statement's caller is cancelled, asyncpg asks the server to cancel it, and
        # has the next statement, which is the reset's, wait for its end. If some other
        # task still uses the connection, the reset raises.
        return

    async def ping(self, connection: asyncpg.Connection, /) -> None:
        await connection.execute("SELECT 1")

    async def close(self, connection: asyncpg.Connection, /) -> None:
        await connection.close(timeout=CLOSE_TIMEOUT)

    def terminate(self, connection: asyncpg.Connection, /) -> bool:
        if not connection.is_closed():
            hang_up(connection._loop, connection._transport, connection.terminate)
        return True

    def is_open(self, connection: asyncpg.Connection, /) -> bool:
        return not connection.is_closed()

    def is_disconnect(
        self, error: BaseException, connection: asyncpg.Connection, /
    ) -> bool:
        return means_lost(error, connection, closed=connection.is_closed())


def _references(connection: asyncpg.Connection) -> int:
    """Count who refers to the protocol of a connection."""
    return sys.getrefcount(connection._protocol)
