"""psycopg2: a DB-API driver that tells the state of the transaction."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, NamedTuple

from psycopg2 import InterfaceError, ProgrammingError
from psycopg2.errors import ReadOnlySqlTransaction
from psycopg2.extensions import (
    STATUS_PREPARED,
    STATUS_READY,
    TRANSACTION_STATUS_ACTIVE,
    TRANSACTION_STATUS_IDLE,
    TRANSACTION_STATUS_UNKNOWN,
    connection,
    cursor,
)

from .._core.driver import (
    BUSY,
    CHANGED,
    CLEAN,
    CLOSED,
    OPEN,
    TWO_PHASE,
    CannotReset,
    ConnectionState,
)
from .._core.resetmode import ResetMode
from .dbapi import DBAPIDriver
from .originals import Originals, is_read_only
from .transports import shut_down

_SETTINGS = ("isolation_level", "readonly", "deferrable", "autocommit")

# What returns compare with the baseline, in one call.
_watched = attrgetter(*_SETTINGS, "status")
_settings = attrgetter(*_SETTINGS)


class Psycopg2Driver(DBAPIDriver):
    """libpq keeps the transaction's state, as the server reported it last.

    psycopg2 has a state of its own beside that. After a COMMIT that was executed as a
    statement it still takes the transaction for open, and would begin no new one.
    """

    def __init__(self) -> None:
        self._originals: Originals[Original] = Originals()

    def baseline(self, connection: connection, /) -> Any:
        if connection.closed:
            return None
        self._originals.note(connection, look_at(connection))
        return (*_settings(connection), STATUS_READY)

    def state(self, connection: connection, baseline: Any, /) -> ConnectionState:
        try:
            status = connection.get_transaction_status()
            watched = _watched(connection)
        except InterfaceError:  # it is closed
            return CLOSED
        if status == TRANSACTION_STATUS_IDLE and watched == baseline:
            return CLEAN
        if connection.closed or status == TRANSACTION_STATUS_UNKNOWN:
            return CLOSED
        if status == TRANSACTION_STATUS_ACTIVE:
            return BUSY
        if watched[:-1] != baseline[:-1]:
            return CHANGED
        return TWO_PHASE if watched[-1] == STATUS_PREPARED else OPEN

    def reset(self, connection: connection, mode: ResetMode, /) -> None:
        if connection.status == STATUS_PREPARED:
            # What is prepared stays on the server, for tpc_recover(). The one way to make
            # psycopg2 forget it resets the session as well, and what listeners have set.
            if mode != "full":
                raise CannotReset
            connection.reset()
        method = "commit" if mode == "commit" else "rollback"
        try:
            getattr(connection, method)()
        except ProgrammingError:
            # A two-phase transaction that is not prepared: psycopg2 doesn't show it.
            getattr(connection, f"tpc_{method}")()
        if connection.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            # With autocommit, its methods do nothing, even if there was a BEGIN.
            execute(connection, method)
        if mode == "full":
            original = self._originals.of(connection)
            connection.autocommit = True
            execute(connection, "DISCARD ALL")
            make_like(connection, original)

    def restore(self, connection: connection, baseline: Any, /) -> None:
        # With autocommit, these are settings of the session: then it costs a round trip.
        for name, value in zip(_SETTINGS, baseline, strict=False):
            if getattr(connection, name) != value:
                setattr(connection, name, value)

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

    def is_disconnect(self, error: BaseException, connection: connection, /) -> bool:
        if isinstance(error, ReadOnlySqlTransaction) and not connection.closed:
            # With autocommit, readonly makes it the session's default.
            return not connection.readonly and self._originals.is_demoted(
                connection, connection.get_parameter_status
            )
        return super().is_disconnect(error, connection)


class Original(NamedTuple):
    """A connection's Python side, as it was when the connection was new."""

    encoding: str
    parameters: list[str | None]
    cursor_factory: Any
    string_types: dict[int, Any]
    binary_types: dict[int, Any]
    read_only: bool


def look_at(connection: connection) -> Original:
    """Take note of the connection's Python side."""
    return Original(
        connection.encoding,
        parameters(connection),
        connection.cursor_factory,
        connection.string_types.copy(),
        connection.binary_types.copy(),
        is_read_only(connection.get_parameter_status),
    )


def make_like(connection: connection, original: Original) -> None:
    """Put the Python side back, after DISCARD ALL."""
    if (connection.encoding, parameters(connection)) != original[:2]:
        # Have psycopg2 look at the session anew, and set it up as it did at first.
        connection.reset()
        connection.set_client_encoding(original.encoding)
    connection.cursor_factory = original.cursor_factory
    for types, before in (
        (connection.string_types, original.string_types),
        (connection.binary_types, original.binary_types),
    ):
        types.clear()
        types.update(before)
    connection.notices = []
    connection.notifies = []


def parameters(connection: connection) -> list[str | None]:
    """Return the settings of the session on which psycopg2 depends."""
    return [
        connection.get_parameter_status(name) for name in ("client_encoding", "DateStyle")
    ]


def execute(connection: connection, statement: str) -> None:
    """Execute a statement with a plain cursor, whatever the connection's are."""
    with cursor(connection) as plain:
        plain.execute(statement)
