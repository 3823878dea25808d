"""The smallest possible pool: a deque, a semaphore, and no promises.

No rollback, no cleanup after an exception, no timeout, no listeners, nothing but the
connections. What it costs, nobody can undercut.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

import anyio

from ..fakes import AsyncConnection, Connection
from .peer import AsyncPeer, BlockingPeer, Size


class _AsyncFloor:
    __slots__ = ("_connection", "_idle", "_semaphore")

    def __init__(self, idle: deque[AsyncConnection], semaphore: anyio.Semaphore) -> None:
        self._idle = idle
        self._semaphore = semaphore

    async def __aenter__(self) -> AsyncConnection:
        try:
            self._semaphore.acquire_nowait()
        except anyio.WouldBlock:
            await self._semaphore.acquire()
        self._connection = connection = self._idle.popleft()
        return connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._idle.append(self._connection)
        self._semaphore.release()


class _Floor:
    __slots__ = ("_connection", "_idle", "_semaphore")

    def __init__(self, idle: deque[Connection], semaphore: threading.Semaphore) -> None:
        self._idle = idle
        self._semaphore = semaphore

    def __enter__(self) -> Connection:
        self._semaphore.acquire()
        self._connection = connection = self._idle.popleft()
        return connection

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._idle.append(self._connection)
        self._semaphore.release()


async def asynchronous(size: Size) -> AsyncPeer:
    idle = deque(AsyncConnection() for _ in range(size.keep))
    semaphore = anyio.Semaphore(size.keep)
    return AsyncPeer(lambda: _AsyncFloor(idle, semaphore))


def blocking(size: Size) -> BlockingPeer:
    idle = deque(Connection() for _ in range(size.keep))
    semaphore = threading.Semaphore(size.keep)
    return BlockingPeer(lambda: _Floor(idle, semaphore))
