"""Any blocking connection with the methods of DB-API 2.0 (PEP 249)."""

from __future__ import annotations

from typing import Any

from .defaults import DefaultDriver


class DBAPIDriver(DefaultDriver):
    """What drivers of blocking connections have in common.

    If not told otherwise, it can't be known whether a transaction is open, so that every
    return makes a rollback, as PEP 249 foresees. Session state and running statements are
    out of its reach, since another thread may still be in the middle of a call: where they
    have to go, the connection goes with them.
    """

    blocking = True

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
