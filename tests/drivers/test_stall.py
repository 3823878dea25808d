"""A network in which nothing moves any more: what is bounded then."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from .conftest import Live
from .servers import PATIENCE

BOUND = 0.3


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library's limits be short, so that the tests are."""
    monkeypatch.setattr("anypool._core.bounds.RETURN_TIMEOUT", BOUND)
    monkeypatch.setattr("anypool._core.bounds.CLOSE_TIMEOUT", BOUND)
    monkeypatch.setattr("anypool._drivers.psycopg.CANCEL_TIMEOUT", BOUND)
    monkeypatch.setattr("anypool._drivers.asyncpg.CLOSE_TIMEOUT", BOUND)


async def test_cancelled_while_the_network_stalls(mode: Live) -> None:
    if mode.blocking:
        pytest.skip("threads can't be cancelled")
    pool = mode.pool(pool_size=1, max_overflow=0)
    sessions: list[int] = []

    async def sleep() -> None:
        async with pool.connect() as connection:
            sessions.append(await mode.session(pool, connection))
            await mode.execute(pool, connection, mode.server.sleep)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleep)
        with anyio.fail_after(PATIENCE):
            while not sessions or not mode.server.ask(mode.server.is_asleep(sessions[0])):
                await anyio.sleep(0.005)
        mode.proxy.stall()
        start = time.monotonic()
        tasks.cancel_scope.cancel()
    assert time.monotonic() - start < 2
    await mode.until(lambda: pool.checkedout() == 0)
    mode.proxy.resume()
    async with pool.connect() as connection:
        assert await mode.session(pool, connection) != sessions[0]
    mode.server.kill(sessions[0])  # which nobody could tell that it is over


async def test_closing_while_the_network_stalls(mode: Live) -> None:
    pool: Any = mode.pool(pool_size=1, max_overflow=0)
    async with mode.block(pool.connect()) as connection:
        await mode.session(pool, connection)
    mode.proxy.stall()
    start = time.monotonic()
    await mode.go(pool.dispose())
    assert time.monotonic() - start < 2
