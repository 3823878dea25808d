"""aiomysql: PyMySQL on asyncio's streams."""

from __future__ import annotations

import aiomysql

from .._core.driver import CLOSED, ConnectionState
from . import mysql
from .mysql_async import AsyncMySQLDriver
from .mysql_commands import Baseline
from .transports import hang_up


class AiomysqlDriver(AsyncMySQLDriver):
    """Says where aiomysql keeps what."""

    settings = (
        "_charset",
        "_encoding",
        "use_unicode",
        "sql_mode",
        "init_command",
        "_db",
        "autocommit_mode",
        "cursorclass",
        "encoders",
        "decoders",
        "_local_infile",
        "_echo",
    )

    def state(
        self, connection: aiomysql.Connection, baseline: Baseline, /
    ) -> ConnectionState:
        if connection._writer is None:
            return CLOSED
        return mysql.state_of(connection, baseline)

    def is_waiting(self, connection: aiomysql.Connection, /) -> bool:
        reader = connection._reader
        return reader is not None and reader._waiter is not None

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
        return mysql.is_lost(error, connection, "pymysql", closed=connection.closed)
