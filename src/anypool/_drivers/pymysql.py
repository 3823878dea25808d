"""PyMySQL: MySQL's and MariaDB's protocol in Python, blocking."""

from __future__ import annotations

import time
from contextlib import suppress

import pymysql.connections

from .._core.driver import CLOSED, CannotReset, ConnectionState
from .._core.resetmode import ResetMode
from . import mysql
from .dbapi import DBAPIDriver
from .mysql_commands import Answers, Baseline, Commands, is_answer, watch
from .transports import shut_down

Connection = pymysql.connections.Connection

_SETTINGS = (
    "charset",
    "collation",
    "encoding",
    "use_unicode",
    "sql_mode",
    "init_command",
    "db",
    "autocommit_mode",
    "cursorclass",
    "encoders",
    "decoders",
    "max_allowed_packet",
    "_read_timeout",
    "_write_timeout",
    "_local_infile",
)


class PyMySQLDriver(DBAPIDriver):
    """Goes by the server's status flags, where these are known for certain.

    PyMySQL has no lock, and while another thread is in the middle of a call, its
    connection can't be put right.
    """

    def baseline(self, connection: Connection, /) -> Baseline:
        return watch(connection, Commands, Answers, _SETTINGS)

    def state(self, connection: Connection, baseline: Baseline, /) -> ConnectionState:
        if connection._sock is None:
            return CLOSED
        return mysql.state_of(connection, baseline)

    def reset(self, connection: Connection, mode: ResetMode, /) -> None:
        mysql.check_not_prepared(connection)
        for statement in mysql.two_phase_ends(connection):
            with suppress(connection.Error):
                connection.query(statement)
        if mode != "full":
            getattr(connection, mode)()
            return
        connection._execute_command(mysql.COM_RESET_CONNECTION, b"")
        connection._read_ok_packet()
        mysql.put_back(connection)
        sql_mode = connection.sql_mode
        quoted = None if sql_mode is None else connection.escape(sql_mode)
        for statement in mysql.session_settings(connection, quoted):
            connection.query(statement)
        mysql.check_database(connection)

    def restore(self, connection: Connection, baseline: Baseline, /) -> None:
        connection.autocommit(bool(baseline.status))
        connection.autocommit_mode = baseline.autocommit_mode

    def interrupt(self, connection: Connection, /) -> None:
        # Rows of an unbuffered cursor: an interrupt (Ctrl-C) may have come in the middle
        # of one of them. Of further results it would be known.
        if mysql.is_running(connection) or mysql.is_unbuffered(connection):
            raise CannotReset
        _read_rest(connection)

    def interrupt_thread(self, connection: Connection, /) -> None:
        """In place of interrupt(), while some thread is in the middle of something."""
        raise CannotReset

    def ping(self, connection: Connection, /) -> None:
        connection.ping(reconnect=False)

    def close(self, connection: Connection, /) -> None:
        if connection.open:
            # Another thread that waits for an answer holds the lock of the socket's
            # buffer, which close() needs as well: wake it. It may also be sending, and a
            # goodbye would have to wait for that.
            socket = connection._sock
            if not mysql.is_busy(connection):
                connection._write_bytes(mysql.QUIT)
            shut_down(socket.fileno())
        mysql.forget_rest(connection)
        connection._force_close()

    def terminate(self, connection: Connection, /) -> bool:
        if connection.open:
            shut_down(connection._sock.fileno())
        mysql.forget_rest(connection)
        connection._force_close()
        return True

    def is_open(self, connection: Connection, /) -> bool:
        return connection.open

    def is_disconnect(self, error: BaseException, connection: Connection, /) -> bool:
        return mysql.is_lost(error, connection, closed=not connection.open)


def _read_rest(connection: Connection) -> None:
    """What mysql.read_rest() does for async connections."""
    limit, deadline = connection._read_timeout, time.monotonic() + mysql.REST_TIMEOUT
    connection._read_timeout = min(limit or mysql.REST_TIMEOUT, mysql.REST_TIMEOUT)
    try:
        while mysql.has_rest(connection):
            if time.monotonic() > deadline:
                raise CannotReset
            result = connection._result
            if not result.unbuffered_active:
                connection.next_result(unbuffered=True)
            elif result._check_packet_is_eof(connection._read_packet()):
                result.unbuffered_active, result.connection = False, None
    except connection.Error as error:
        if not is_answer(error):
            raise
    finally:
        connection._read_timeout = limit
