"""Any connection whose methods are coroutines."""

from __future__ import annotations

import inspect
from typing import Any

from .._core.options import ResetMode
from .losses import is_network_error, means_lost
from .protocol import CannotReset


class CoroutineDriver:
    """The driver of async connections that no other module knows.

    It calls ``rollback``, ``commit`` and ``close`` (or ``aclose``) where they exist, and
    awaits what they return if it can be awaited. What a cancelled statement leaves on the
    wire, and session state, are out of its reach: they go with the connection.
    """

    blocking = False

    def needs_reset(self, connection: Any, /) -> bool:
        return True

    def reset(self, connection: Any, mode: ResetMode, /) -> Any:
        if mode == "full":
            raise CannotReset
        method = getattr(connection, mode, None)
        return None if method is None else method()

    def interrupt(self, connection: Any, /) -> Any:
        raise CannotReset

    async def ping(self, connection: Any, /) -> None:
        for name, arguments in (("ping", ()), ("execute", ("SELECT 1",))):
            method = getattr(connection, name, None)
            if method is not None:
                await _settled(method(*arguments))
                break
        if hasattr(connection, "rollback"):
            await _settled(connection.rollback())

    def close(self, connection: Any, /) -> Any:
        return _closing_method(connection)()

    def terminate(self, connection: Any, /) -> bool:
        for name in ("terminate", "abort"):
            method = getattr(connection, name, None)
            if method is not None and not inspect.iscoroutinefunction(method):
                method()
                return True
        return False

    def is_open(self, connection: Any, /) -> bool:
        for name in ("closed", "is_closed"):
            closed = getattr(connection, name, None)
            if callable(closed) and not inspect.iscoroutinefunction(closed):
                closed = closed()
            if isinstance(closed, bool):
                return not closed
        return True

    def is_disconnect(self, error: BaseException, connection: Any, /) -> bool:
        if means_lost(error, connection, closed=not self.is_open(connection)):
            return True
        # As with ClosingDriver: what is no database has no errors of its own kind.
        return not hasattr(connection, "rollback") and is_network_error(error)


def has_coroutine_methods(connection: object) -> bool:
    """Tell whether a connection is of the async kind, by its closing method."""
    return any(
        inspect.iscoroutinefunction(getattr(connection, name, None))
        for name in ("aclose", "close", "rollback")
    )


def _closing_method(connection: Any) -> Any:
    # ``aclose`` is the name that async libraries moved to; some keep a blocking ``close``
    # beside it.
    return getattr(connection, "aclose", None) or connection.close


async def _settled(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result
