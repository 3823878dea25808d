"""Endings: the ways in which a caller lets go of a connection."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anyio

from ._stage import Stage

Use: TypeAlias = Callable[[Any], Awaitable[None]]
"""What a caller does with its connection."""

Ending: TypeAlias = Callable[[Stage, Any, Use], Awaitable[float]]
"""Checks a connection out of a pool, uses it, and lets go of it in some way; returns when
it began to do that."""


class _CallersOwnError(Exception):
    """Says nothing of the connection."""


async def _block(stage: Stage, pool: Any, use: Use) -> float:
    async with stage.block(pool) as connection:
        await use(connection)
        start = time.monotonic()
    return start


async def _error(stage: Stage, pool: Any, use: Use) -> float:
    start = time.monotonic()
    try:
        async with stage.block(pool) as connection:
            await use(connection)
            start = time.monotonic()
            raise _CallersOwnError
    except _CallersOwnError:
        return start


async def _close(stage: Stage, pool: Any, use: Use) -> float:
    lease = await stage.go(pool.connect())
    try:
        await use(lease.connection)
    finally:
        start = time.monotonic()
        await stage.go(lease.close())
    return start


async def _drop(stage: Stage, pool: Any, use: Use) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        lease = await stage.go(pool.connect())
        await use(lease.connection)
        start = time.monotonic()
        del lease
        gc.collect()
    return start


async def _cancel(stage: Stage, pool: Any, use: Use) -> float:
    start = time.monotonic()
    with anyio.CancelScope() as scope:
        async with pool.connect() as connection:
            await use(connection)
            start = time.monotonic()
            scope.cancel()
            await anyio.sleep_forever()
    return start


_ENDINGS: dict[str, Ending] = {
    "block": _block,
    "error": _error,
    "close": _close,
    "drop": _drop,
}


def endings_of(stage: Stage) -> dict[str, Ending]:
    """Return the endings that there are in a mode, by their names."""
    return _ENDINGS if stage.blocking else _ENDINGS | {"cancel": _cancel}
