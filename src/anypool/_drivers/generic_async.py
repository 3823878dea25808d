"""Async connections of drivers that no other module knows, databases or not."""

from __future__ import annotations

from typing import Any

from .._core.options import ResetMode
from .coroutine import CoroutineDriver, execute, settled
from .losses import is_network_error
from .protocol import CannotReset
from .suspects import Suspects

# Errors with which a driver says that a method is not for use.
_REFUSALS = {"ProgrammingError", "NotSupportedError", "NotImplementedError"}


class GenericAsyncDriver(CoroutineDriver):
    """Every return rolls back, where there is something like that."""

    def __init__(self) -> None:
        self._suspects = Suspects()

    def needs_reset(self, connection: Any, /) -> bool:
        return (
            hasattr(connection, "rollback")
            or self._suspects.is_suspect(connection)
            or not self.is_open(connection)
        )

    async def reset(self, connection: Any, mode: ResetMode, /) -> None:
        suspect = self._suspects.clear(connection)
        try:
            await settled(super().reset(connection, mode))
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
