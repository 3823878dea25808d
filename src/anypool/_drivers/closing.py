"""Anything that has ``close()`` and is no database: a socket, a client, a channel."""

from __future__ import annotations

from typing import Any

from .._core.options import ResetMode
from .dbapi import DBAPIDriver
from .losses import is_network_error
from .protocol import CannotReset


class ClosingDriver(DBAPIDriver):
    """There is no transaction to end, and it is not known what else could be reset."""

    def needs_reset(self, connection: Any, /) -> bool:
        return False

    def reset(self, connection: Any, mode: ResetMode, /) -> None:
        if mode == "full":
            raise CannotReset

    def ping(self, connection: Any, /) -> None:
        # Without a ping of its own, nothing can be said that its peer would understand.
        ping = getattr(connection, "ping", None)
        if ping is not None:
            ping()

    def is_disconnect(self, error: BaseException, connection: Any, /) -> bool:
        # These have no errors of their own kind: the operating system's come through.
        return is_network_error(error) or super().is_disconnect(error, connection)
