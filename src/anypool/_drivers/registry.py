"""Which driver belongs to a connection: looked up by class, imported when first met."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .coroutine import CoroutineDriver, has_coroutine_methods
from .dbapi import DBAPIDriver
from .protocol import Driver

# Top-level package and class name of a connection -> module here, and the driver in it.
# By name, so that no driver is imported before the application has done so.
_KNOWN = {
    ("sqlite3", "Connection"): ("sqlite3", "SQLiteDriver"),
    ("aiosqlite", "Connection"): ("aiosqlite", "AiosqliteDriver"),
}


def driver_for(connection: object, *, awaited: bool) -> Driver[Any]:
    """Choose the driver for a connection.

    Args:
        connection: what the creator made.
        awaited: whether it had to be awaited. Then its methods don't block, even if they
            are plain ones.
    """
    known = _known_driver(type(connection))
    if known is not None:
        return known
    if awaited or has_coroutine_methods(connection):
        return _coroutine_driver
    return _dbapi_driver


def _known_driver(connection_class: type) -> Driver[Any] | None:
    for base in connection_class.__mro__:
        entry = _KNOWN.get((base.__module__.partition(".")[0], base.__qualname__))
        if entry is not None:
            module = import_module(f".{entry[0]}", __package__)
            driver: Driver[Any] = getattr(module, entry[1])()
            return driver
    return None


_coroutine_driver = CoroutineDriver()
_dbapi_driver = DBAPIDriver()
