"""PooledCursor of the blocking facade."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from .._core.owner import Owner


class CursorLease(Protocol):
    """The lease of a cursor's connection."""

    _owner: Any

    @property
    def _pool(self) -> Owner: ...
    def invalidate(self, exc: BaseException | None = None) -> None: ...


class PooledCursor:
    """A driver's cursor. Attributes that it lacks are the cursor's.

    Attributes:
        cursor: The driver's cursor.
    """

    __slots__ = ("_lease", "cursor")

    def __init__(self, lease: CursorLease, cursor: Any) -> None:
        self._lease = lease
        self.cursor: Any = cursor

    def invalidate(self, exc: BaseException | None = None) -> None:
        """Invalidate the connection that this cursor belongs to."""
        self._lease.invalidate(exc)

    def close(self) -> None:
        """Close the cursor. An error is logged, not raised."""
        try:
            self._lease._owner.call(self.cursor.close)
        except Exception as error:
            self._lease._pool._log.error("Error closing cursor: %s", type(error).__name__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cursor, name)

    def __iter__(self) -> Iterator[Any]:
        rows: Iterator[Any] = iter(self.cursor)
        return rows

    def __enter__(self) -> PooledCursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
