"""Async connections of drivers that no other module knows, databases or not."""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any

from .._core.driver import CLEAN, CLOSED, OPEN, CannotReset, ConnectionState
from .._core.resetmode import ResetMode
from .attributes import state_by_attributes
from .coroutine import CoroutineDriver, execute, settled
from .losses import is_network_error
from .openness import closed_flags, looks_open
from .suspects import Suspects

# Errors with which a driver says that a method is not for use.
_REFUSALS = {"ProgrammingError", "NotSupportedError", "NotImplementedError"}


class GenericAsyncDriver(CoroutineDriver):
    """Every return rolls back, where there is something like that.

    Each class of connections has an object of its own.
    """

    def __init__(self) -> None:
        self._suspects = Suspects()
        self._listed = self._suspects.listed
        # Tells whether a connection is closed; set as soon as the rollback() of one of
        # them was a coroutine and has worked.
        self._is_closed: Callable[[Any], object] | None = None

    def state(self, connection: Any, baseline: Any, /) -> ConnectionState:
        if not looks_open(connection):
            return CLOSED
        state = state_by_attributes(connection, baseline)
        if state is not None:
            return state
        in_doubt = hasattr(connection, "rollback") or self._suspects.is_suspect(connection)
        return OPEN if in_doubt else CLEAN

    def reset(self, connection: Any, mode: ResetMode, /) -> Any:
        # The usual case first: 1 µs less of some 3 for a cycle (CPython 3.11).
        is_closed = self._is_closed
        if (
            is_closed is not None
            and mode == "rollback"
            and not self._listed
            and not is_closed(connection)
        ):
            return connection.rollback()
        # A rollback() of a closed connection may do nothing.
        if not looks_open(connection):
            raise CannotReset
        return self._reset(connection, mode)

    async def _reset(self, connection: Any, mode: ResetMode) -> None:
        suspect = self._suspects.clear(connection)
        try:
            answer = super().reset(connection, mode)
            await settled(answer)
            if mode == "rollback" and isinstance(answer, CoroutineType):
                self._is_closed = closed_flags.get(type(connection))
        except Exception as error:
            # aiopg has the method, and no use for it.
            if type(error).__name__ not in _REFUSALS or not self.is_open(connection):
                raise
            await execute(connection, mode)
        if suspect:
            if not hasattr(connection, "rollback") and not hasattr(connection, "ping"):
                raise CannotReset
            await self.ping(connection)

    async def ping(self, connection: Any, /) -> None:
        # Without one of its own: what is no database would not understand a statement.
        if hasattr(connection, "ping"):
            await settled(connection.ping())
        elif hasattr(connection, "rollback"):
            await execute(connection, "SELECT 1")
            await self.reset(connection, "rollback")

    def close(self, connection: Any, /) -> Any:
        self._suspects.forget(connection)
        return super().close(connection)

    def is_disconnect(self, error: BaseException, connection: Any, /) -> bool:
        self._suspects.note(error, connection)
        if super().is_disconnect(error, connection):
            return True
        # As with ClosingDriver: what is no database has no errors of its own kind.
        return not hasattr(connection, "rollback") and is_network_error(error)
