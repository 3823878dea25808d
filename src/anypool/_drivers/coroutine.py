"""Any connection whose methods are coroutines."""

from __future__ import annotations

import inspect
from typing import Any

from .._core.options import ResetMode


class CoroutineDriver:
    """The driver of async connections that no other module knows.

    It calls ``rollback``, ``commit`` and ``close`` (or ``aclose``) where they exist, and
    awaits what they return if it can be awaited.
    """

    blocking = False

    def needs_reset(self, connection: Any, /) -> bool:
        return True

    def reset(self, connection: Any, mode: ResetMode, /) -> Any:
        method = getattr(connection, mode, None)
        return None if method is None else method()

    async def ping(self, connection: Any, /) -> None:
        result = connection.execute("SELECT 1")
        if inspect.isawaitable(result):
            await result

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
        return not self.is_open(connection)


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
