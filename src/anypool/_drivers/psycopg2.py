"""psycopg2: a DB-API driver that tells the state of the transaction."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, NamedTuple

from psycopg2 import ProgrammingError
from psycopg2.extensions import (
    STATUS_BEGIN,
    STATUS_PREPARED,
    TRANSACTION_STATUS_ACTIVE,
    TRANSACTION_STATUS_IDLE,
    connection,
)

from .._core.options import ResetMode
from .dbapi import DBAPIDriver
from .losses import READ_ONLY
from .protocol import (
    BUSY,
    CHANGED,
    CLEAN,
    CLOSED,
    OPEN,
    TWO_PHASE,
    CannotReset,
    ConnectionState,
)
from .transports import shut_down


class Baseline(NamedTuple):
    """What callers may change on the client's side.

    Attributes:
        session: autocommit, isolation level, read-only and deferrable.
        encoding: the client's encoding.
        cursor_factory: what cursors are made of.
        types: copies of the connection's own typecasters, for text and binary values.
    """

    session: tuple[Any, ...]
    encoding: str
    cursor_factory: Any
    types: tuple[dict[Any, Any], dict[Any, Any]]


session_of = attrgetter("autocommit", "isolation_level", "readonly", "deferrable")


class Psycopg2Driver(DBAPIDriver):
    """libpq keeps the transaction's state, as the server reported it last."""

    def baseline(self, connection: connection, /) -> Baseline:
        return Baseline(
            session_of(connection),
            connection.encoding,
            connection.cursor_factory,
            (dict(connection.string_types), dict(connection.binary_types)),
        )

    def state(self, connection: connection, baseline: Any, /) -> ConnectionState:
        if connection.closed:
            return CLOSED
        transaction, status = connection.get_transaction_status(), connection.status
        if transaction == TRANSACTION_STATUS_ACTIVE:
            return BUSY
        if status == STATUS_PREPARED:
            return TWO_PHASE
        if session_of(connection) != baseline.session:
            return CHANGED
        # The driver may be in a transaction of its own, such as a two-phase one that could
        # not be prepared, when there is none on the server.
        idle = transaction == TRANSACTION_STATUS_IDLE and status != STATUS_BEGIN
        return CLEAN if idle else OPEN

    def reset(self, connection: connection, mode: ResetMode, /) -> None:
        if connection.status == STATUS_PREPARED:
            # It stays on the server, for whoever coordinates it. The driver has no way out
            # of it but to end it.
            raise CannotReset
        try:
            connection.tpc_rollback()
        except ProgrammingError:  # it is not in a two-phase transaction; nothing was sent
            if connection.get_transaction_status() != TRANSACTION_STATUS_IDLE:
                _end(connection, "commit" if mode == "commit" else "rollback")
        if mode == "full":
            _leave_transaction(connection)
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("DISCARD ALL")

    def restore(self, connection: connection, baseline: Baseline, /) -> None:
        if session_of(connection) != baseline.session:
            autocommit, isolation_level, readonly, deferrable = baseline.session
            _leave_transaction(connection)
            connection.autocommit = False
            connection.isolation_level = isolation_level
            connection.readonly = readonly
            connection.deferrable = deferrable
            connection.autocommit = autocommit
        if connection.encoding != baseline.encoding:
            connection.set_client_encoding(baseline.encoding)
        connection.cursor_factory = baseline.cursor_factory
        for types, before in zip(
            (connection.string_types, connection.binary_types), baseline.types, strict=True
        ):
            types.clear()
            types.update(before)
        connection.poll()  # takes in what has arrived
        del connection.notifies[:], connection.notices[:]

    def interrupt(self, connection: connection, /) -> None:
        # Its cancel() waits for the server with the GIL held, and all threads with it.
        if connection.get_transaction_status() == TRANSACTION_STATUS_ACTIVE:
            raise CannotReset

    def is_disconnect(self, error: BaseException, connection: connection, /) -> bool:
        if connection.readonly and getattr(error, "pgcode", None) == READ_ONLY:
            return False  # it is the caller who wanted that, and not the server
        return super().is_disconnect(error, connection)

    def close(self, connection: connection, /) -> None:
        # close() would wait for a statement that another thread is still running.
        if connection.get_transaction_status() == TRANSACTION_STATUS_ACTIVE:
            shut_down(connection.fileno())
        else:
            connection.close()

    def terminate(self, connection: connection, /) -> bool:
        self.close(connection)
        return True


def _leave_transaction(connection: connection) -> None:
    """End a transaction that is only in the driver's mind, as after a COMMIT by hand."""
    if connection.status == STATUS_BEGIN:
        connection.rollback()


def _end(connection: connection, method: str) -> None:
    getattr(connection, method)()
    if connection.get_transaction_status() != TRANSACTION_STATUS_IDLE:
        # With autocommit, its methods do nothing, even if there was a BEGIN.
        with connection.cursor() as cursor:
            cursor.execute(method)
