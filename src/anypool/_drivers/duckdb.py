"""DuckDB: a DB-API driver that takes a rollback for an error if there is nothing open."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import duckdb

from .._core.driver import BUSY, CLOSED, OPEN, CannotReset, ConnectionState
from .._core.resetmode import ResetMode
from .dbapi import DBAPIDriver
from .duckdb_session import Baseline, bring_back, look_at

PATIENCE = 0.5
"""Seconds that an interrupted statement may take to end."""

INTERVAL = 0.001
"""Seconds between two looks whether it has ended."""


class DuckDBDriver(DBAPIDriver):
    """An embedded database: a rollback costs no round trip."""

    def baseline(self, connection: duckdb.DuckDBPyConnection, /) -> Baseline:
        return Baseline()

    def note_session(
        self,
        connection: duckdb.DuckDBPyConnection,
        baseline: Baseline,
        first: Baseline | None,
        /,
    ) -> None:
        if _in_memory(connection):
            baseline.session = look_at(connection, first.session if first else None)

    def holds_data(self, connection: duckdb.DuckDBPyConnection, /) -> Any:
        if not _in_memory(connection):
            return False
        filled, number = connection.execute(_QUESTION).fetchall()[0]
        # Transactions of one database have different numbers; those of two, both new, the
        # same.
        return True if filled else ("transaction", number)

    def state(
        self, connection: duckdb.DuckDBPyConnection, baseline: Any, /
    ) -> ConnectionState:
        # Whether a transaction is open can't be seen.
        if _is_busy(connection):
            return BUSY
        return OPEN if self.is_open(connection) else CLOSED

    def reset(self, connection: duckdb.DuckDBPyConnection, mode: ResetMode, /) -> None:
        # First: a rollback waits for what another thread does, if it doesn't refuse.
        self.interrupt(connection)
        if mode == "full" and not _in_memory(connection):
            raise CannotReset  # to open a file once more is quicker
        if mode == "commit":
            with suppress(duckdb.TransactionException):  # no transaction was open
                connection.commit()
        # It takes with it a result that was not read to its end; a commit does not.
        with suppress(duckdb.TransactionException):
            connection.rollback()

    def restore(self, connection: duckdb.DuckDBPyConnection, baseline: Baseline, /) -> None:
        if baseline.session is not None:
            bring_back(connection, baseline.session)

    def interrupt(self, connection: duckdb.DuckDBPyConnection, /) -> None:
        connection.interrupt()  # in any case: an older DuckDB doesn't tell if it is busy
        if _is_busy(connection):
            time.sleep(INTERVAL)
        _patiently(connection, lambda: _is_busy(connection))

    def ping(self, connection: duckdb.DuckDBPyConnection, /) -> None:
        connection.execute("SELECT 1").fetchall()

    def close(self, connection: duckdb.DuckDBPyConnection, /) -> None:
        _patiently(connection, lambda: not _close(connection))

    def terminate(self, connection: duckdb.DuckDBPyConnection, /) -> bool:
        if not _close(connection):
            connection.interrupt()  # whoever uses it has the last reference then
        return True

    def is_open(self, connection: duckdb.DuckDBPyConnection, /) -> bool:
        # DuckDB before 1.4 doesn't tell.
        look = getattr(connection, "query_progress", bool)
        try:
            look()
        except duckdb.ConnectionException:
            return False
        return True


_QUESTION = """
SELECT (SELECT count(*) FROM duckdb_tables() WHERE NOT internal)
    + (SELECT count(*) FROM duckdb_views() WHERE NOT internal), txid_current()
"""


_TELLS = hasattr(duckdb, "ResourceInUseException")
_IN_USE: Any = getattr(duckdb, "ResourceInUseException", ())


def _in_memory(connection: duckdb.DuckDBPyConnection) -> bool:
    question = (
        "SELECT path IS NULL FROM duckdb_databases() "
        "WHERE database_name = current_database()"
    )
    return connection.execute(question).fetchall() == [(True,)]


def _is_busy(connection: duckdb.DuckDBPyConnection) -> bool:
    """Tell whether another thread is in a call of the connection.

    DuckDB before 2.0 doesn't tell, and has whoever asks for more wait for its end. In 2.0,
    ``rowcount`` and ``description`` would tell, but may wait for the other thread without
    letting go of the GIL, which that one waits for: a deadlock.
    """
    if not _TELLS:
        return False
    try:
        connection.extract_statements("")
    except _IN_USE:
        return True
    except duckdb.Error:  # closed
        return False
    return False


def _close(connection: duckdb.DuckDBPyConnection) -> bool:
    """Close the connection; False if another thread is in a call of it."""
    try:
        connection.close()
    except _IN_USE:
        return False
    return True


def _patiently(
    connection: duckdb.DuckDBPyConnection, is_in_the_way: Callable[[], bool]
) -> None:
    """Wait for the end of what another thread does, and stop it.

    More than once, since a statement that has not begun yet can't be interrupted.

    Raises:
        CannotReset: it doesn't end.
    """
    end = time.monotonic() + PATIENCE
    while is_in_the_way():
        if time.monotonic() > end:
            raise CannotReset
        connection.interrupt()
        time.sleep(INTERVAL)
