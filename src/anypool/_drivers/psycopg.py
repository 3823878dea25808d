"""psycopg 3, blocking and async."""

from __future__ import annotations

from typing import Any, TypeAlias

import psycopg
from psycopg import capabilities
from psycopg.pq import TransactionStatus

from .._core.options import ResetMode
from .coroutine import CoroutineDriver
from .dbapi import DBAPIDriver
from .protocol import CLEAN, CLOSED, OPEN, CannotReset, ConnectionState
from .transports import shut_down

Connection: TypeAlias = psycopg.Connection[Any]
AsyncConnection: TypeAlias = psycopg.AsyncConnection[Any]

CANCEL_TIMEOUT = 2.0
"""Seconds that a request to cancel may take, which goes over a new network connection."""


class PsycopgDriver(DBAPIDriver):
    """libpq keeps the transaction's state, as the server reported it last."""

    def state(self, connection: Connection, baseline: Any, /) -> ConnectionState:
        return state_of(connection)

    def reset(self, connection: Connection, mode: ResetMode, /) -> None:
        if mode == "commit":
            connection.commit()
        else:
            connection.rollback()
        check_pipeline(connection)
        if mode == "full":
            # DISCARD ALL is for outside of transactions, and psycopg would begin one.
            autocommit = connection.autocommit
            connection.set_autocommit(True)
            connection.execute("DISCARD ALL", prepare=False)
            forget_prepared(connection)
            connection.set_autocommit(autocommit)

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

    def state(self, connection: AsyncConnection, baseline: Any, /) -> ConnectionState:
        return state_of(connection)

    async def reset(self, connection: AsyncConnection, mode: ResetMode, /) -> None:
        if mode == "commit":
            await connection.commit()
        else:
            await connection.rollback()
        check_pipeline(connection)
        if mode == "full":
            autocommit = connection.autocommit
            await connection.set_autocommit(True)
            await connection.execute("DISCARD ALL", prepare=False)
            forget_prepared(connection)
            await connection.set_autocommit(autocommit)

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

    async def close(self, connection: AsyncConnection, /) -> None:
        hang_up(connection)

    def terminate(self, connection: AsyncConnection, /) -> bool:
        return hang_up(connection)


def state_of(connection: Connection | AsyncConnection) -> ConnectionState:
    """Look at libpq's state: nothing is sent."""
    pgconn = connection.pgconn
    if pgconn.transaction_status == TransactionStatus.IDLE and pgconn.pipeline_status == 0:
        return CLEAN
    return CLOSED if connection.closed else OPEN


def is_active(connection: Connection | AsyncConnection) -> bool:
    """Tell whether a statement is running."""
    return connection.pgconn.transaction_status == TransactionStatus.ACTIVE


def check_cancel() -> None:
    """Refuse where libpq is older than 17, and waits for the server with the GIL held."""
    if not capabilities.has_cancel_safe():
        raise CannotReset


def check_pipeline(connection: Connection | AsyncConnection) -> None:
    """Refuse a connection in pipeline mode: what is in the pipeline is not known."""
    if connection.pgconn.pipeline_status != 0:
        raise CannotReset


def forget_prepared(connection: Connection | AsyncConnection) -> None:
    """After DISCARD ALL: the server has no prepared statements any more.

    psycopg notices that by itself only if it hasn't seen the statement before.
    """
    prepared = connection._prepared
    prepared.clear()
    prepared._to_flush.clear()


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
