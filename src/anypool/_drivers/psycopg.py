"""psycopg 3, blocking and async."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import psycopg
from psycopg import capabilities
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus

from .._core.options import ResetMode
from .coroutine import CoroutineDriver
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

Connection: TypeAlias = psycopg.Connection[Any]
AsyncConnection: TypeAlias = psycopg.AsyncConnection[Any]

CANCEL_TIMEOUT = 2.0
"""Seconds that a request to cancel may take, which goes over a new network connection."""


class Baseline(NamedTuple):
    """What callers may change on the client's side.

    Attributes:
        session: autocommit, isolation level, read-only and deferrable.
        attributes: the others, by name.
        adapters: a copy of the connection's own, if it has any.
        handlers: of notifications and of notices.
    """

    session: tuple[Any, ...]
    attributes: dict[str, Any]
    adapters: AdaptersMap | None
    handlers: tuple[list[Any], list[Any]]


ATTRIBUTES = (
    "row_factory",
    "cursor_factory",
    "server_cursor_factory",
    "prepare_threshold",
    "prepared_max",
)

# One call in C, since every return looks at these.
session_of = attrgetter("_autocommit", "_isolation_level", "_read_only", "_deferrable")


class PsycopgDriver(DBAPIDriver):
    """libpq keeps the transaction's state, as the server reported it last."""

    def baseline(self, connection: Connection, /) -> Baseline:
        return baseline_of(connection)

    def state(self, connection: Connection, baseline: Any, /) -> ConnectionState:
        return state_of(connection, baseline)

    def reset(self, connection: Connection, mode: ResetMode, /) -> None:
        mode = leave_two_phase(connection, mode)
        if mode == "commit":
            connection.commit()
        else:
            connection.rollback()
        if mode == "full":
            # DISCARD ALL is for outside of transactions, and psycopg would begin one.
            connection.set_autocommit(True)
            connection.execute("DISCARD ALL", prepare=False)
            forget_session(connection)

    def restore(self, connection: Connection, baseline: Baseline, /) -> None:
        autocommit, isolation_level, read_only, deferrable = baseline.session
        connection.set_autocommit(autocommit)
        connection.set_isolation_level(isolation_level)
        connection.set_read_only(read_only)
        connection.set_deferrable(deferrable)
        put_back(connection, baseline)

    def interrupt(self, connection: Connection, /) -> None:
        if is_active(connection):
            check_cancel()
            connection.cancel_safe(timeout=CANCEL_TIMEOUT)

    def ping(self, connection: Connection, /) -> None:
        # An empty statement, outside of a transaction: one round trip.
        autocommit = connection.autocommit
        if not autocommit:
            connection.set_autocommit(True)
        try:
            connection.execute("", prepare=False)
        finally:
            if not autocommit and not connection.closed:
                connection.set_autocommit(False)

    def is_disconnect(self, error: BaseException, connection: Connection, /) -> bool:
        return not is_own_choice(error, connection) and super().is_disconnect(
            error, connection
        )

    def close(self, connection: Connection, /) -> None:
        hang_up(connection)

    def terminate(self, connection: Connection, /) -> bool:
        return hang_up(connection)


class AsyncPsycopgDriver(CoroutineDriver):
    """The same for async connections.

    When a statement's caller is cancelled, psycopg cancels the statement on the server and
    waits for its end before the cancellation goes on; so there is mostly nothing left to
    interrupt.
    """

    def baseline(self, connection: AsyncConnection, /) -> Baseline:
        return baseline_of(connection)

    def state(self, connection: AsyncConnection, baseline: Any, /) -> ConnectionState:
        return state_of(connection, baseline)

    async def reset(self, connection: AsyncConnection, mode: ResetMode, /) -> None:
        mode = leave_two_phase(connection, mode)
        if mode == "commit":
            await connection.commit()
        else:
            await connection.rollback()
        if mode == "full":
            await connection.set_autocommit(True)
            await connection.execute("DISCARD ALL", prepare=False)
            forget_session(connection)

    async def restore(self, connection: AsyncConnection, baseline: Baseline, /) -> None:
        autocommit, isolation_level, read_only, deferrable = baseline.session
        await connection.set_autocommit(autocommit)
        await connection.set_isolation_level(isolation_level)
        await connection.set_read_only(read_only)
        await connection.set_deferrable(deferrable)
        put_back(connection, baseline)

    async def interrupt(self, connection: AsyncConnection, /) -> None:
        if is_active(connection):
            check_cancel()
            await connection.cancel_safe(timeout=CANCEL_TIMEOUT)

    async def ping(self, connection: AsyncConnection, /) -> None:
        autocommit = connection.autocommit
        if not autocommit:
            await connection.set_autocommit(True)
        try:
            await connection.execute("", prepare=False)
        finally:
            if not autocommit and not connection.closed:
                await connection.set_autocommit(False)

    def is_disconnect(self, error: BaseException, connection: AsyncConnection, /) -> bool:
        return not is_own_choice(error, connection) and super().is_disconnect(
            error, connection
        )

    async def close(self, connection: AsyncConnection, /) -> None:
        hang_up(connection)

    def terminate(self, connection: AsyncConnection, /) -> bool:
        return hang_up(connection)


def baseline_of(connection: Connection | AsyncConnection) -> Baseline:
    adapters = connection._adapters
    return Baseline(
        session_of(connection),
        {name: getattr(connection, name) for name in ATTRIBUTES},
        None if adapters is None else AdaptersMap(adapters),
        (list(connection._notify_handlers), list(connection._notice_handlers)),
    )


def state_of(
    connection: Connection | AsyncConnection, baseline: Baseline
) -> ConnectionState:
    """Look at libpq's state and psycopg's: nothing is sent."""
    pgconn = connection.pgconn
    status = pgconn.transaction_status
    if status == TransactionStatus.UNKNOWN:
        return CLOSED
    # A generator that streams, or waits for notifications, has the lock for all its life.
    if (
        status == TransactionStatus.ACTIVE
        or connection.lock.locked()
        or pgconn.pipeline_status != 0
    ):
        return BUSY
    if connection._tpc is not None:
        return TWO_PHASE
    if session_of(connection) != baseline.session:
        return CHANGED
    return CLEAN if status == TransactionStatus.IDLE else OPEN


def leave_two_phase(connection: Connection | AsyncConnection, mode: ResetMode) -> ResetMode:
    """End the driver's own two-phase state. What has been prepared stays on the server, for
    whoever coordinates it; the rest is rolled back.
    """
    if connection._tpc is None:
        return mode
    connection._tpc = None
    return "rollback" if mode == "commit" else mode


def is_own_choice(error: BaseException, connection: Connection | AsyncConnection) -> bool:
    """Tell whether it is the caller who wanted to read only, and not the server."""
    return bool(connection.read_only) and getattr(error, "sqlstate", None) == READ_ONLY


def is_active(connection: Connection | AsyncConnection) -> bool:
    """Tell whether a statement is running."""
    return connection.pgconn.transaction_status == TransactionStatus.ACTIVE


def check_cancel() -> None:
    """Refuse where libpq is older than 17, and waits for the server with the GIL held."""
    if not capabilities.has_cancel_safe():
        raise CannotReset


def forget_session(connection: Connection | AsyncConnection) -> None:
    """After DISCARD ALL: forget what the driver has kept of the session.

    psycopg notices by itself that the prepared statements are gone only if it hasn't seen
    the statement before.
    """
    prepared = connection._prepared
    prepared.clear()
    prepared._to_flush.clear()
    connection.pgconn.consume_input()
    while connection.pgconn.notifies() is not None:
        pass
    if connection._notifies_backlog is not None:
        connection._notifies_backlog.clear()


def put_back(connection: Connection | AsyncConnection, baseline: Baseline) -> None:
    """Put back what is no more than attributes of the connection."""
    for name, value in baseline.attributes.items():
        if getattr(connection, name) is not value:
            setattr(connection, name, value)
    adapters = baseline.adapters
    connection._adapters = None if adapters is None else AdaptersMap(adapters)
    connection._notify_handlers[:], connection._notice_handlers[:] = baseline.handlers


def hang_up(connection: Connection | AsyncConnection) -> bool:
    """Close the connection, which libpq does without waiting.

    While another thread or task is inside libpq with this connection, its memory must not
    be freed: then only the socket is shut down, so that the other comes to an end.
    """
    pgconn = connection.pgconn
    if connection.closed:
        return True
    if connection.lock.locked():
        shut_down(pgconn.socket)
    else:
        pgconn.finish()
    return True
