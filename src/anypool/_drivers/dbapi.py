"""Any blocking connection with the methods of DB-API 2.0 (PEP 249)."""

from __future__ import annotations

from typing import Any

from .._core.options import ResetMode


class DBAPIDriver:
    """The driver of blocking connections that no other module knows.

    A connection without ``rollback`` (not a database) is not reset. Whether a transaction
    is open can't be told, so that every return makes a rollback, as PEP 249 foresees.
    """

    blocking = True

    def needs_reset(self, connection: Any, /) -> bool:
        return True

    def reset(self, connection: Any, mode: ResetMode, /) -> None:
        method = getattr(connection, mode, None)
        if method is not None:
            method()

    def ping(self, connection: Any, /) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        finally:
            cursor.close()

    def close(self, connection: Any, /) -> None:
        connection.close()

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
        return not self.is_open(connection)
