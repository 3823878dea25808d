"""asyncpg: PostgreSQL's protocol in Cython, for asyncio."""

from __future__ import annotations

import asyncio
from contextvars import Context
from gc import get_referents
from typing import Any, NamedTuple

import anyio
import asyncpg
from asyncpg.protocol import Protocol

from .._core.contexts import InContext
from .._core.driver import BUSY, CLEAN, CLOSED, OPEN, CannotReset, ConnectionState
from .._core.resetmode import ResetMode
from .coroutine import CoroutineDriver
from .losses import means_lost
from .originals import Originals, Parameter, is_read_only
from .transports import hang_up

CANCEL_TIMEOUT = 2.0
"""Seconds that a statement may take to end, once the server was asked to cancel it."""

CLOSE_TIMEOUT = 5.0
"""Seconds that the server may take for a goodbye."""


class AsyncpgDriver(CoroutineDriver):
    """asyncpg keeps the transaction's state, as the server reported it last.

    It has no attribute that says whether a statement is under way, but a future that is to
    bring the answer: see ``_waiter_of``.
    """

    def __init__(self) -> None:
        self._originals: Originals[Original] = Originals()

    def baseline(self, connection: asyncpg.Connection, /) -> Any:
        if not connection.is_closed():
            self._originals.note(connection, look_at(connection))

    def state(self, connection: asyncpg.Connection, baseline: Any, /) -> ConnectionState:
        protocol = connection._protocol
        if protocol is None or not protocol.is_connected():
            return CLOSED
        # While a sink takes in what a COPY has brought, the network is not read.
        if (
            _waiter_of(protocol) is not None
            or protocol._is_cancelling()
            or not connection._transport.is_reading()
        ):
            return BUSY
        # A transaction object that was not ended would make the next one a savepoint.
        if protocol.is_in_transaction() or connection._top_xact is not None:
            return OPEN
        return CLEAN

    async def reset(self, connection: asyncpg.Connection, mode: ResetMode, /) -> None:
        if connection.is_in_transaction():
            await connection.execute("COMMIT" if mode == "commit" else "ROLLBACK")
        connection._top_xact = None
        # asyncpg's own reset() does RESET ALL, which wipes what a connect listener has set;
        # and DISCARD ALL makes its other statements superfluous.
        if mode == "full":
            original = self._originals.of(connection)
            connection._listeners.clear()
            await connection.execute("DISCARD ALL")
            make_like(connection, original)
            await connection.reload_schema_state()  # its prepared statements are gone

    async def interrupt(self, connection: asyncpg.Connection, /) -> None:
        # When a statement's caller is cancelled, asyncpg asks the server to cancel it; what
        # is left to do is to wait. It does the same for what other tasks have under way.
        protocol = connection._protocol
        with anyio.move_on_after(CANCEL_TIMEOUT):
            await protocol._wait_for_cancellation()
            if self.state(connection, None) is BUSY:
                check_copy(connection)
                if hasattr(protocol, "_drain_cancels"):  # asyncpg 0.32
                    await protocol._drain_cancels()

    async def ping(self, connection: asyncpg.Connection, /) -> None:
        await connection.execute("SELECT 1")

    async def close(self, connection: asyncpg.Connection, /) -> None:
        if self.state(connection, None) is BUSY:
            # It would wait for what could not be stopped, or for what nobody reads.
            connection.terminate()
        else:
            # Its timer would keep the context of whoever has it closed.
            await InContext(Context(), connection.close(timeout=CLOSE_TIMEOUT))

    def terminate(self, connection: asyncpg.Connection, /) -> bool:
        if not connection.is_closed():
            hang_up(connection._loop, connection._transport, connection.terminate)
        return True

    def is_open(self, connection: asyncpg.Connection, /) -> bool:
        return not connection.is_closed()

    def is_disconnect(
        self, error: BaseException, connection: asyncpg.Connection, /
    ) -> bool:
        if (
            isinstance(error, asyncpg.ReadOnlySQLTransactionError)
            and not connection.is_closed()
        ):
            return self._originals.is_demoted(connection, parameter_of(connection))
        return means_lost(error, connection, closed=connection.is_closed())


class Original(NamedTuple):
    """A connection's Python side, as it was when the connection was new."""

    callbacks: tuple[set[Any], ...]
    codecs: list[dict[Any, Any]]
    read_only: bool


def look_at(connection: asyncpg.Connection) -> Original:
    """Take note of the connection's Python side."""
    return Original(
        tuple(callbacks.copy() for callbacks in _callbacks(connection)),
        [codecs.copy() for codecs in _codecs(connection)],
        is_read_only(parameter_of(connection)),
    )


def make_like(connection: asyncpg.Connection, original: Original) -> None:
    """Put the Python side back.

    Raises:
        CannotReset: this version of asyncpg doesn't let one get at its type codecs.
    """
    for callbacks, before in zip(_callbacks(connection), original.callbacks, strict=True):
        callbacks.clear()
        callbacks.update(before)
    if not original.codecs:
        raise CannotReset
    for codecs, known in zip(_codecs(connection), original.codecs, strict=True):
        codecs.clear()
        codecs.update(known)


def parameter_of(connection: asyncpg.Connection) -> Parameter:
    """Return what gives the server's reports of itself."""
    settings = connection.get_settings()
    return lambda name: getattr(settings, name, None)


def check_copy(connection: asyncpg.Connection) -> None:
    """Refuse a connection on which some task is still sending, or taking in a COPY.

    It would go on with it whatever the server says, between the next caller's statements.
    """
    waiter = _waiter_of(connection._protocol)
    # Where only asyncpg itself is to be told of the answer, nobody waits for it yet.
    if waiter is None or len(getattr(waiter, "_callbacks", None) or ()) < 2:
        raise CannotReset


def _callbacks(connection: asyncpg.Connection) -> tuple[set[Any], ...]:
    return (
        connection._log_listeners,
        connection._termination_listeners,
        connection._query_loggers,
    )


def _codecs(connection: asyncpg.Connection) -> list[dict[Any, Any]]:
    """Return the dicts in which asyncpg's compiled part keeps type codecs."""
    parts = get_referents(connection.get_settings())
    config = [part for part in parts if type(part).__name__ == "DataCodecConfig"]
    return [part for part in get_referents(*config) if type(part) is dict]


def _find_waiter() -> int | None:
    """Find out where a protocol has its waiter, among the objects that it refers to.

    Its compiled part shows that to nobody but the garbage collector, which a look in that
    place costs 0.3 µs (CPython 3.11). The first waiter is given to it when it is made.
    """

    class Parameters:
        def __getattr__(self, name: str) -> str:
            return ""

    marker = object()
    try:
        protocol = Protocol(None, marker, Parameters(), asyncpg.Record, None)
        return get_referents(protocol).index(marker)
    except Exception:  # another version of asyncpg
        return None


_WAITER = _find_waiter()


def _waiter_of(protocol: Any) -> Any:
    """Return the future for the answer to what is under way, or None."""
    if _WAITER is not None:
        return get_referents(protocol)[_WAITER]
    return next(filter(asyncio.isfuture, get_referents(protocol)), None)
