"""Cursors of fake connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Self

import anyio.lowlevel

from ._fake_base import FakeBase


class _CursorBase:
    """What both kinds of cursors have in common.

    Attributes:
        description: None if the last statement was not a question.
        rowcount: how many rows it had; -1 if it was not a question.
        closed: whether the cursor is closed.
    """

    def __init__(self, connection: FakeBase) -> None:
        self._connection = connection
        self.description: Sequence[Any] | None = None
        self.rowcount: int = -1
        self.closed: bool = False
        self._rows: list[Sequence[Any]] = []

    def _execute(self, statement: str, parameters: Any) -> None:
        rows = self._connection._execute(statement, parameters)
        self._rows = rows or []
        self.rowcount = -1 if rows is None else len(rows)
        width = len(self._rows[0]) if self._rows else 0
        names = [f"column{number}" for number in range(1, width + 1)]
        self.description = None if rows is None else [(name, *[None] * 6) for name in names]

    def _take(self, number: int | None) -> list[Sequence[Any]]:
        self._connection._do("fetch")
        taken = self._rows[:number]
        del self._rows[:number]
        return taken


class FakeCursor(_CursorBase):
    """The cursor of a FakeConnection.

    Attributes:
        connection: whose cursor it is.
    """

    def __init__(self, connection: FakeBase) -> None:
        super().__init__(connection)
        self.connection: FakeBase = connection

    def execute(self, statement: str, parameters: Any = ()) -> Self:
        """Execute a statement; errors are those of the connection's ``execute()``."""
        self._execute(statement, parameters)
        return self

    def fetchone(self) -> Sequence[Any] | None:
        return next(iter(self._take(1)), None)

    def fetchmany(self, size: int = 1) -> list[Sequence[Any]]:
        return self._take(size)

    def fetchall(self) -> list[Sequence[Any]]:
        return self._take(None)

    def __iter__(self) -> Iterator[Sequence[Any]]:
        while (row := self.fetchone()) is not None:
            yield row

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FakeAsyncCursor(_CursorBase):
    """The cursor of a FakeAsyncConnection.

    Attributes:
        connection: whose cursor it is.
    """

    def __init__(self, connection: FakeBase) -> None:
        super().__init__(connection)
        self.connection: FakeBase = connection

    async def execute(self, statement: str, parameters: Any = ()) -> Self:
        """Execute a statement; errors are those of the connection's ``execute()``."""
        await anyio.lowlevel.checkpoint()
        self._execute(statement, parameters)
        return self

    async def fetchone(self) -> Sequence[Any] | None:
        await anyio.lowlevel.checkpoint()
        return next(iter(self._take(1)), None)

    async def fetchmany(self, size: int = 1) -> list[Sequence[Any]]:
        await anyio.lowlevel.checkpoint()
        return self._take(size)

    async def fetchall(self) -> list[Sequence[Any]]:
        await anyio.lowlevel.checkpoint()
        return self._take(None)

    async def __aiter__(self) -> AsyncIterator[Sequence[Any]]:
        while (row := await self.fetchone()) is not None:
            yield row

    async def close(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
