"""sqlite3, of the standard library."""

from __future__ import annotations

import sqlite3

from .._core.options import ResetMode
from .dbapi import DBAPIDriver


class SQLiteDriver(DBAPIDriver):
    """sqlite3 tells whether a transaction is open, so that idle returns cost nothing."""

    def needs_reset(self, connection: sqlite3.Connection, /) -> bool:
        return connection.in_transaction

    def reset(self, connection: sqlite3.Connection, mode: ResetMode, /) -> None:
        # With autocommit=True (Python 3.12), rollback() and commit() do nothing, and an
        # explicit BEGIN is the user's own: it takes an explicit statement to end it.
        if getattr(connection, "autocommit", None) is True:
            connection.execute(mode)
        else:
            getattr(connection, mode)()

    def ping(self, connection: sqlite3.Connection, /) -> None:
        connection.execute("SELECT 1")

    def is_open(self, connection: sqlite3.Connection, /) -> bool:
        try:
            connection.in_transaction  # noqa: B018  # raises on a closed connection
        except sqlite3.ProgrammingError:
            return False
        return True
