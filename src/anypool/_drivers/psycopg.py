"""psycopg 3, blocking and async."""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import anyio
import psycopg
from psycopg import capabilities
from psycopg.adapt import AdaptersMap
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.pq import TransactionStatus

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
from .coroutine import CoroutineDriver
from .dbapi import DBAPIDriver
from .originals import Originals, is_read_only
from .transports import shut_down

Connection: TypeAlias = psycopg.Connection[Any]
AsyncConnection: TypeAlias = psycopg.AsyncConnection[Any]
AnyConnection: TypeAlias = Connection | AsyncConnection

CANCEL_TIMEOUT = 2.0
"""Seconds that a request to cancel may take, which goes over a new network connection."""

LOCK_TIMEOUT = 0.5
"""Seconds for somebody else to let go of the connection, once what he did is cancelled. A
generator that is suspended never does."""

# Numbers, since comparing with members of an enumeration takes longer.
_IDLE = int(TransactionStatus.IDLE)
_ACTIVE = int(TransactionStatus.ACTIVE)

# What returns compare with the baseline, in one call. Its properties would take 0.2 µs.
_watched = attrgetter(
    "_autocommit",
    "_isolation_level",
    "_read_only",
    "_deferrable",
    "_tpc",
    "_num_transactions",
)


class PsycopgDriver(DBAPIDriver):
    """libpq keeps the transaction's state, as the server reported it last."""

    def __init__(self) -> None:
        self._originals: Originals[Original] = Originals()

    def baseline(self, connection: Connection, /) -> Any:
        if not connection.closed:
            self._originals.note(connection, look_at(connection))
        return _watched(connection)

    def state(self, connection: Connection, baseline: Any, /) -> ConnectionState:
        pgconn = connection.pgconn
        if (
            pgconn.transaction_status == _IDLE
            and pgconn.pipeline_status == 0
            and not connection.lock.locked()
            and _watched(connection) == baseline
        ):
            return CLEAN
        return unclean_state(connection, baseline)

    def reset(self, connection: Connection, mode: ResetMode, /) -> None:
        forget_two_phase(connection)
        if mode == "commit":
            connection.commit()
        else:
            connection.rollback()
        check_blocks(connection)
        if mode == "full":
            make_like(connection, self._originals.of(connection))
            # DISCARD ALL is for outside of transactions, and psycopg would begin one.
            connection.set_autocommit(True)
            connection.execute("DISCARD ALL", prepare=False)
            forget_session(connection)

    def restore(self, connection: Connection, baseline: Any, /) -> None:
        put_back(connection, baseline)

    def interrupt(self, connection: Connection, /) -> None:
        check_blocks(connection)
        if is_active(connection):
            check_cancel()
            connection.cancel_safe(timeout=CANCEL_TIMEOUT)
        # Whoever executes the statement lets go of the lock when that has ended.
        if connection.lock.acquire(timeout=LOCK_TIMEOUT):
            connection.lock.release()

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

    def is_disconnect(self, error: BaseException, connection: Connection, /) -> bool:
        return is_demoted(error, connection, self._originals) or super().is_disconnect(
            error, connection
        )


class AsyncPsycopgDriver(CoroutineDriver):
    """The same for async connections.

    When a statement's caller is cancelled, psycopg cancels the statement on the server and
    waits for its end before the cancellation goes on; so there is mostly nothing left to
    interrupt.
    """

    def __init__(self) -> None:
        self._originals: Originals[Original] = Originals()

    def baseline(self, connection: AsyncConnection, /) -> Any:
        if not connection.closed:
            self._originals.note(connection, look_at(connection))
        return _watched(connection)

    def state(self, connection: AsyncConnection, baseline: Any, /) -> ConnectionState:
        pgconn = connection.pgconn
        if (
            pgconn.transaction_status == _IDLE
            and pgconn.pipeline_status == 0
            and not connection.lock.locked()
            and _watched(connection) == baseline
        ):
            return CLEAN
        return unclean_state(connection, baseline)

    async def reset(self, connection: AsyncConnection, mode: ResetMode, /) -> None:
        forget_two_phase(connection)
        if mode == "commit":
            await connection.commit()
        else:
            await connection.rollback()
        check_blocks(connection)
        if mode == "full":
            make_like(connection, self._originals.of(connection))
            await connection.set_autocommit(True)
            await connection.execute("DISCARD ALL", prepare=False)
            forget_session(connection)

    def restore(self, connection: AsyncConnection, baseline: Any, /) -> None:
        put_back(connection, baseline)

    async def interrupt(self, connection: AsyncConnection, /) -> None:
        check_blocks(connection)
        if is_active(connection):
            check_cancel()
            await connection.cancel_safe(timeout=CANCEL_TIMEOUT)
        # A generator that nobody refers to any more is closed by the event loop, soon.
        with anyio.move_on_after(LOCK_TIMEOUT):
            async with connection.lock:
                return

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

    def is_disconnect(self, error: BaseException, connection: AsyncConnection, /) -> bool:
        return is_demoted(error, connection, self._originals) or super().is_disconnect(
            error, connection
        )


class Original(NamedTuple):
    """A connection's Python side, as it was when the connection was new."""

    attributes: dict[str, Any]
    adapters: AdaptersMap | None
    notice_handlers: list[Any]
    notify_handlers: list[Any]
    read_only: bool


_ATTRIBUTES = (
    "row_factory",
    "cursor_factory",
    "server_cursor_factory",
    "prepare_threshold",
    "prepared_max",
)


def look_at(connection: AnyConnection) -> Original:
    """Take note of the connection's Python side."""
    adapters = connection._adapters
    return Original(
        {name: getattr(connection, name) for name in _ATTRIBUTES},
        None if adapters is None else AdaptersMap(adapters),
        connection._notice_handlers.copy(),
        connection._notify_handlers.copy(),
        is_read_only(connection.info.parameter_status),
    )


def make_like(connection: AnyConnection, original: Original) -> None:
    """Put the Python side back."""
    for name, value in original.attributes.items():
        setattr(connection, name, value)
    adapters = original.adapters
    connection._adapters = None if adapters is None else AdaptersMap(adapters)
    connection._notice_handlers[:] = original.notice_handlers
    connection._notify_handlers[:] = original.notify_handlers


def is_demoted(
    error: BaseException, connection: AnyConnection, originals: Originals[Original]
) -> bool:
    """Tell whether an error means that the server is a standby, and no primary any more."""
    return (
        isinstance(error, ReadOnlySqlTransaction)
        and not connection.closed
        and not connection.read_only
        and originals.is_demoted(connection, connection.info.parameter_status)
    )


def unclean_state(connection: AnyConnection, baseline: Any) -> ConnectionState:
    """Tell what a connection is in that is not clean. Nothing is sent."""
    pgconn = connection.pgconn
    status = pgconn.transaction_status
    if connection.closed:
        return CLOSED
    *settings, two_phase, blocks = _watched(connection)
    if status == _ACTIVE or pgconn.pipeline_status != 0 or connection.lock.locked():
        return BUSY
    if blocks:  # of transaction(), in which somebody still is: see check_blocks()
        return BUSY
    if settings != [*baseline[:4]]:
        return CHANGED
    if two_phase is not None:
        return TWO_PHASE
    return CLEAN if status == _IDLE else OPEN


def is_active(connection: AnyConnection) -> bool:
    """Tell whether a statement is running."""
    return connection.pgconn.transaction_status == _ACTIVE


def check_cancel() -> None:
    """Refuse where libpq is older than 17, and waits for the server with the GIL held."""
    if not capabilities.has_cancel_safe():
        raise CannotReset


def check_blocks(connection: AnyConnection) -> None:
    """Refuse a connection in a block of pipeline() or transaction().

    What is in the pipeline is not known, and whoever is in that block would end the next
    caller's transaction on leaving it.
    """
    if connection.pgconn.pipeline_status != 0 or connection._num_transactions:
        raise CannotReset


def forget_two_phase(connection: AnyConnection) -> None:
    """Have a two-phase transaction ended as any other.

    One that is prepared is in the server's keeping, and stays there for tpc_recover().
    """
    connection._tpc = None


def put_back(connection: AnyConnection, baseline: Any) -> None:
    """Put back how transactions begin.

    As the setters do it, which exist in two kinds.
    """
    (
        connection._autocommit,
        connection._isolation_level,
        connection._read_only,
        connection._deferrable,
        *_,
    ) = baseline
    connection._begin_statement = b""


def forget_session(connection: AnyConnection) -> None:
    """After DISCARD ALL: the server has no prepared statements left, nor does it notify.

    psycopg notices the former by itself only if it hasn't seen the statement before.
    """
    prepared = connection._prepared
    prepared.clear()
    prepared._to_flush.clear()
    if hasattr(connection, "_notifies_backlog"):  # psycopg 3.2.4
        connection._notifies_backlog = deque()


def hang_up(connection: AnyConnection) -> bool:
    """Close the connection, which libpq does without waiting.

    While another thread or task is inside libpq with this connection, its memory must not
    be freed: then only the socket is shut down, so that the other comes to an end. A
    generator that is suspended holds the lock as well.
    """
    pgconn = connection.pgconn
    if connection.closed:
        return True
    if connection.lock.locked():
        shut_down(pgconn.socket)
        # psycopg's mark of pooled connections, which it lets go without a warning.
        connection._pool = None
    else:
        pgconn.finish()
    return True
