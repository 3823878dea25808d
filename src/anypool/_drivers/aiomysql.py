"""aiomysql: PyMySQL on asyncio's streams."""

from __future__ import annotations

from typing import Any

import aiomysql

from .._core.options import ResetMode
from . import mysql
from .coroutine import CoroutineDriver
from .losses import means_lost
from .protocol import CLEAN, CLOSED, OPEN, ConnectionState
from .transports import hang_up


class AiomysqlDriver(CoroutineDriver):
    """Goes by the server's status flags, where these are known for certain."""

    def baseline(self, connection: aiomysql.Connection, /) -> Any:
        mysql.watch(connection, mysql.AsyncCommands)

    def state(self, connection: aiomysql.Connection, baseline: Any, /) -> ConnectionState:
        if connection.closed:
            return CLOSED
        return OPEN if mysql.needs_reset(connection) else CLEAN

    async def reset(self, connection: aiomysql.Connection, mode: ResetMode, /) -> None:
        mysql.check_unread(connection)
        if mode != "full":
            await getattr(connection, mode)()
            return
        await connection._execute_command(mysql.COM_RESET_CONNECTION, b"")
        await connection._read_ok_packet()
        for statement in mysql.session_settings(connection, connection.sql_mode):
            await connection.query(statement)
        mysql.check_database(connection)
        if connection.autocommit_mode is not None:
            await connection.autocommit(connection.autocommit_mode)

    async def interrupt(self, connection: aiomysql.Connection, /) -> None:
        # Where a statement's caller was cancelled, aiomysql has closed the connection
        # there and then, since the answer is still to come. Then the reset raises.
        return

    async def ping(self, connection: aiomysql.Connection, /) -> None:
        await connection.ping(reconnect=False)

    async def close(self, connection: aiomysql.Connection, /) -> None:
        try:
            await connection.ensure_closed()  # with a goodbye to the server
        finally:
            connection.close()

    def terminate(self, connection: aiomysql.Connection, /) -> bool:
        if not connection.closed:
            hang_up(connection.loop, connection._writer.transport, connection.close)
        return True

    def is_open(self, connection: aiomysql.Connection, /) -> bool:
        return not connection.closed

    def is_disconnect(
        self, error: BaseException, connection: aiomysql.Connection, /
    ) -> bool:
        # The errors are PyMySQL's.
        return means_lost(error, connection, "pymysql", closed=connection.closed)
