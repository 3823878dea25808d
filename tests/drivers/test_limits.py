"""A server that has no room for another connection."""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import quote

import pytest

import anypool

from ..support.modes import PATIENCE
from .conftest import Live
from .servers import PASSWORD

LIMIT = 2


async def test_no_room_on_the_server(mode: Live, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "anypool")
    with mode.server.account(LIMIT) as name:
        login = f"{name}:{quote(PASSWORD, safe='')}"
        others = mode.pool(login=login, pool_size=LIMIT)
        pool = mode.pool(login=login, pool_size=3, max_overflow=0, echo="debug")
        held = [await mode.go(others.unique_connection()) for _ in range(LIMIT)]
        errors = [await _refused(mode, pool) for _ in range(5)]
        assert (pool.checkedout(), others.checkedout()) == (0, LIMIT)
        assert not any(isinstance(error, anypool.PoolError) for error in errors)

        # Room for one, which is taken; the next is refused, and that takes nothing away.
        await mode.go(held.pop().invalidate())
        await mode.until(lambda: mode.server.ask(mode.server.sessions_of(name)) == 1)
        lease = await _served(mode, pool)
        connection = lease.connection
        assert await mode.execute(pool, connection, "SELECT 1") == 1
        errors.append(await _refused(mode, pool))
        assert pool.checkedout() == 1
        await mode.go(lease.close())
        # First in, first out: the slot without a connection has its turn as well.
        errors.append(await _refused(mode, pool))
        async with mode.block(pool.unique_connection()) as again:
            assert again is connection

        # Room for all, and all slots are there.
        await mode.go(held.pop().invalidate())
        await mode.until(lambda: mode.server.ask(mode.server.sessions_of(name)) == 1)
        leases = [await _served(mode, pool) for _ in range(LIMIT)]
        assert pool.checkedout() == LIMIT
        for lease in leases:
            await mode.go(lease.close())
        await mode.go(pool.dispose())
        await mode.go(others.dispose())
        assert (pool.checkedout(), pool.overflow()) == (0, -3)
        await mode.until(lambda: mode.server.ask(mode.server.sessions_of(name)) == 0)
        shown = f"{pool!r} {caplog.text} {errors!r} {[str(error) for error in errors]}"
        assert PASSWORD not in shown
        assert quote(PASSWORD, safe="") not in shown


async def _served(mode: Live, pool: Any) -> Any:
    """Check out. The server shows a session no more a moment before it has room again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await mode.go(pool.unique_connection())
        except Exception:
            if time.monotonic() > deadline:
                raise
            await mode.settle()


async def _refused(mode: Live, pool: Any) -> Exception:
    try:
        lease = await mode.go(pool.unique_connection())
    except Exception as error:
        return error
    raise AssertionError(f"there was room: {lease}")
