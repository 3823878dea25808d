"""Anything that has ``close()`` and is no database: a socket, a client, a channel."""

from __future__ import annotations

from typing import Any

from .._core.driver import CLEAN, CLOSED, OPEN, CannotReset, ConnectionState
from .._core.resetmode import ResetMode
from .generic import GenericDriver
from .losses import is_network_error
from .openness import looks_open


class ClosingDriver(GenericDriver):
    """There is no transaction to end, and it is not known what else could be reset."""

    def state(self, connection: Any, baseline: Any, /) -> ConnectionState:
        if not looks_open(connection):
            return CLOSED
        return OPEN if self._suspects.is_suspect(connection) else CLEAN

    def reset(self, connection: Any, mode: ResetMode, /) -> None:
        if mode == "full" or not looks_open(connection):
            raise CannotReset
        if self._suspects.clear(connection):
            if not hasattr(connection, "ping"):
                raise CannotReset
            connection.ping()

    def ping(self, connection: Any, /) -> None:
        # Without a ping of its own, nothing can be said that its peer would understand.
        if hasattr(connection, "ping"):
            connection.ping()

    def is_disconnect(self, error: BaseException, connection: Any, /) -> bool:
        # These have no errors of their own kind: the operating system's come through.
        return super().is_disconnect(error, connection) or is_network_error(error)
