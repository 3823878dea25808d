"""What is brought home from a worker thread: a connection, a result or an error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import Any


class Delivery:
    """A connection that is made in a thread, for a task that may be gone by then."""

    def __init__(
        self, creator: Callable[[], Any], discard: Callable[[Any], object]
    ) -> None:
        self.connection: Any = None
        self._creator = creator
        self._discard = discard
        self._lock = threading.Lock()
        self._refused = False

    def make(self) -> None:
        connection = self._creator()
        with self._lock:
            self.connection = connection
            refused = self._refused
        if refused:
            self._close()

    def refuse(self) -> None:
        """Have the connection closed: now, if it is there, or when it arrives."""
        with self._lock:
            self._refused = True
            arrived = self.connection is not None
        if arrived:
            self._close()

    def _close(self) -> None:
        if isinstance(self.connection, Coroutine):
            self.connection.close()
        else:
            self._discard(self.connection)


def outcome(
    function: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Any, BaseException | None]:
    """Bring an error home from a thread as a value.

    asyncio's future would hold the error, and its traceback the future. And trio lets no
    function bring a coroutine back from a thread, but in a tuple.
    """
    try:
        return function(*args), None
    except BaseException as error:
        return None, error
