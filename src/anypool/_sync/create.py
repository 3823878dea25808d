"""create_pool(): a blocking pool from a database URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import Unpack

from .._core.options import QueuePoolOptions
from .._pools.create import interpret
from .lease import PooledConnection
from .queue import QueuePool


def create_pool(
    url: str,
    *,
    connect_args: Mapping[str, Any] | None = None,
    **options: Unpack[QueuePoolOptions[Any, PooledConnection[Any]]],
) -> QueuePool[Any]:
    """Make a blocking pool of connections to the database at a URL.

    URLs are those of ``anypool.create_pool()``; ``postgresql://`` gives blocking
    connections of psycopg, ``mysql://`` those of PyMySQL. With an async driver, use
    ``pool.call()`` to use the connections.

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
    creator, merged = interpret(url, connect_args, dict(options), blocking=True)
    return QueuePool(creator, **merged)
