"""create_pool(): a pool from a database URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from .._core.lease import PooledConnection
from .._core.options import QueuePoolOptions
from .._core.url import DatabaseURL, value_of
from .queue import QueuePool

if TYPE_CHECKING:
    from .._drivers.connectors import Creator


def create_pool(
    url: str,
    *,
    connect_args: Mapping[str, Any] | None = None,
    **options: Unpack[QueuePoolOptions[Any, PooledConnection[Any]]],
) -> QueuePool[Any]:
    """Make a pool of connections to the database at a URL.

    ``sqlite:///app.db``, ``sqlite+aiosqlite:///app.db``, ``sqlite://`` (in memory),
    ``postgresql://user:password@host/database`` (psycopg), ``postgresql+asyncpg://...``,
    ``postgresql+psycopg2://...``, ``mysql+aiomysql://...``, ``mysql+asyncmy://...``,
    ``mysql+pymysql://...``, ``duckdb:///app.duckdb``. With a blocking driver, the pool's
    own calls go through worker threads; use ``pool.call()`` for yours.

    Args:
        url: where the database is. Arguments after a question mark are the pool's options
            (``?pool_size=20&timeout=5``); others go to the driver's connect function.
        connect_args: further arguments of the driver's connect function, for what no URL
            can carry. They go before the URL's. Default none.
        options: see QueuePoolOptions. They go before the URL's.

    Returns:
        A pool whose connections are typed Any, since only the URL says what they are. To
        have them checked, write ``QueuePool(lambda: driver.connect(...))``.

    Raises:
        TypeError, ValueError: something is wrong with the URL or an option. The message
            shows no secrets.
        ModuleNotFoundError: the driver is not installed; the message says what to install.
    """
    creator, merged = interpret(url, connect_args, dict(options), blocking=False)
    return QueuePool(creator, **merged)


def interpret(
    text: str,
    connect_args: Mapping[str, Any] | None,
    options: dict[str, Any],
    *,
    blocking: bool,
) -> tuple[Creator, dict[str, Any]]:
    """Make of a URL what a pool needs: a creator, and the options with the URL's added."""
    url = DatabaseURL(text)
    # By need: most programs bring a creator of their own.
    from .._drivers.connectors import connector_for, creator_for, is_private_memory

    connector = connector_for(url, blocking=blocking)
    mine = {
        name: value_of(name, url.arguments.pop(name), str if name == "name" else None)
        for name in list(url.arguments)
        if name in _OPTIONS
    }
    options = mine | options
    if connector.embedded and is_private_memory(url):
        _keep_to_one(options)
    return creator_for(connector, url, dict(connect_args or {})), options


def _keep_to_one(options: dict[str, Any]) -> None:
    """Each connection to memory opens a database of its own; so there can be just one."""
    for name, value in (("pool_size", 1), ("max_overflow", 0)):
        if options.setdefault(name, value) != value:
            raise ValueError(
                f"{name}: a database in memory belongs to one connection, so that {value} "
                "is all there can be; for more use a file, a shared cache "
                "(file:NAME?mode=memory&cache=shared), StaticPool, or a pool with one for "
                "each caller (SingletonTaskPool, sync.SingletonThreadPool)"
            )


_OPTIONS = QueuePoolOptions.__optional_keys__ - {
    "listeners",
    "driver",
    "is_disconnect",
}
