"""From a database URL to a creator: which driver it is to be."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias

from .._core.url import DatabaseURL
from .creators import asyncpg, duckdb, libpq, mysql, sqlite

Creator: TypeAlias = "partial[Any]"
"""Returns a new connection, or an awaitable of one."""


class Connector(NamedTuple):
    """How to connect with one driver.

    Attributes:
        package: the package to import.
        extra: the extra of anypool that installs it; None if Python brings it along.
        creator: makes the creator, from the package, the URL, and what no URL can carry.
        embedded: whether the database lives in this process, in a file or in memory.
    """

    package: str
    extra: str | None
    creator: Callable[[Any, DatabaseURL, dict[str, Any]], Creator]
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


def creator_for(
    connector: Connector, url: DatabaseURL, connect_args: dict[str, Any] | None = None
) -> Creator:
    """Import the driver and return a function that connects to the URL's database.

    It is a ``functools.partial`` whose keywords are the arguments, so that before_connect
    listeners can change them.

    Raises:
        ModuleNotFoundError: the driver is not installed; the message says what to install.
        TypeError, ValueError: an argument is not one of the driver's.
    """
    if find_spec(connector.package) is None:
        raise ModuleNotFoundError(
            f"{url.scheme}:// needs the driver {connector.package}, which is not "
            f"installed: pip install 'anypool[{connector.extra}]'",
            name=connector.package,
        )
    return connector.creator(import_module(connector.package), url, connect_args or {})


def is_private_memory(url: DatabaseURL) -> bool:
    """Tell whether each connection to an embedded database would have one of its own."""
    name, arguments = url.database, url.arguments
    in_memory = (
        name in ("", ":memory:")
        or name.startswith("file::memory:")
        or (name.startswith("file:") and "mode=memory" in name)
        or arguments.get("mode") == "memory"
    )
    return in_memory and arguments.get("cache") != "shared" and "cache=shared" not in name


_ASYNC_PSYCOPG = Connector("psycopg", "psycopg", libpq.async_psycopg)

_CONNECTORS = {
    "sqlite+sqlite3": Connector("sqlite3", None, sqlite.creator, embedded=True),
    "sqlite+aiosqlite": Connector("aiosqlite", "aiosqlite", sqlite.creator, embedded=True),
    "postgresql+psycopg": Connector("psycopg", "psycopg", libpq.psycopg),
    "postgresql+psycopg2": Connector("psycopg2", "psycopg2", libpq.psycopg2),
    "postgresql+asyncpg": Connector("asyncpg", "asyncpg", asyncpg.creator),
    "mysql+pymysql": Connector("pymysql", "pymysql", mysql.pymysql),
    "mysql+aiomysql": Connector("aiomysql", "aiomysql", mysql.aiomysql),
    "mysql+asyncmy": Connector("asyncmy", "asyncmy", mysql.asyncmy),
    "duckdb+duckdb": Connector("duckdb", "duckdb", duckdb.creator, embedded=True),
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
