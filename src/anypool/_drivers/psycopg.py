"""psycopg 3, blocking and async."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import anyio
from psycopg import capabilities
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
from .losses import means_lost
from .originals import Originals
from .psycopg_session import (
    AnyConnection,
    AsyncConnection,
    Connection,
    Original,
    forget_session,
    forget_two_phase,
    look_at,
    make_like,
    put_back,
)
from .transports import shut_down

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


class EitherPsycopgDriver:
    """What is the same for both kinds of connections.

    libpq keeps the transaction's state, as the server reported it last.
    """

    def __init__(self) -> None:
        self._originals: Originals[Original] = Originals()

    def baseline(self, connection: AnyConnection, /) -> Any:
        if not connection.closed:
            self._originals.note(connection, look_at(connection))
        return _watched(connection)

    def state(self, connection: AnyConnection, baseline: Any, /) -> ConnectionState:
        pgconn = connection.pgconn
        if (
            pgconn.transaction_status == _IDLE
            and pgconn.pipeline_status == 0
            and not connection.lock.locked()
            and _watched(connection) == baseline
        ):
            return CLEAN
        return unclean_state(connection, baseline)

    def restore(self, connection: AnyConnection, baseline: Any, /) -> None:
        put_back(connection, baseline)

    def terminate(self, connection: AnyConnection, /) -> bool:
        return hang_up(connection)

    def is_disconnect(self, error: BaseException, connection: AnyConnection, /) -> bool:
        is_demoted = (
            isinstance(error, ReadOnlySqlTransaction)
            and not connection.closed
            and not connection.read_only
            and self._originals.is_demoted(connection, connection.info.parameter_status)
        )
        return is_demoted or means_lost(error, connection, closed=connection.closed)


class PsycopgDriver(EitherPsycopgDriver, DBAPIDriver):
    """Blocking connections."""

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


class AsyncPsycopgDriver(EitherPsycopgDriver, CoroutineDriver):
    """Async connections.

    When a statement's caller is cancelled, psycopg cancels the statement on the server and
    waits for its end before the cancellation goes on; so there is mostly nothing left to
    interrupt.
    """

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
