"""Which driver belongs to a connection: looked up by class, imported when first met."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .._core.driver import Driver
from .attributes import plain_autocommit
from .closing import ClosingDriver
from .coroutine import has_coroutine_methods
from .generic import GenericDriver
from .generic_async import GenericAsyncDriver
from .older import adapted

# Top-level package and class name of a connection -> module here, and the driver in it.
# By name, so that no driver is imported before the application has done so.
_KNOWN = {
    ("sqlite3", "Connection"): ("sqlite3", "SQLiteDriver"),
    ("aiosqlite", "Connection"): ("aiosqlite", "AiosqliteDriver"),
    ("psycopg", "Connection"): ("psycopg", "PsycopgDriver"),
    ("psycopg", "AsyncConnection"): ("psycopg", "AsyncPsycopgDriver"),
    ("psycopg2", "connection"): ("psycopg2", "Psycopg2Driver"),
    ("asyncpg", "Connection"): ("asyncpg", "AsyncpgDriver"),
    ("pymysql", "Connection"): ("pymysql", "PyMySQLDriver"),
    ("aiomysql", "Connection"): ("aiomysql", "AiomysqlDriver"),
    ("asyncmy", "Connection"): ("asyncmy", "AsyncmyDriver"),
    ("duckdb", "DuckDBPyConnection"): ("duckdb", "DuckDBDriver"),
    ("_duckdb", "DuckDBPyConnection"): ("duckdb", "DuckDBDriver"),
}

# What applications have registered, by class or by package and class name.
_registered: dict[type | tuple[str, str], Driver[Any]] = {}


def register_driver(connection_class: type | str, driver: Driver[Any]) -> None:
    """Have pools use a driver for all connections of a class and its subclasses.

    It goes before the drivers that anypool brings along. Connections that are open already
    keep theirs. To use a driver in one pool only, give that pool the option ``driver=``.

    Args:
        connection_class: the class of the connections; or its name, such as
            "oracledb.Connection": the top-level package in which it is defined, and its
            own name. The package need not be imported for that.
        driver: what resets, pings and closes them; one object for all connections.

    Raises:
        TypeError, ValueError: connection_class is no class and not the name of one.
    """
    if isinstance(connection_class, str):
        package, _, name = connection_class.partition(".")
        name = name.rpartition(".")[2]
        if not (package and name):
            raise ValueError(
                "connection_class: expected the name of a package and of a class in it, "
                f"such as 'oracledb.Connection', not {connection_class!r}"
            )
        _registered[package, name] = adapted(driver)
    elif isinstance(connection_class, type):
        _registered[connection_class] = adapted(driver)
    else:
        raise TypeError("connection_class: expected a class, or the name of one")


def driver_for(connection: object, *, awaited: bool) -> Driver[Any]:
    """Choose the driver for a connection.

    Args:
        connection: what the creator made.
        awaited: whether it had to be awaited. Then its methods don't block, even if they
            are plain ones.
    """
    for base in type(connection).__mro__:
        driver = _driver_of(base)
        if driver is not None:
            return driver
    if awaited or has_coroutine_methods(connection):
        return _generic_for(connection, GenericAsyncDriver)
    if hasattr(connection, "rollback") or hasattr(connection, "cursor"):
        return _generic_for(connection, GenericDriver)
    return _closing_driver


def resets_blindly(driver: Driver[Any], connection: object) -> bool:
    """Tell whether this driver says at any time that this connection needs a reset, and
    nothing else that matters."""
    return (
        type(driver) in (GenericDriver, GenericAsyncDriver)
        and hasattr(connection, "rollback")
        and plain_autocommit(connection) is None
    )


def start(connecting: object) -> None:
    """Prepare what a creator returned to be awaited."""
    if type(connecting).__module__.partition(".")[0] == "aiosqlite":
        from .aiosqlite import make_daemon

        make_daemon(connecting)


def discard(connection: object) -> None:
    """Close a connection that came too late for whoever wanted it."""
    driver_for(connection, awaited=False).terminate(connection)


def _driver_of(connection_class: type) -> Driver[Any] | None:
    name = connection_class.__module__.partition(".")[0], connection_class.__qualname__
    registered = _registered.get(connection_class) or _registered.get(name)
    if registered is not None or name not in _KNOWN:
        return registered
    module, driver_class = _KNOWN[name]
    driver: Driver[Any] = getattr(import_module(f".{module}", __package__), driver_class)()
    return driver


def _generic_for(
    connection: object, kind: type[GenericDriver | GenericAsyncDriver]
) -> Driver[Any]:
    """Return the driver of this kind for all connections of that class."""
    key = type(connection), kind
    driver = _generic.get(key)
    if driver is None:
        driver = _generic[key] = kind()
    return driver


_generic: dict[tuple[type, type], Driver[Any]] = {}
_closing_driver = ClosingDriver()
generic_driver = GenericDriver()
