"""Fake connections: they cost next to nothing, so that what is left is the pool."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Connection:
    """A DB-API connection that does nothing; a context manager as psycopg's is."""

    closed = False

    def cursor(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.commit()


class AsyncConnection:
    """The same with coroutines."""

    closed = False

    async def execute(self, statement: str) -> None: ...
    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...
    async def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.commit()
