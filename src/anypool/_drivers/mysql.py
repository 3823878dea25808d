"""What PyMySQL and its async descendants, aiomysql and asyncmy, have in common.

They are one code base at heart, and keep what the server says in the same places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .._core.driver import (
    BUSY,
    CHANGED,
    CLEAN,
    OPEN,
    TWO_PHASE,
    CannotReset,
    ConnectionState,
)
from .losses import means_lost, mysql_number
from .mysql_commands import (
    AUTOCOMMIT,
    IN_TRANSACTION,
    PREPARED,
    RUNNING,
    SENT,
    UNANSWERED,
    Baseline,
    baseline_of,
    watched,
)

COM_RESET_CONNECTION = 0x1F  # MySQL 5.7.3, MariaDB 10.2.4

QUIT = b"\x01\x00\x00\x00\x01"
"""The packet that says goodbye: a length of 1, number 0, COM_QUIT."""

REST_TIMEOUT = 0.5
"""Seconds for reading what a caller has left unread. Who leaves more than that comes in
that time, loses the connection: a new one takes less."""

_LOOKED_AT = SENT | IN_TRANSACTION | AUTOCOMMIT

_BINARY = (0x17, 0xFA)
"""Commands that execute prepared statements, the second one MariaDB's."""

_READ_ONLY_TRANSACTION = 1792


def state_of(connection: Any, baseline: Baseline) -> ConnectionState:
    """Tell an open connection's state, by the status flags that the server sent.

    With autocommit on, rows don't open a transaction. Otherwise, nothing is known after
    rows (which hold a snapshot), and after an error never.
    """
    status: int = connection.server_status & _LOOKED_AT
    result = connection._result
    if result is not None:
        if result.unbuffered_active or result.has_next:
            return BUSY
        if result.description is None:
            # asyncmy doesn't copy flags of which none is set.
            status = result.server_status & _LOOKED_AT | status & RUNNING
        elif status & AUTOCOMMIT:
            status &= ~UNANSWERED
    if status == baseline.status:
        return CLEAN
    if status & RUNNING:
        return BUSY
    if (status ^ baseline.status) & AUTOCOMMIT:
        return CHANGED
    return OPEN if connection._execute_command.xid is None else TWO_PHASE


def is_binary(connection: Any) -> bool:
    """Tell whether the last command executed a prepared statement; then Answers don't see
    its answer."""
    return watched(connection).command in _BINARY


def forget_rest(connection: Any) -> None:
    """Before closing: let nobody try to read what is unread, not even a finalizer."""
    result = connection._result
    if result is not None:
        result.unbuffered_active = result.has_next = False


def is_busy(connection: Any) -> bool:
    """Tell whether something is under way, or left unread."""
    return is_running(connection) or has_rest(connection)


def is_running(connection: Any) -> bool:
    """Tell whether an answer has not been read to its end, other than an unbuffered one."""
    return bool(connection.server_status & RUNNING)


def is_unbuffered(connection: Any) -> bool:
    """Tell whether rows of an unbuffered cursor are still to be read."""
    result = connection._result
    return result is not None and bool(result.unbuffered_active)


def has_rest(connection: Any) -> bool:
    """Tell whether there are further results to read of what was executed last."""
    result = connection._result
    return result is not None and bool(result.has_next or result.unbuffered_active)


def check_not_prepared(connection: Any) -> None:
    """Refuse a connection with a two-phase transaction that has been prepared.

    It is its transaction manager's to decide, perhaps from another connection: the server
    lets go of it when this one is closed.
    """
    if watched(connection).xid == PREPARED:
        raise CannotReset


def two_phase_ends(connection: Any) -> Iterator[str]:
    """Return what rolls a two-phase transaction back, if there is one. Errors are for the
    reset that follows to notice."""
    xid = watched(connection).xid
    if xid is not None:
        watched(connection).xid = None
        name = xid.decode("latin-1")
        yield f"XA END {name}"
        yield f"XA ROLLBACK {name}"


def is_lost(
    error: BaseException, connection: Any, *packages: str, closed: bool = False
) -> bool:
    """What means_lost() tells; but a read-only transaction that the caller began as such
    is no failover."""
    own = getattr(connection._execute_command, "is_read_only", False)
    if own and mysql_number(error) == _READ_ONLY_TRANSACTION:
        return False
    return means_lost(error, connection, *packages, closed=closed)


def put_back(connection: Any) -> None:
    """Put back the attributes; session_settings() then tells the server."""
    for name, value in baseline_of(connection).settings.items():
        if getattr(connection, name) != value:
            setattr(connection, name, value.copy() if isinstance(value, dict) else value)


def session_settings(connection: Any, sql_mode: str | None) -> Iterator[str]:
    """Say once more what the driver says to the server when it connects.

    After COM_RESET_CONNECTION, the server's own defaults hold; only the current database
    stays what the last caller made it. Autocommit is left to ``restore``.

    Args:
        connection: the connection, with its attributes put back.
        sql_mode: what comes after "SET sql_mode=", if anything.
    """
    baseline = baseline_of(connection)
    names = f"SET NAMES {baseline.setting('charset')}"
    collation = baseline.setting("collation")
    yield f"{names} COLLATE {collation}" if collation else names
    if sql_mode is not None:
        yield f"SET sql_mode={sql_mode}"
    init_command = baseline.setting("init_command")
    if init_command:
        yield init_command
    database = baseline.setting("db")
    if database:
        text = database.decode() if isinstance(database, bytes) else database
        yield "USE `" + text.replace("`", "``") + "`"
    else:
        yield "SELECT DATABASE()"


def check_database(connection: Any) -> None:
    """After session_settings(): refuse a connection that should have no current database.

    Once one has been chosen, there is no way back to none.
    """
    result = connection._result
    if result.rows and result.rows[0][0] is not None:
        raise CannotReset
