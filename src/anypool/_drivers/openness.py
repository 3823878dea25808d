"""Whether a connection of an unknown kind looks open, as far as it tells without I/O."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any


def looks_open(connection: Any) -> bool:
    """Ask the connection what there is to ask; if nothing says that it is closed, it isn't.

    ``closed`` and ``is_closed`` may be attributes or methods. MySQLdb has ``open`` instead,
    sockets the number of their file, streams of anyio a flag and those of trio a socket;
    pg8000 just lets go of its own.
    """
    for name in ("closed", "is_closed", "_closed"):
        closed = _plain_answer(connection, name)
        if isinstance(closed, int):  # psycopg2 counts how
            return not closed
    still_open = getattr(connection, "open", None)
    if isinstance(still_open, int):
        return bool(still_open)
    if getattr(connection, "_usock", connection) is None:
        return False
    return not any(
        _plain_answer(peer, "fileno") == -1
        for peer in (connection, getattr(connection, "socket", None))
    )


def _plain_answer(connection: Any, name: str) -> Any:
    with suppress(Exception):  # raised by properties of closed connections, too
        answer = getattr(connection, name, None)
        if not callable(answer):
            return answer
        if not inspect.iscoroutinefunction(answer):
            answer = answer()
            if inspect.iscoroutine(answer):
                answer.close()
            return answer
    return None
