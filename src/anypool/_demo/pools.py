"""Pools: one for the tasks, one for the threads, and who listens to them."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import aiosqlite

import anypool
from anypool import sync

from .bank import SETTINGS


class TaskListener:
    """Sets up each new connection of the tasks' pool, and counts them."""

    def __init__(self) -> None:
        self.opened = 0

    async def connect(
        self,
        connection: aiosqlite.Connection,
        record: anypool.ConnectionRecord[aiosqlite.Connection],
        /,
    ) -> None:
        """Prepare a new connection."""
        self.opened += 1
        await connection.executescript(SETTINGS)


class ThreadListener:
    """Sets up each new connection of the threads' pool, and counts them."""

    def __init__(self) -> None:
        self.opened = 0
        self._lock = threading.Lock()

    def connect(
        self,
        connection: sqlite3.Connection,
        record: anypool.ConnectionRecord[sqlite3.Connection],
        /,
    ) -> None:
        """Prepare a new connection; several threads may be here at a time."""
        with self._lock:
            self.opened += 1
        connection.executescript(SETTINGS)


@dataclass(frozen=True)
class Pools:
    """A pool for the tasks and a pool for the threads, both on one file."""

    tasks: anypool.Pool[aiosqlite.Connection]
    threads: sync.Pool[sqlite3.Connection]
    task_listener: TaskListener = field(default_factory=TaskListener)
    thread_listener: ThreadListener = field(default_factory=ThreadListener)

    def __post_init__(self) -> None:
        self.tasks.add_listener(self.task_listener)
        self.threads.add_listener(self.thread_listener)

    @classmethod
    def of_size(cls, size: int, path: Path) -> Self:
        """Keep `size` connections for the tasks and as many for the threads, no more."""
        return cls(
            anypool.QueuePool(
                lambda: aiosqlite.connect(path, isolation_level=None),
                pool_size=size,
                max_overflow=0,
            ),
            sync.QueuePool(
                lambda: sqlite3.connect(
                    path, isolation_level=None, check_same_thread=False
                ),
                pool_size=size,
                max_overflow=0,
            ),
        )

    @classmethod
    def keeping_none(cls, path: Path) -> Self:
        """Open a connection for each checkout: what a program without a pool does."""
        return cls(
            anypool.NullPool(lambda: aiosqlite.connect(path, isolation_level=None)),
            sync.NullPool(
                lambda: sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            ),
        )

    def checkedout(self) -> int:
        """Return how many connections are out; pools that keep none don't count them."""
        out = 0
        if isinstance(self.tasks, anypool.QueuePool):
            out += self.tasks.checkedout()
        if isinstance(self.threads, sync.QueuePool):
            out += self.threads.checkedout()
        return out

    async def dispose(self) -> None:
        """Close the connections of both."""
        await self.tasks.dispose()
        self.threads.dispose()
