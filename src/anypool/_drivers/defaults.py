"""What a driver does where it is not told otherwise."""

from __future__ import annotations

from typing import Any

from .._core.driver import CLOSED, OPEN, CannotReset, ConnectionState
from .._core.resetmode import ResetMode
from .losses import means_lost


class DefaultDriver:
    """Takes every open connection for one with a transaction, and knows of nothing else."""

    def baseline(self, connection: Any, /) -> Any:
        return None

    def holds_data(self, connection: Any, /) -> Any:
        return False

    def state(self, connection: Any, baseline: Any, /) -> ConnectionState:
        return OPEN if self.is_open(connection) else CLOSED

    def reset(self, connection: Any, mode: ResetMode, /) -> Any:
        if mode == "full":
            raise CannotReset
        method = getattr(connection, mode, None)
        return None if method is None else method()

    def restore(self, connection: Any, baseline: Any, /) -> Any:
        return None

    def interrupt(self, connection: Any, /) -> Any:
        raise CannotReset

    def is_open(self, connection: Any, /) -> bool:
        return not getattr(connection, "closed", False)

    def is_disconnect(self, error: BaseException, connection: Any, /) -> bool:
        return means_lost(error, connection, closed=not self.is_open(connection))
