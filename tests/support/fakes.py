"""Connections that note what is done to them, and fail where a test says so."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio


class World:
    """Makes fake connections and keeps them all: what a test looks at in the end.

    Attributes:
        connections: all that were made, in order; they are numbered from 1.
        events: (what, number of the connection), in order, of all of them.
        fail: what to raise when something is done to any connection, by its name.
        pause: how many times an async operation suspends before it is done.
    """

    def __init__(self, *, coroutine: bool) -> None:
        self.coroutine = coroutine
        self.connections: list[FakeConnection] = []
        self.events: list[tuple[str, int]] = []
        self.fail: dict[str, BaseException] = {}
        self.pause = 0
        self.on: dict[str, Callable[[], Any]] = {}
        self._lock = threading.Lock()

    def connect(self) -> Any:
        """Connect: a coroutine in a world of coroutines."""
        return self._connect_async() if self.coroutine else self._connect()

    def _connect(self) -> FakeConnection:
        self.step("connect", 0)
        return self.register(AsyncFakeConnection if self.coroutine else FakeConnection)

    def register(self, kind: type[FakeConnection]) -> FakeConnection:
        """Make a connection of some kind, with the next number."""
        with self._lock:
            connection = kind(self, len(self.connections) + 1)
            self.connections.append(connection)
            return connection

    async def _connect_async(self) -> FakeConnection:
        await self.suspend()
        return self._connect()

    def step(self, what: str, number: int) -> None:
        with self._lock:
            self.events.append((what, number))
        if what in self.on:
            self.on[what]()
        if what in self.fail:
            raise self.fail[what]

    async def suspend(self) -> None:
        for _ in range(self.pause):
            await anyio.lowlevel.checkpoint()

    def events_of(self, number: int) -> list[str]:
        return [what for what, which in self.events if which == number]

    @property
    def open(self) -> list[int]:
        """The numbers of the connections that are open."""
        return [c.number for c in self.connections if not c.closed]

    def count(self, what: str) -> int:
        return sum(event == what for event, _ in self.events)

    def assert_sound(self) -> None:
        """No connection was closed twice, none used after it was closed."""
        for connection in self.connections:
            events = self.events_of(connection.number)
            assert events.count("close") <= 1, f"{connection} closed twice: {events}"
            if "close" in events:
                assert events[-1] == "close", f"{connection} used after close: {events}"


class FakeConnection:
    """A DB-API connection, as far as a pool needs one."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.closed = False
        self.in_use = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number} password=SECRET>"

    def _step(self, what: str) -> None:
        self.world.step(what, self.number)

    def execute(self, statement: str) -> Any:
        self._step("execute")

    def cursor(self) -> Any:
        self._step("cursor")
        return FakeCursor(self)

    def ping(self) -> Any:
        self._step("ping")

    def rollback(self) -> Any:
        self._step("rollback")

    def commit(self) -> Any:
        self._step("commit")

    def close(self) -> Any:
        self.closed = True
        self._step("close")


class FakeCursor:
    def __init__(self, connection: FakeConnection) -> None:
        self.connection = connection
        self.rowcount = 7

    def close(self) -> None:
        self.connection._step("cursor.close")

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2, 3])

    async def __aiter__(self) -> AsyncIterator[int]:
        for row in self:
            yield row


class AsyncFakeConnection(FakeConnection):
    """The same with coroutine methods."""

    async def execute(self, statement: str) -> Any:
        await self.world.suspend()
        super().execute(statement)

    async def cursor(self) -> Any:
        await self.world.suspend()
        return super().cursor()

    async def ping(self) -> None:
        await self.world.suspend()
        super().ping()

    async def rollback(self) -> None:
        await self.world.suspend()
        super().rollback()

    async def commit(self) -> None:
        await self.world.suspend()
        super().commit()

    async def close(self) -> None:
        await self.world.suspend()
        super().close()
