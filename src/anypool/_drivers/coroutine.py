"""What drivers of async connections have in common."""

from __future__ import annotations

import inspect
from typing import Any

from .defaults import DefaultDriver
from .openness import looks_open


class CoroutineDriver(DefaultDriver):
    """All of a driver but its ping.

    Calls ``rollback``, ``commit`` and ``close`` (or ``aclose``) where they exist; what they
    return is awaited if it can be.

    What a cancelled statement leaves on the wire, and session state, are out of its reach:
    they go with the connection.
    """

    blocking = False

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
        return looks_open(connection)


def has_coroutine_methods(connection: object) -> bool:
    """Tell whether a connection is of the async kind, by its closing method."""
    return any(
        inspect.iscoroutinefunction(getattr(connection, name, None))
        for name in ("aclose", "close", "rollback")
    )


async def execute(connection: Any, statement: str) -> None:
    """Execute a statement, in one of the ways that there are."""
    if hasattr(connection, "execute"):
        await settled(connection.execute(statement))
    elif hasattr(connection, "cursor"):
        cursor = await settled(connection.cursor())
        await settled(cursor.execute(statement))
        await settled(cursor.close())


async def settled(result: Any) -> Any:
    """Await what a method returned, if that can be awaited."""
    return await result if inspect.isawaitable(result) else result


def _closing_method(connection: Any) -> Any:
    # ``aclose`` is the name that async libraries moved to; some keep a blocking ``close``
    # beside it.
    return getattr(connection, "aclose", None) or connection.close
