"""psycopg2: a DB-API driver that tells the state of the transaction."""

from __future__ import annotations

from typing import Any

from psycopg2.extensions import (
    TRANSACTION_STATUS_ACTIVE,
    TRANSACTION_STATUS_IDLE,
    connection,
)

from .._core.options import ResetMode
from .dbapi import DBAPIDriver
from .protocol import CLEAN, CLOSED, OPEN, CannotReset, ConnectionState
from .transports import shut_down


class Psycopg2Driver(DBAPIDriver):
    """libpq keeps the transaction's state, as the server reported it last."""

    def state(self, connection: connection, baseline: Any, /) -> ConnectionState:
        if connection.get_transaction_status() == TRANSACTION_STATUS_IDLE:
            return CLEAN
        return CLOSED if connection.closed else OPEN

    def reset(self, connection: connection, mode: ResetMode, /) -> None:
        method = "commit" if mode == "commit" else "rollback"
        getattr(connection, method)()
        if self.state(connection, None) is not CLEAN:
            # With autocommit, its methods do nothing, even if there was a BEGIN.
            with connection.cursor() as cursor:
                cursor.execute(method)
        if mode == "full":
            autocommit = connection.autocommit
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("DISCARD ALL")
            connection.autocommit = autocommit

    def interrupt(self, connection: connection, /) -> None:
        # Its cancel() waits for the server with the GIL held, and all threads with it.
        if connection.get_transaction_status() == TRANSACTION_STATUS_ACTIVE:
            raise CannotReset

    def close(self, connection: connection, /) -> None:
        # close() would wait for a statement that another thread is still running.
        if connection.get_transaction_status() == TRANSACTION_STATUS_ACTIVE:
            shut_down(connection.fileno())
        else:
            connection.close()

    def terminate(self, connection: connection, /) -> bool:
        self.close(connection)
        return True
