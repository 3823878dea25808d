"""What the kit knows of a pool's inside. There is no more of that than in this file."""

from __future__ import annotations

from inspect import isawaitable
from typing import Any

from anypool import Driver, Pool, QueuePool, sync

from .._drivers.registry import driver_for


def async_pool(pool: Pool[Any] | sync.Pool[Any]) -> Pool[Any]:
    """Return the pool itself, or the one that a facade wraps."""
    return pool.async_pool if isinstance(pool, sync.Pool) else pool


def runtime_of(pool: Pool[Any] | sync.Pool[Any]) -> Any:
    """Return what a pool asks for the time, and waits with."""
    return async_pool(pool)._runtime


def settle(pool: Pool[Any] | sync.Pool[Any]) -> None:
    """Have a pool settle in its event loop, if it has one.

    Raises:
        InvalidRequestError: an async pool, where no event loop runs.
    """
    if isinstance(pool, sync.Pool):
        pool.call(runtime_of(pool).caller)
    else:
        pool._runtime.caller()


def rouse(pool: Pool[Any] | sync.Pool[Any]) -> None:
    """Have what looks after an opened pool look at once."""
    inner = async_pool(pool)
    if isinstance(inner, QueuePool):  # others need nobody to look after them
        inner._runtime.post(inner._keeper.kick)


def chosen_driver(connection: object, made: object) -> Driver[Any]:
    """Return the driver that pools take for a connection.

    Args:
        connection: the connection.
        made: what the creator returned, perhaps an awaitable of it.
    """
    return driver_for(connection, awaited=isawaitable(made))
