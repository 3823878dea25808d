"""Fake connections, blocking and async: no database behind them, and they do as told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import anyio.lowlevel

from ._cursors import FakeAsyncCursor, FakeCursor
from ._fake_base import FakeBase
from ._script import Operation, Script


class FakeConnection(FakeBase):
    """A blocking connection, in the manner of DB-API 2.0. The class itself is a creator."""

    def execute(self, statement: str, parameters: Any = ()) -> FakeCursor:
        """Note a statement, and give what was agreed by ``answer()``.

        Raises:
            FakeError: the connection is closed.
            FakeLostConnection: it was lost.
            BaseException: what was agreed by ``fail()``.
        """
        return self.cursor().execute(statement, parameters)

    def cursor(self) -> FakeCursor:
        return FakeCursor(self)

    def commit(self) -> None:
        self._end("commit")

    def rollback(self) -> None:
        self._end("rollback")

    def ping(self) -> None:
        self._do("ping")

    def close(self) -> None:
        self._close()


class FakeAsyncConnection(FakeBase):
    """The same with coroutine methods. ``FakeAsyncConnection.connect`` is a creator."""

    @classmethod
    async def connect(cls) -> FakeAsyncConnection:
        """Open a connection of no database in particular."""
        await anyio.lowlevel.checkpoint()
        return cls()

    async def execute(self, statement: str, parameters: Any = ()) -> FakeAsyncCursor:
        """Note a statement, and give what was agreed by ``answer()``.

        Raises:
            FakeError: the connection is closed.
            FakeLostConnection: it was lost.
            BaseException: what was agreed by ``fail()``.
        """
        return await self.cursor().execute(statement, parameters)

    def cursor(self) -> FakeAsyncCursor:
        return FakeAsyncCursor(self)

    async def commit(self) -> None:
        await anyio.lowlevel.checkpoint()
        self._end("commit")

    async def rollback(self) -> None:
        await anyio.lowlevel.checkpoint()
        self._end("rollback")

    async def ping(self) -> None:
        await anyio.lowlevel.checkpoint()
        self._do("ping")

    async def close(self) -> None:
        await anyio.lowlevel.checkpoint()
        self._close()


class FakeDatabase:
    """Makes fake connections and keeps them all, for a test to look at.

    ``connect`` and ``connect_async`` are creators for pools.

    Attributes:
        connections: all that were made, in order, of either kind.
    """

    def __init__(self) -> None:
        self.connections: list[FakeConnection | FakeAsyncConnection] = []
        self._script = Script()

    def connect(self) -> FakeConnection:
        """Open a blocking connection.

        Raises:
            BaseException: what was agreed by ``fail("connect", ...)``.
        """
        self._script.check("connect")
        return FakeConnection(self)

    async def connect_async(self) -> FakeAsyncConnection:
        """Open an async connection.

        Raises:
            BaseException: what was agreed by ``fail("connect", ...)``.
        """
        await anyio.lowlevel.checkpoint()
        self._script.check("connect")
        return FakeAsyncConnection(self)

    @property
    def open(self) -> list[FakeConnection | FakeAsyncConnection]:
        """The connections that are not closed."""
        return [each for each in self.connections if not each.closed]

    @property
    def statements(self) -> list[str]:
        """The statements of all connections, each connection's in order."""
        return [text for each in self.connections for text in each.statements]

    def answer(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Have a statement, to the letter, give these rows on every connection."""
        self._script.answer(statement, rows)

    def fail(self, operation: Operation, error: BaseException, times: int = 1) -> None:
        """Have an operation raise an error, the next so many times it is tried on any
        connection, new ones included."""
        self._script.fail(operation, error, times)

    def restart(self) -> None:
        """Have the server lose all connections that are open, and take new ones."""
        for each in self.open:
            each.lose()

    def _adopt(self, connection: FakeBase) -> None:
        assert isinstance(connection, (FakeConnection, FakeAsyncConnection))
        self.connections.append(connection)
        connection.number = len(self.connections)
