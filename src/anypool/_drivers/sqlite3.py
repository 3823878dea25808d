"""sqlite3, of the standard library."""

from __future__ import annotations

import sqlite3
from typing import Any

from .._core.options import ResetMode
from .dbapi import DBAPIDriver
from .protocol import CLEAN, CLOSED, OPEN, ConnectionState


class SQLiteDriver(DBAPIDriver):
    """sqlite3 tells whether a transaction is open, so that idle returns cost nothing."""

    def state(self, connection: sqlite3.Connection, baseline: Any, /) -> ConnectionState:
        try:
            return OPEN if connection.in_transaction else CLEAN
        except sqlite3.ProgrammingError:
            return CLOSED

    def reset(self, connection: sqlite3.Connection, mode: ResetMode, /) -> None:
        if mode == "full":
            reset_session(connection)
        else:
            end_transaction(connection, mode)

    def interrupt(self, connection: sqlite3.Connection, /) -> None:
        connection.interrupt()

    def ping(self, connection: sqlite3.Connection, /) -> None:
        connection.execute("SELECT 1")

    def is_open(self, connection: sqlite3.Connection, /) -> bool:
        try:
            connection.in_transaction  # noqa: B018  # raises on a closed connection
        except sqlite3.ProgrammingError:
            return False
        return True


def end_transaction(connection: sqlite3.Connection, mode: str) -> None:
    """Roll back or commit, in every transaction mode of sqlite3."""
    # With autocommit=True (Python 3.12), rollback() and commit() do nothing, and an
    # explicit BEGIN is the user's own: it takes an explicit statement to end it.
    if getattr(connection, "autocommit", None) is not True:
        getattr(connection, mode)()
    elif connection.in_transaction:
        connection.execute(mode)


def reset_session(connection: sqlite3.Connection) -> None:
    """Roll back, drop what is temporary, and detach what was attached."""
    end_transaction(connection, "rollback")
    cursor = connection.cursor()
    cursor.row_factory = None  # the connection's own could make anything of a row
    temporary = cursor.execute(
        "SELECT type, name FROM sqlite_temp_master "
        "WHERE type IN ('table', 'view', 'trigger') "
        "AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    ).fetchall()
    for kind, name in temporary:
        # A table takes its triggers with it.
        cursor.execute(f"DROP {kind} IF EXISTS temp.{_quoted(name)}")
    for _, name, _ in cursor.execute("PRAGMA database_list").fetchall():
        if name not in ("main", "temp"):
            cursor.execute(f"DETACH {_quoted(name)}")
    connection.commit()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
