"""sqlite3, of the standard library."""

from __future__ import annotations

import gc
import sqlite3
import sys
from contextlib import suppress
from typing import Any

from .._core.driver import CHANGED, CLEAN, CLOSED, OPEN, ConnectionState
from .._core.errors import InvalidRequestError
from .._core.resetmode import ResetMode
from .dbapi import DBAPIDriver
from .sqlite_session import Session, bring_back, holds_data, look_at


class Baseline:
    """What callers may change on the client's side.

    Attributes:
        session: the isolation level; from Python 3.12 on, autocommit as well.
        row_factory: what makes rows.
        text_factory: what makes texts.
        references: how many there are to the connection while nobody has a cursor.
        noted: the database's part of the session, where a full reset has to know it.
    """

    noted: Session | None = None

    def __init__(self, connection: sqlite3.Connection, references: int) -> None:
        self.session = session_of(connection)
        self.row_factory = connection.row_factory
        self.text_factory = connection.text_factory
        self.references = references


def session_of(connection: sqlite3.Connection) -> tuple[Any, ...]:
    level = connection.isolation_level  # which raises if the connection is closed
    try:
        return level, getattr(connection, "autocommit", None)
    except sqlite3.ProgrammingError:
        # Python 3.12 tells that to the connection's own thread alone, which aiosqlite has
        # for each. Nor can anybody else change it.
        return level, None


def has_changed(connection: sqlite3.Connection, session: tuple[Any, ...]) -> bool:
    """Tell whether a caller has changed what session_of() said."""
    level, autocommit = session
    if connection.isolation_level != level:
        return True
    try:
        return (
            autocommit is not None and getattr(connection, "autocommit", None) != autocommit
        )
    except sqlite3.ProgrammingError:  # another thread's
        return False


class SQLiteDriver(DBAPIDriver):
    """sqlite3 tells whether a transaction is open, so that idle returns cost little."""

    def baseline(self, connection: sqlite3.Connection, /) -> Baseline:
        # An async pool asks in the thread of its loop, and connects in another one.
        if is_of_other_thread(connection):
            raise InvalidRequestError(_CURE)
        references = sys.getrefcount(connection)  # before there is one more, in a call
        return Baseline(connection, references)

    def note_session(
        self, connection: sqlite3.Connection, baseline: Baseline, first: Baseline | None, /
    ) -> None:
        baseline.noted = look_at(connection, first.noted if first else None)

    def state(self, connection: sqlite3.Connection, baseline: Any, /) -> ConnectionState:
        # Each cursor refers to its connection; so does its user's variable. Where nothing
        # else does, there is no cursor that could be half read.
        reading = sys.getrefcount(connection) > baseline.references + 1 and is_reading(
            connection
        )
        try:
            if has_changed(connection, baseline.session):
                return CHANGED
            return OPEN if reading or connection.in_transaction else CLEAN
        except sqlite3.ProgrammingError:
            return CLOSED

    def reset(self, connection: sqlite3.Connection, mode: ResetMode, /) -> None:
        end_all(connection, mode)

    def holds_data(self, connection: sqlite3.Connection, /) -> Any:
        return holds_data(connection)

    def restore(self, connection: sqlite3.Connection, baseline: Baseline, /) -> None:
        put_back(connection, baseline)

    def interrupt(self, connection: sqlite3.Connection, /) -> None:
        connection.interrupt()

    def ping(self, connection: sqlite3.Connection, /) -> None:
        connection.execute("SELECT 1")

    def close(self, connection: sqlite3.Connection, /) -> None:
        if is_of_other_thread(connection):
            # The one thing that no thread is refused: it closes what was open.
            sqlite3.Connection.__init__(connection, ":memory:", check_same_thread=False)
        elif self.is_open(connection) and connection.in_transaction:
            # SQLite only closes a connection when all of its statements are gone; without
            # the GIL, those of other threads stay until these threads go on, which perhaps
            # wait for the locks of this very transaction.
            with suppress(sqlite3.Error):
                end_transaction(connection, "rollback")
        connection.close()

    def terminate(self, connection: sqlite3.Connection, /) -> bool:
        self.close(connection)
        return True

    def is_disconnect(self, error: BaseException, connection: Any, /) -> bool:
        if isinstance(error, sqlite3.ProgrammingError) and is_of_other_thread(connection):
            error.add_note(_CURE)
        return super().is_disconnect(error, connection)

    def is_open(self, connection: sqlite3.Connection, /) -> bool:
        try:
            connection.in_transaction  # noqa: B018  # raises on a closed connection
        except sqlite3.ProgrammingError:
            return False
        return True


_CURE = (
    "anypool: a pool hands connections from thread to thread. Connect with "
    "sqlite3.connect(..., check_same_thread=False), which is safe, since a connection has "
    "one user at a time; or, in blocking code, use sync.SingletonThreadPool"
)


def is_of_other_thread(connection: sqlite3.Connection) -> bool:
    """Tell whether sqlite3 refuses this thread the use of a connection."""
    try:
        connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
    except sqlite3.ProgrammingError as error:
        return "same thread" in str(error)
    return False


def end_all(connection: sqlite3.Connection, mode: ResetMode) -> None:
    """End what is open: half-read cursors, and the transaction."""
    if is_of_other_thread(connection):
        raise InvalidRequestError(_CURE)
    if is_reading(connection):
        close_cursors(connection)
    end_transaction(connection, "rollback" if mode == "full" else mode)


def is_reading(connection: sqlite3.Connection) -> bool:
    """Tell whether some cursor was left half read: a read transaction, which SQLite doesn't
    call one.

    Until the last such statement has ended, an interrupt hits all that are begun.
    """
    try:
        connection.interrupt()
        connection.execute("SELECT NULL").close()
    except sqlite3.OperationalError:
        return True
    except sqlite3.ProgrammingError:  # closed, or of another thread; others will say so
        return False
    return False


def close_cursors(connection: sqlite3.Connection) -> None:
    """Close all cursors, wherever they are: closing the connection would not end them."""
    for each in gc.get_referrers(connection):
        if isinstance(each, _CURSORS):
            each.close()


_CURSORS = (sqlite3.Cursor, sqlite3.Blob)


def put_back(connection: sqlite3.Connection, baseline: Baseline) -> None:
    """Put back what a caller has changed: in Python's part of a connection, and in the
    database's where that was noted."""
    if baseline.noted is not None:
        bring_back(connection, baseline.noted)
    isolation_level, autocommit = baseline.session
    if connection.isolation_level != isolation_level:
        connection.isolation_level = isolation_level
    known = autocommit is not None
    if known and getattr(connection, "autocommit", None) != autocommit:
        setattr(connection, "autocommit", autocommit)  # noqa: B010  # Python 3.12
    connection.row_factory = baseline.row_factory
    connection.text_factory = baseline.text_factory


def end_transaction(connection: sqlite3.Connection, mode: str) -> None:
    """Roll back or commit, in every transaction mode of sqlite3."""
    # With autocommit=True (Python 3.12), rollback() and commit() do nothing, and an
    # explicit BEGIN is the user's own: it takes an explicit statement to end it.
    if getattr(connection, "autocommit", None) is not True:
        getattr(connection, mode)()
    elif connection.in_transaction:
        connection.execute(mode)
