"""Operations of fake connections that stop until the test lets them go on, or are slow."""

from __future__ import annotations

import time
from typing import Any, cast

import anyio

from anypool._drivers.coroutine import CoroutineDriver
from anypool._drivers.dbapi import DBAPIDriver

from .fakes import AsyncFakeConnection, FakeConnection
from .modes import PATIENCE, Mode


class Hold:
    """Stops every operation of one name, in whatever thread or loop it is made.

    Attributes:
        reached: how many operations have come here.
    """

    def __init__(self) -> None:
        self.reached = 0
        self._free = False

    def release(self) -> None:
        """Let all go on: those that wait here, and those that will come."""
        self._free = True

    def wait(self) -> None:
        self.reached += 1
        deadline = time.monotonic() + PATIENCE
        while not self._free:
            assert time.monotonic() < deadline, "a hold was never released"
            time.sleep(0.001)

    async def wait_async(self) -> None:
        self.reached += 1
        with anyio.fail_after(PATIENCE):
            while not self._free:
                await anyio.sleep(0.001)


class Holds:
    """Makes fake connections, of a mode's kind, whose operations can be held.

    Attributes:
        errors: what the next connects raise, one each.
    """

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self.errors: list[BaseException] = []
        self._holds: dict[str, Hold] = {}

    def on(self, what: str) -> Hold:
        """Stop operations of this name from now on."""
        self._holds[what] = hold = Hold()
        return hold

    def connect(self) -> Any:
        """Connect: a creator for pools."""
        return self._connect_async() if self._mode.world.coroutine else self._connect()

    def _connect(self) -> FakeConnection:
        self.wait("connect")
        return self._register(HeldConnection)

    async def _connect_async(self) -> FakeConnection:
        await self.wait_async("connect")
        return self._register(HeldAsyncConnection)

    def _register(self, kind: type[FakeConnection]) -> FakeConnection:
        if self.errors:
            raise self.errors.pop()
        self._mode.world.step("connect", 0)
        connection: Any = self._mode.world.register(kind)
        connection.holds = self
        return cast("FakeConnection", connection)

    def wait(self, what: str) -> None:
        hold = self._holds.get(what)
        if hold is not None:
            hold.wait()

    async def wait_async(self, what: str) -> None:
        hold = self._holds.get(what)
        if hold is not None:
            await hold.wait_async()


class HeldConnection(FakeConnection):
    """A blocking connection. It notes when two operations overlap."""

    holds: Holds
    busy = ""

    def execute(self, statement: str) -> Any:
        return self._held("execute", super().execute, statement)

    def ping(self) -> Any:
        return self._held("ping", super().ping)

    def rollback(self) -> Any:
        return self._held("rollback", super().rollback)

    def close(self) -> Any:
        return self._held("close", super().close)

    def _held(self, what: str, method: Any, *args: Any) -> Any:
        if self.busy:
            self.world.events.append((f"{what} during {self.busy}", self.number))
        self.busy = what
        try:
            self.holds.wait(what)
            return method(*args)
        finally:
            self.busy = ""


class HeldAsyncConnection(AsyncFakeConnection):
    """A connection with coroutine methods. It notes when two operations overlap."""

    holds: Holds
    busy = ""

    async def execute(self, statement: str) -> Any:
        return await self._held("execute", super().execute, statement)

    async def ping(self) -> None:
        await self._held("ping", super().ping)

    async def rollback(self) -> None:
        await self._held("rollback", super().rollback)

    async def close(self) -> None:
        await self._held("close", super().close)

    async def _held(self, what: str, method: Any, *args: Any) -> Any:
        if self.busy:
            self.world.events.append((f"{what} during {self.busy}", self.number))
        self.busy = what
        try:
            await self.holds.wait_async(what)
            return await method(*args)
        finally:
            self.busy = ""


def overlaps(mode: Mode) -> list[str]:
    """Return what was done to connections while something else was going on there."""
    return [what for what, _ in mode.world.events if " during " in what]


def waiting(pool: Any) -> int:
    """Return how many callers are in a QueuePool's queue."""
    return len(getattr(pool, "async_pool", pool)._ledger.waiters)


class _Interruptible(CoroutineDriver):
    async def interrupt(self, connection: Any, /) -> None:
        pass

    async def ping(self, connection: Any, /) -> None:
        await connection.ping()


class _BlockingInterruptible(DBAPIDriver):
    def interrupt(self, connection: Any, /) -> None:
        pass


def interruptible(mode: Mode) -> Any:
    """Return a driver whose connections can be reset after an interrupted statement."""
    return _Interruptible() if mode.world.coroutine else _BlockingInterruptible()


def slow_connects(mode: Mode, seconds: float) -> None:
    """Let each connect take so long."""
    create = mode.world.connect

    def slow() -> Any:
        time.sleep(seconds)
        return create()

    async def slow_async() -> Any:
        await anyio.sleep(seconds)
        return await create()

    mode.world.connect = slow_async if mode.world.coroutine else slow  # type: ignore[method-assign]  # a slower one
