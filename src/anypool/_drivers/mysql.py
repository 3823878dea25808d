"""What PyMySQL and its async descendants, aiomysql and asyncmy, have in common.

They are one code base at heart, and keep what the server says in the same places.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

from .protocol import CannotReset

COM_RESET_CONNECTION = 0x1F  # MySQL 5.7.3, MariaDB 10.2.4

QUIT = b"\x01\x00\x00\x00\x01"
"""The packet that says goodbye: a length of 1, number 0, COM_QUIT."""

_IN_TRANSACTION = 0x0001
_AUTOCOMMIT = 0x0002


_UNANSWERED = 0x1000000
"""Set among the status flags, beyond those of the protocol, by Commands."""


class Commands:
    """Takes the place of a connection's ``_execute_command``, which all commands go
    through.

    These drivers note the status flags of some answers, but not of rows, nor do errors have
    any. So each command marks the flags that are there as those of an earlier one; an
    answer that brings new ones takes the mark away.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = weakref.ref(connection)

    def __call__(self, *args: Any) -> Any:
        connection: Any = self._connection()
        try:
            return type(connection)._execute_command(connection, *args)
        finally:
            connection.server_status |= _UNANSWERED


class AsyncCommands(Commands):
    """The same for a coroutine method."""

    async def __call__(self, *args: Any) -> Any:
        connection: Any = self._connection()
        try:
            return await type(connection)._execute_command(connection, *args)
        finally:
            connection.server_status |= _UNANSWERED


def watch(connection: Any, commands: type[Commands]) -> None:
    """Have the commands of a connection watched from now on."""
    attributes = vars(connection)
    if not isinstance(attributes.get("_execute_command"), Commands):
        attributes["_execute_command"] = commands(connection)


def needs_reset(connection: Any) -> bool:
    """Tell whether a transaction may be open, by the status flags that the server sent.

    With autocommit on, rows don't open one. Otherwise, nothing is known after rows (which
    hold a snapshot), and after an error never.

    The connection's commands have to be watched.
    """
    # What the last command brought, unless that was an error, or for the driver's own use.
    result = connection._result
    status: int = connection.server_status
    has_rows = False
    if result is not None:
        if result.unbuffered_active or result.has_next:
            return True
        has_rows = result.description is not None
        if not has_rows:
            status = result.server_status
        elif not result.server_status:
            status |= _UNANSWERED  # those of another result of the same command
    if status & _UNANSWERED and not (has_rows and status & _AUTOCOMMIT):
        return True
    return bool(status & _IN_TRANSACTION)


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
