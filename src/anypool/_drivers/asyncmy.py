"""asyncmy: a relative of aiomysql in Cython."""

from __future__ import annotations

from typing import Any

from .._core.options import ResetMode
from . import mysql
from .coroutine import CoroutineDriver
from .losses import means_lost
from .protocol import CLEAN, CLOSED, OPEN, CannotReset, ConnectionState
from .transports import hang_up


class AsyncmyDriver(CoroutineDriver):
    """Goes by the server's status flags, where these are known for certain."""

    def baseline(self, connection: Any, /) -> Any:
        mysql.watch(connection, mysql.AsyncCommands)

    def state(self, connection: Any, baseline: Any, /) -> ConnectionState:
        if not connection.connected:
            return CLOSED
        return OPEN if mysql.needs_reset(connection) else CLEAN

    async def reset(self, connection: Any, mode: ResetMode, /) -> None:
        mysql.check_unread(connection)
        if mode != "full":
            await getattr(connection, mode)()
            return
        await connection._execute_command(mysql.COM_RESET_CONNECTION, b"")
        await connection._read_ok_packet()
        # The server has forgotten all prepared statements.
        getattr(connection, "_stmt_cache", {}).clear()
        for statement in mysql.session_settings(connection, connection._sql_mode):
            await connection.query(statement)
        mysql.check_database(connection)
        if connection.autocommit_mode is not None:
            await connection.autocommit(connection.autocommit_mode)

    async def interrupt(self, connection: Any, /) -> None:
        # As with aiomysql: cancelled in the middle of an answer, it is closed already.
        # Before 0.2.12 it was not.
        if not hasattr(connection, "_close_on_cancel"):  # pragma: no cover  # 0.2.11
            raise CannotReset

    async def ping(self, connection: Any, /) -> None:
        await connection.ping(reconnect=False)

    async def close(self, connection: Any, /) -> None:
        try:
            await connection.ensure_closed()
        finally:
            connection.close()

    def terminate(self, connection: Any, /) -> bool:
        if connection.connected:
            hang_up(connection.loop, connection._transport, connection.close)
        return True

    def is_open(self, connection: Any, /) -> bool:
        return bool(connection.connected)

    def is_disconnect(self, error: BaseException, connection: Any, /) -> bool:
        return means_lost(error, connection, closed=not connection.connected)
