"""PyMySQL: MySQL's and MariaDB's protocol in Python, blocking."""

from __future__ import annotations

from typing import Any

import pymysql.connections

from .._core.options import ResetMode
from . import mysql
from .dbapi import DBAPIDriver
from .losses import means_lost
from .protocol import CLEAN, CLOSED, OPEN, ConnectionState
from .transports import shut_down

Connection = pymysql.connections.Connection


class PyMySQLDriver(DBAPIDriver):
    """Goes by the server's status flags, where these are known for certain.

    PyMySQL has no lock: while another thread is in the middle of a call, its connection
    can't be put right. So interrupt() refuses, as it does for DB-API drivers in general.
    """

    def baseline(self, connection: Connection, /) -> Any:
        mysql.watch(connection, mysql.Commands)

    def state(self, connection: Connection, baseline: Any, /) -> ConnectionState:
        if not connection.open:
            return CLOSED
        return OPEN if mysql.needs_reset(connection) else CLEAN

    def reset(self, connection: Connection, mode: ResetMode, /) -> None:
        mysql.check_unread(connection)
        if mode != "full":
            getattr(connection, mode)()
            return
        connection._execute_command(mysql.COM_RESET_CONNECTION, b"")
        connection._read_ok_packet()
        sql_mode = connection.sql_mode and connection.escape(connection.sql_mode)
        for statement in mysql.session_settings(connection, sql_mode):
            connection.query(statement)
        mysql.check_database(connection)
        if connection.autocommit_mode is not None:
            connection.autocommit(connection.autocommit_mode)

    def ping(self, connection: Connection, /) -> None:
        connection.ping(reconnect=False)

    def close(self, connection: Connection, /) -> None:
        if connection.open:
            # Another thread that waits for an answer holds the lock of the socket's
            # buffer, which close() needs as well: wake it.
            socket = connection._sock
            connection._write_bytes(mysql.QUIT)
            shut_down(socket.fileno())
        connection._force_close()

    def terminate(self, connection: Connection, /) -> bool:
        if connection.open:
            shut_down(connection._sock.fileno())
        connection._force_close()
        return True

    def is_open(self, connection: Connection, /) -> bool:
        return connection.open

    def is_disconnect(self, error: BaseException, connection: Connection, /) -> bool:
        return means_lost(error, connection, closed=not connection.open)
