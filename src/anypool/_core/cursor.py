"""PooledCursor: a cursor that knows its lease."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

from .owner import Owner


class CursorLease(Protocol):
    """The lease of a cursor's connection."""

    @property
    def _pool(self) -> Owner: ...
    async def invalidate(self, exc: BaseException | None = None) -> None: ...


class PooledCursor:
    """A driver's cursor. Attributes that it lacks are the cursor's.

    Attributes:
        cursor: The driver's cursor.
    """

    __slots__ = ("_lease", "cursor")

    def __init__(self, lease: CursorLease, cursor: Any) -> None:
        self._lease = lease
        self.cursor: Any = cursor

    async def invalidate(self, exc: BaseException | None = None) -> None:
        """Invalidate the connection that this cursor belongs to."""
        await self._lease.invalidate(exc)

    async def close(self) -> None:
        """Close the cursor. An error is logged, not raised."""
        try:
            await self._lease._pool.call(self.cursor.close)
        except Exception as error:
            self._lease._pool._log.error("Error closing cursor: %s", type(error).__name__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cursor, name)

    def __aiter__(self) -> AsyncIterator[Any]:
        rows: AsyncIterator[Any] = aiter(self.cursor)
        return rows

    async def __aenter__(self) -> PooledCursor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
