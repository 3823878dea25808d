"""Which pools take part, and whether they can here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from ..result import OURS
from .peer import AsyncPeer, BlockingPeer, Size


@dataclass(frozen=True)
class Entry:
    """One library.

    Attributes:
        name: For tables and charts.
        module: Which module of this package uses it.
        fair: Whether it means to serve waiters first come, first served.
        trio: Whether it runs on trio too.
    """

    name: str
    module: str
    fair: bool = False
    trio: bool = False

    def load(self) -> ModuleType:
        """Import it.

        Raises:
            ImportError: the library isn't installed.
        """
        return import_module(f".{self.module}", __package__)


ENTRIES = (
    Entry(OURS, "ours", fair=True, trio=True),
    Entry("floor", "floor", trio=True),
    Entry("SQLAlchemy", "sqlalchemy_pool"),
    Entry("psycopg_pool", "psycopg_pools", fair=True),
    Entry("asyncpg", "asyncpg_pool", fair=True),
    Entry("DBUtils", "dbutils_pool"),
    Entry("aiosqlitepool", "aiosqlite_pool", fair=True),
    Entry("generic-connection-pool", "generic_pool"),
)

FAIR = frozenset(entry.name for entry in ENTRIES if entry.fair)
FLOOR = "floor"
"""The smallest possible pool. It is no peer: it can't do what a pool has to."""


def missing() -> list[str]:
    """Say which libraries can't take part, and why."""
    reasons = []
    for entry in ENTRIES:
        try:
            entry.load()
        except ImportError as error:
            reasons.append(f"{entry.name}: {error}")
    return reasons


def blocking_peers() -> dict[str, Callable[[Size], BlockingPeer]]:
    """Return what makes the pools for threads, ours first."""
    return _makers("blocking", trio=False)


def async_peers(backend: str) -> dict[str, Callable[[Size], Awaitable[AsyncPeer]]]:
    """Return what makes the pools for tasks on one kind of event loop, ours first."""
    return _makers("asynchronous", trio=backend == "trio")


def _makers(name: str, *, trio: bool) -> dict[str, Any]:
    makers = {}
    for entry in ENTRIES:
        if trio and not entry.trio:
            continue
        try:
            maker = getattr(entry.load(), name, None)
        except ImportError:
            continue
        if maker is not None:
            makers[entry.name] = maker
    return makers
