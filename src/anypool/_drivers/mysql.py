"""What PyMySQL and its async descendants, aiomysql and asyncmy, have in common.

They are one code base at heart, and keep what the server says in the same places.
"""

from __future__ import annotations

import re
import weakref
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
from .losses import mysql_number

COM_RESET_CONNECTION = 0x1F  # MySQL 5.7.3, MariaDB 10.2.4

QUIT = b"\x01\x00\x00\x00\x01"
"""The packet that says goodbye: a length of 1, number 0, COM_QUIT."""

REST_TIMEOUT = 0.5
"""Seconds for reading what a caller has left unread. Who leaves more than that comes in
that time, loses the connection: a new one takes less."""

_IN_TRANSACTION = 0x0001
_AUTOCOMMIT = 0x0002

# Marks among the status flags, beyond those of the protocol. Each answer that brings new
# flags takes them away.
_UNANSWERED = 0x1000000
"""The flags are those of an earlier command."""
_RUNNING = 0x2000000
"""The last command's answer has not been read, or not to its end."""
_SENT = _UNANSWERED | _RUNNING

_LOOKED_AT = _SENT | _IN_TRANSACTION | _AUTOCOMMIT

# Closing a prepared statement, or sending it a long value, is never answered.
_NEVER_ANSWERED = (0x18, 0x19)

_BINARY = (0x17, 0xFA)
"""Commands that execute prepared statements, the second one MariaDB's."""

# How commands begin that say something of two-phase or read-only transactions.
_TELLING = {b"XA ", b"STA", b"BEG", b"COM", b"ROL"}

_XA = re.compile(
    rb"XA\s+(START|BEGIN|END|PREPARE|COMMIT|ROLLBACK)\s+([^;]+)", re.IGNORECASE
)
_READ_ONLY = re.compile(rb"START\s+TRANSACTION\b[^;]*\bREAD\s+ONLY\b", re.IGNORECASE)

_PREPARED = b""
"""In place of the name of a two-phase transaction: one that has been prepared."""

_READ_ONLY_TRANSACTION = 1792


class Baseline:
    """What callers start from.

    Attributes:
        status: of the flags and marks that tell of a caller's doing, what is set.
        autocommit_mode: the driver's own note of it; None: the server's default.
        settings: the connection's attributes that callers may change.
    """

    __slots__ = ("autocommit_mode", "settings", "status")

    def __init__(self, connection: Any, names: tuple[str, ...]) -> None:
        self.status: int = connection.server_status & _AUTOCOMMIT
        self.autocommit_mode: bool | None = connection.autocommit_mode
        self.settings: dict[str, Any] = {}
        for name in names:
            if hasattr(connection, name):  # not all are in all versions
                value = getattr(connection, name)
                # Converters are put into the very dictionary.
                self.settings[name] = value.copy() if isinstance(value, dict) else value

    def setting(self, name: str) -> Any:
        """Return what the connection was made with, in an attribute public or private."""
        return self.settings.get(name) or self.settings.get(f"_{name}")


class Commands:
    """Takes the place of a connection's ``_execute_command``, which all commands go
    through.

    These drivers note the status flags of some answers, but not of rows, nor do errors have
    any. So each command marks the flags that are there as those of an earlier one; an
    answer that brings new ones takes the mark away. Another mark tells that the answer is
    still to come: it is for Answers to take away.

    Attributes:
        baseline: what was noted of the connection.
        command: the number of the last command.
        xid: the two-phase transaction that has begun, as the statement named it.
        is_read_only: whether the transaction was begun by its user as a read-only one.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = weakref.ref(connection)
        self.baseline: Baseline | None = None
        self.command = 0
        self.xid: bytes | None = None
        self.is_read_only = False

    def __call__(self, command: int, sql: bytes | str) -> Any:
        connection: Any = self._connection()
        marks = self._begin(connection, command, sql)
        try:
            answer = type(connection)._execute_command(connection, command, sql)
            connection.server_status |= marks
        except BaseException as error:
            self._failed(connection, error)
            raise
        return answer

    def _begin(self, connection: Any, command: int, sql: bytes | str) -> int:
        # Now and once more when it is sent. That may take some time, and what was left
        # unread is read before.
        marks = _UNANSWERED if command in _NEVER_ANSWERED else _SENT
        connection.server_status |= marks
        self.command = command
        if _to_bytes(sql[:3]).upper() in _TELLING:
            self._note_transaction(_to_bytes(sql))
        return marks

    def _failed(self, connection: Any, error: BaseException) -> None:
        if isinstance(error, Exception):  # nothing was sent, or the network is gone
            connection.server_status &= ~_RUNNING
        else:
            connection.server_status |= _SENT

    def _note_transaction(self, sql: bytes) -> None:
        self.is_read_only = _READ_ONLY.match(sql) is not None
        two_phase = _XA.match(sql)
        if two_phase is not None:
            verb = two_phase[1].upper()
            if verb in (b"START", b"BEGIN"):
                self.xid = two_phase[2]
            elif verb == b"PREPARE":
                self.xid = _PREPARED
            elif verb != b"END":
                self.xid = None


class Answers:
    """Takes the place of a method that reads an answer, to see whether it gets to the end.

    An error that the server sends is an answer. Any other may leave the rest of one unread.
    """

    def __init__(self, connection: Any, name: str) -> None:
        self._connection = weakref.ref(connection)
        self._method = getattr(type(connection), name)
        # It is also called for further answers to one command.
        self._marks = _SENT if name == "_read_query_result" else 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        connection: Any = self._connection()
        connection.server_status |= self._marks
        try:
            answer = self._method(connection, *args, **kwargs)
        except connection.Error as error:
            self._failed(connection, error)
            raise
        self._done(connection)
        return answer

    def _done(self, connection: Any) -> None:
        connection.server_status &= ~_RUNNING

    def _failed(self, connection: Any, error: BaseException) -> None:
        if is_answer(error):
            self._done(connection)


_READERS = (
    "_read_query_result",
    "_read_ok_packet",
    "set_charset",
    "set_character_set",
    "show_warnings",
    "prepare",
)


def watch(
    connection: Any,
    commands: type[Commands],
    answers: type[Answers],
    names: tuple[str, ...],
) -> Baseline:
    """Have a connection watched from now on, if it isn't yet; take note of what it is like.

    Args:
        connection: the connection.
        commands: what watches its commands,
        answers: and what their answers.
        names: attributes that callers may change.
    """
    attributes = vars(connection)
    if not isinstance(attributes.get("_execute_command"), Commands):
        attributes["_execute_command"] = commands(connection)
        for name in _READERS:
            if hasattr(connection, name):
                attributes[name] = answers(connection, name)
    watched(connection).baseline = baseline = Baseline(connection, names)
    return baseline


def watched(connection: Any) -> Commands:
    """Return what watches the commands of a connection."""
    commands: Commands = connection._execute_command
    return commands


def baseline_of(connection: Any) -> Baseline:
    """Return what was noted of a connection last."""
    baseline = watched(connection).baseline
    assert baseline is not None
    return baseline


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
            status = result.server_status & _LOOKED_AT | status & _RUNNING
        elif status & _AUTOCOMMIT:
            status &= ~_UNANSWERED
    if status == baseline.status:
        return CLEAN
    if status & _RUNNING:
        return BUSY
    if (status ^ baseline.status) & _AUTOCOMMIT:
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
    return bool(connection.server_status & _RUNNING)


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
    if watched(connection).xid == _PREPARED:
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


def is_answer(error: BaseException) -> bool:
    """Tell whether an error was sent by the server; those of the client are the 2000s."""
    number = mysql_number(error)
    return number is not None and not 2000 <= number < 3000


def is_own_fault(error: BaseException, connection: Any) -> bool:
    """Tell whether an error that looks like a failover is due to a read-only transaction
    that the caller began as such."""
    own = getattr(connection._execute_command, "is_read_only", False)
    return own and mysql_number(error) == _READ_ONLY_TRANSACTION


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


def _to_bytes(sql: bytes | str) -> bytes:
    return sql.encode() if isinstance(sql, str) else bytes(sql)
