"""What the suite runs on: interpreter, machine and versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = (
    "anypool",
    "anyio",
    "trio",
    "uvloop",
    "SQLAlchemy",
    "greenlet",
    "psycopg",
    "psycopg-pool",
    "asyncpg",
    "DBUtils",
    "aiosqlite",
    "aiosqlitepool",
    "generic-connection-pool",
)


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread, and those that it starts, on one core, if the system can do that.

    A request that goes to another thread and back takes twice as long if the two happen to
    be on different cores, and that changes from turn to turn.
    """
    before = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set[int]()
    if before:
        os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        if before:
            os.sched_setaffinity(0, before)


def describe() -> dict[str, Any]:
    """Return what a figure means nothing without."""
    return {
        "interpreter": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 0,
        "memory_gib": _memory_gib(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _memory_gib() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None
    return round(size / 2**30, 1)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
