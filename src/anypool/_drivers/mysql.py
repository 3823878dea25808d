"""What PyMySQL and its async descendants, aiomysql and asyncmy, have in common.

They are one code base at heart, and keep what the server says in the same places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .protocol import CannotReset

COM_RESET_CONNECTION = 0x1F  # MySQL 5.7.3, MariaDB 10.2.4

QUIT = b"\x01\x00\x00\x00\x01"
"""The packet that says goodbye: a length of 1, number 0, COM_QUIT."""

_IN_TRANSACTION = 0x0001
_AUTOCOMMIT = 0x0002


def needs_reset(connection: Any) -> bool:
    """Look at the status flags that the server sent last.

    It sends them with every answer, but these drivers only note them when the answer is
    neither rows nor an error. With autocommit off, any statement could have opened a
    transaction without their knowing; so the flags can be trusted only where it is on.
    """
    status: int = connection.server_status
    if status & _IN_TRANSACTION or not status & _AUTOCOMMIT:
        return True
    result = connection._result
    return result is not None and bool(result.unbuffered_active or result.has_next)


def check_unread(connection: Any) -> None:
    """Refuse a connection whose unbuffered cursor was left before its end.

    There may be millions of rows still to come: a new connection takes less time.
    """
    result = connection._result
    if result is not None and result.unbuffered_active:
        raise CannotReset


def session_settings(connection: Any, sql_mode: str | None) -> Iterator[str]:
    """Say once more what the driver says to the server when it connects.

    After COM_RESET_CONNECTION, the server's own defaults hold; only the current database
    stays what the last caller made it. Autocommit is left to the driver's own method,
    which takes note of the answer.

    Args:
        connection: the connection.
        sql_mode: what comes after "SET sql_mode=", if anything.
    """
    names = f"SET NAMES {_setting(connection, 'charset')}"
    collation = _setting(connection, "collation")
    yield f"{names} COLLATE {collation}" if collation else names
    if sql_mode:
        yield f"SET sql_mode={sql_mode}"
    init_command = _setting(connection, "init_command")
    if init_command:
        yield init_command
    database = _setting(connection, "db")
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


def _setting(connection: Any, name: str) -> Any:
    # asyncmy's are private.
    return getattr(connection, name, None) or getattr(connection, f"_{name}", None)
