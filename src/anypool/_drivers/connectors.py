"""From a database URL to a creator: what each driver's connect function wants to hear."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any, NamedTuple

from .._core.url import DatabaseURL

Creator = Callable[[], Any]
"""Returns a new connection, or an awaitable of one."""


class Connector(NamedTuple):
    """How to connect with one driver.

    Attributes:
        package: the package to import.
        extra: the extra of anypool that installs it; None if Python brings it along.
        creator: makes the creator, from the package and the URL.
        embedded: whether the database lives in this process, in a file or in memory.
    """

    package: str
    extra: str | None
    creator: Callable[[Any, DatabaseURL], Creator]
    embedded: bool = False


def connector_for(url: DatabaseURL, *, blocking: bool) -> Connector:
    """Choose the connector by the URL's scheme.

    Args:
        url: the URL.
        blocking: what to prefer where a scheme allows for both kinds of connections.

    Raises:
        ValueError: there is no such scheme.
    """
    scheme = url.scheme
    scheme = _DEFAULTS.get(scheme, (scheme, scheme))[0 if blocking else 1]
    if scheme == "postgresql+psycopg" and not blocking:
        return _ASYNC_PSYCOPG
    if scheme not in _CONNECTORS:
        known = ", ".join(sorted([*_CONNECTORS, *_DEFAULTS]))
        raise ValueError(f"url: unknown scheme; known are {known}")
    return _CONNECTORS[scheme]


def creator_for(connector: Connector, url: DatabaseURL) -> Creator:
    """Import the driver and return a function that connects to the URL's database.

    Raises:
        ModuleNotFoundError: the driver is not installed; the message says what to install.
    """
    if find_spec(connector.package) is None:
        raise ModuleNotFoundError(
            f"{url.scheme}:// needs the driver {connector.package}, which is not "
            f"installed: pip install 'anypool[{connector.extra}]'",
            name=connector.package,
        )
    return connector.creator(import_module(connector.package), url)


def _sqlite(module: Any, url: DatabaseURL) -> Creator:
    # A pool hands connections from thread to thread, one at a time.
    arguments = {"check_same_thread": False} | url.arguments
    return partial(module.connect, url.database or ":memory:", **arguments)


def _duckdb(module: Any, url: DatabaseURL) -> Creator:
    return partial(module.connect, url.database or ":memory:", **url.arguments)


def _psycopg(module: Any, url: DatabaseURL) -> Creator:
    arguments = _addressed(url, user="user", database="dbname")
    return partial(module.connect, **arguments)


def _async_psycopg(module: Any, url: DatabaseURL) -> Creator:
    arguments = _addressed(url, user="user", database="dbname")
    return _awaiting(module.AsyncConnection.connect, arguments)


def _psycopg2(module: Any, url: DatabaseURL) -> Creator:
    arguments = _addressed(url, user="user", database="dbname")
    # Its connect function doesn't know this one, as all others do.
    autocommit = arguments.pop("autocommit", False)

    def connect() -> Any:
        connection = module.connect(**arguments)
        connection.autocommit = autocommit
        return connection

    return connect


def _asyncpg(module: Any, url: DatabaseURL) -> Creator:
    arguments = _addressed(url, user="user", database="database")
    # As in a DSN: what the driver doesn't know are settings of the server's.
    known = signature(module.connect).parameters
    if "sslmode" in arguments:
        arguments["ssl"] = arguments.pop("sslmode")
    settings = {
        name: str(arguments.pop(name)) for name in list(arguments) if name not in known
    }
    if settings:
        arguments["server_settings"] = settings
    return _awaiting(module.connect, arguments)


def _mysql(module: Any, url: DatabaseURL) -> Creator:
    arguments = _addressed(url, user="user", database="database")
    return partial(module.connect, **arguments)


def _async_mysql(module: Any, url: DatabaseURL) -> Creator:
    arguments = _addressed(url, user="user", database="db")
    return _awaiting(module.connect, arguments)


def _awaiting(function: Callable[..., Any], arguments: dict[str, Any]) -> Creator:
    """Make a creator that is a coroutine function, as can be seen before it is called."""

    async def connect(**arguments: Any) -> Any:
        return await function(**arguments)

    return partial(connect, **arguments)


def _addressed(url: DatabaseURL, *, user: str, database: str) -> dict[str, Any]:
    """Name the URL's parts as a driver does, without those that are not given."""
    parts = {
        "host": url.host,
        "port": url.port,
        user: url.user,
        "password": url.password,
        database: url.database or None,
    }
    given = {name: value for name, value in parts.items() if value is not None}
    return given | url.arguments


_PSYCOPG = Connector("psycopg", "psycopg", _psycopg)
_ASYNC_PSYCOPG = Connector("psycopg", "psycopg", _async_psycopg)

_CONNECTORS = {
    "sqlite+sqlite3": Connector("sqlite3", None, _sqlite, embedded=True),
    "sqlite+aiosqlite": Connector("aiosqlite", "aiosqlite", _sqlite, embedded=True),
    "postgresql+psycopg": _PSYCOPG,
    "postgresql+psycopg2": Connector("psycopg2", "psycopg2", _psycopg2),
    "postgresql+asyncpg": Connector("asyncpg", "asyncpg", _asyncpg),
    "mysql+pymysql": Connector("pymysql", "pymysql", _mysql),
    "mysql+aiomysql": Connector("aiomysql", "aiomysql", _async_mysql),
    "mysql+asyncmy": Connector("asyncmy", "asyncmy", _async_mysql),
    "duckdb+duckdb": Connector("duckdb", "duckdb", _duckdb, embedded=True),
}

# A scheme without a driver -> the one for blocking pools, the one for async pools.
_DEFAULTS = {
    "sqlite": ("sqlite+sqlite3", "sqlite+sqlite3"),
    "postgresql": ("postgresql+psycopg", "postgresql+psycopg"),
    "postgres": ("postgresql+psycopg", "postgresql+psycopg"),
    "mysql": ("mysql+pymysql", "mysql+aiomysql"),
    "mariadb": ("mysql+pymysql", "mysql+aiomysql"),
    "duckdb": ("duckdb+duckdb", "duckdb+duckdb"),
}
