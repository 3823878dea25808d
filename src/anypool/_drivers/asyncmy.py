"""asyncmy: a relative of aiomysql in Cython."""

from __future__ import annotations

from typing import Any

from .._core.driver import BUSY, CLOSED, OPEN, ConnectionState
from . import mysql
from .mysql_async import AsyncMySQLDriver
from .mysql_commands import Baseline
from .transports import hang_up


class AsyncmyDriver(AsyncMySQLDriver):
    """Says where asyncmy keeps what."""

    settings = (
        "_charset",
        "_encoding",
        "_use_unicode",
        "_sql_mode",
        "_init_command",
        "_db",
        "autocommit_mode",
        "_cursor_cls",
        "_encoders",
        "_decoders",
        "_max_allowed_packet",
        "_read_timeout",
        "_local_infile",
        "_echo",
        "_query_callback",
        "_binary_prefix",
        "_stmt_cache_size",
    )

    def state(self, connection: Any, baseline: Baseline, /) -> ConnectionState:
        if not connection._connected:
            return CLOSED
        state = mysql.state_of(connection, baseline)
        if (
            state is BUSY
            and mysql.is_binary(connection)
            and not self._is_reading(connection)
        ):
            return OPEN  # an error, for one: prepared statements are read in another way
        return state

    def is_waiting(self, connection: Any, /) -> bool:
        return connection._proto._read_waiter is not None

    def _is_reading(self, connection: Any) -> bool:
        protocol = connection._proto
        return (
            self.is_waiting(connection)
            or protocol.length != protocol.pos
            or connection._next_seq_id == 1  # it has been asked, and nothing came
        )

    def forget_statements(self, connection: Any, /) -> None:
        connection._stmt_cache.clear()

    def terminate(self, connection: Any, /) -> bool:
        if connection.connected:
            hang_up(connection.loop, connection._transport, connection.close)
        return True

    def is_open(self, connection: Any, /) -> bool:
        return bool(connection.connected)

    def is_disconnect(self, error: BaseException, connection: Any, /) -> bool:
        return mysql.is_lost(error, connection, closed=not connection.connected)
