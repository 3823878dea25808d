"""What PyMySQL and its descendants send to the server, and what of it is answered."""

from __future__ import annotations

import re
import weakref
from typing import Any

from .losses import mysql_number

IN_TRANSACTION = 0x0001
AUTOCOMMIT = 0x0002

# Marks among the status flags, beyond those of the protocol. Each answer that brings new
# flags takes them away.
UNANSWERED = 0x1000000
"""The flags are those of an earlier command."""
RUNNING = 0x2000000
"""The last command's answer has not been read, or not to its end."""
SENT = UNANSWERED | RUNNING

# Closing a prepared statement, or sending it a long value, is never answered.
_NEVER_ANSWERED = (0x18, 0x19)

# How commands begin that say something of two-phase or read-only transactions.
_TELLING = {b"XA ", b"STA", b"BEG", b"COM", b"ROL"}

_XA = re.compile(
    rb"XA\s+(START|BEGIN|END|PREPARE|COMMIT|ROLLBACK)\s+([^;]+)", re.IGNORECASE
)
_READ_ONLY = re.compile(rb"START\s+TRANSACTION\b[^;]*\bREAD\s+ONLY\b", re.IGNORECASE)

PREPARED = b""
"""In place of the name of a two-phase transaction: one that has been prepared."""


class Baseline:
    """What callers start from.

    Attributes:
        status: of the flags and marks that tell of a caller's doing, what is set.
        autocommit_mode: the driver's own note of it; None: the server's default.
        settings: the connection's attributes that callers may change.
    """

    __slots__ = ("autocommit_mode", "settings", "status")

    def __init__(self, connection: Any, names: tuple[str, ...]) -> None:
        self.status: int = connection.server_status & AUTOCOMMIT
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
        marks = UNANSWERED if command in _NEVER_ANSWERED else SENT
        connection.server_status |= marks
        self.command = command
        if _to_bytes(sql[:3]).upper() in _TELLING:
            self._note_transaction(_to_bytes(sql))
        return marks

    def _failed(self, connection: Any, error: BaseException) -> None:
        if isinstance(error, Exception):  # nothing was sent, or the network is gone
            connection.server_status &= ~RUNNING
        else:
            connection.server_status |= SENT

    def _note_transaction(self, sql: bytes) -> None:
        self.is_read_only = _READ_ONLY.match(sql) is not None
        two_phase = _XA.match(sql)
        if two_phase is not None:
            verb = two_phase[1].upper()
            if verb in (b"START", b"BEGIN"):
                self.xid = two_phase[2]
            elif verb == b"PREPARE":
                self.xid = PREPARED
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
        self._marks = SENT if name == "_read_query_result" else 0

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
        connection.server_status &= ~RUNNING

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


def is_answer(error: BaseException) -> bool:
    """Tell whether an error was sent by the server; those of the client are the 2000s."""
    number = mysql_number(error)
    return number is not None and not 2000 <= number < 3000


def _to_bytes(sql: bytes | str) -> bytes:
    return sql.encode() if isinstance(sql, str) else bytes(sql)
