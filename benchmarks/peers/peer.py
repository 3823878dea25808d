"""Peer: a pool that takes part, reduced to what the cases need of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any

import anyio


@dataclass(frozen=True)
class Size:
    """How large a pool is to be, and how slow to connect.

    Attributes:
        keep: How many connections it keeps.
        extra: How many more it may open.
        connect_time: Seconds that opening one takes.
    """

    keep: int = 5
    extra: int = 10
    connect_time: float = 0.0

    @property
    def limit(self) -> int:
        """How many connections there may be."""
        return self.keep + self.extra

    @property
    def at_start(self) -> int:
        """How many to open at once, where a pool can do that: none, if it takes time."""
        return 0 if self.connect_time else self.keep

    def sleep(self) -> None:
        """Take the time that connecting takes."""
        if self.connect_time:
            time.sleep(self.connect_time)

    async def sleep_async(self) -> None:
        """The same in an event loop."""
        if self.connect_time:
            await anyio.sleep(self.connect_time)


@dataclass
class BlockingPeer:
    """A pool for threads.

    Attributes:
        connect: Checks a connection out for a ``with`` block.
        explicit: Checks out and returns so many times by two calls, without a block; None:
            has no such calls.
        close: Closes the pool.
        only_explicit: Whether it has no ``with`` block; `connect` then adds one.
    """

    connect: Callable[[], AbstractContextManager[Any]]
    explicit: Callable[[int], None] | None = None
    close: Callable[[], object] = lambda: None
    only_explicit: bool = False

    def run(self, count: int) -> None:
        """Do `count` cycles in the form that its users write."""
        if self.only_explicit and self.explicit is not None:
            self.explicit(count)
            return
        connect = self.connect
        for _ in range(count):
            with connect():
                pass


async def _nothing() -> None: ...


@dataclass
class AsyncPeer:
    """A pool for tasks.

    Attributes:
        connect: Checks a connection out for an ``async with`` block.
        explicit: Checks out and returns so many times by two calls, without a block; None:
            has no such calls.
        close: Closes the pool.
    """

    connect: Callable[[], AbstractAsyncContextManager[Any]]
    explicit: Callable[[int], Awaitable[None]] | None = None
    close: Callable[[], Awaitable[object]] = _nothing

    async def run(self, count: int) -> None:
        """Do `count` cycles."""
        connect = self.connect
        for _ in range(count):
            async with connect():
                pass
