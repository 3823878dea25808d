"""Any blocking connection with the methods of DB-API 2.0 (PEP 249)."""

from __future__ import annotations

from typing import Any

from .._core.driver import CLOSED, OPEN, CannotReset, ConnectionState
from .._core.resetmode import ResetMode
from .losses import means_lost


class DBAPIDriver:
    """What drivers of blocking connections have in common.

    If not told otherwise, it can't be known whether a transaction is open, so that every
    return makes a rollback, as PEP 249 foresees. Session state and running statements are
    out of its reach: where they have to go, the connection goes with them.
    """

    blocking = True

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

    def interrupt(self, connection: Any, /) -> None:
        # Another thread may still be in the middle of a call of this connection.
        raise CannotReset

    def ping(self, connection: Any, /) -> None:
        if hasattr(connection, "ping"):
            connection.ping()
            return
        cursor = connection.cursor()
        try:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        finally:
            cursor.close()
        # The statement may have begun a transaction.
        if hasattr(connection, "rollback"):
            connection.rollback()

    def close(self, connection: Any, /) -> Any:
        return connection.close()

    def terminate(self, connection: Any, /) -> bool:
        # A finalizer has nobody to report to, and the pool drops the connection anyway.
        try:
            connection.close()
        except Exception:
            return True
        return True

    def is_open(self, connection: Any, /) -> bool:
        return not getattr(connection, "closed", False)

    def is_disconnect(self, error: BaseException, connection: Any, /) -> bool:
        return means_lost(error, connection, closed=not self.is_open(connection))
