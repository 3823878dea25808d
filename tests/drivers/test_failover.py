"""A server that ends all of its sessions at once: who sees an error, and how many."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Live


async def _fails(mode: Live, pool: Any) -> bool:
    """Be a caller; tell whether that brought an error."""
    try:
        async with mode.block(pool.connect()) as connection:
            await mode.execute(pool, connection, "SELECT 1")
    except Exception:
        return True
    return False


async def _sessions(mode: Live, pool: Any, leases: list[Any]) -> list[int]:
    return [await mode.session(pool, lease.connection) for lease in leases]


async def test_one_error_for_all_idle_connections(mode: Live) -> None:
    pool = mode.pool(pool_size=4, on_disconnect="pool")
    leases = [await mode.go(pool.unique_connection()) for _ in range(4)]
    sessions = await _sessions(mode, pool, leases)
    for lease in leases:
        await mode.go(lease.close())
    for session in sessions:
        mode.server.kill(session)
    failures = [await _fails(mode, pool) for _ in range(8)]
    # None, if the driver noticed before it handed the first connection out.
    assert sum(failures) <= 1
    assert not any(failures[1:])
    await mode.until(lambda: pool.checkedin() == 1)


async def test_one_error_for_each_caller(mode: Live) -> None:
    pool = mode.pool(pool_size=4, on_disconnect="pool")
    leases = [await mode.go(pool.unique_connection()) for _ in range(4)]
    sessions = await _sessions(mode, pool, leases)
    for lease in leases[2:]:
        await mode.go(lease.close())
    for session in sessions:
        mode.server.kill(session)
    for lease in leases[:2]:
        try:
            await mode.execute(pool, lease.connection, "SELECT 1")
        except Exception as error:
            await mode.go(lease.invalidate(error))
        else:
            raise AssertionError("the session had been ended")
    # By now there is one new connection, which the other's late error must leave alone.
    assert not await _fails(mode, pool)
    connects = mode.proxy.connects
    assert not any([await _fails(mode, pool) for _ in range(4)])
    assert mode.proxy.connects == connects
    assert pool.checkedout() == 0


@pytest.mark.parametrize("how", ["class", "function"])
async def test_error_that_only_the_application_knows(mode: Live, how: str) -> None:
    """Here: a table is missing, since this server is not the one that it was."""
    statement = "SELECT * FROM anypool_moved"

    async def fail(pool: Any) -> Exception:
        with pytest.raises(Exception, match="anypool_moved") as caught:
            async with mode.block(pool.connect()) as connection:
                await mode.execute(pool, connection, statement)
        return caught.value

    pool = mode.pool(pool_size=3, on_disconnect="pool")
    error = await fail(pool)
    assert pool.stats().closed == {}, "to the driver it is an error like any other"

    known = type(error) if how == "class" else _is_moved
    pool = mode.pool(pool_size=3, on_disconnect="pool", is_disconnect=known)
    leases = [await mode.go(pool.unique_connection()) for _ in range(3)]
    for lease in leases:
        await mode.go(lease.close())
    await fail(pool)
    await mode.until(lambda: sum(pool.stats().closed.values()) == 3)
    connects = mode.proxy.connects
    assert not any([await _fails(mode, pool) for _ in range(4)])
    assert mode.proxy.connects == connects + 1


def _is_moved(error: Exception, connection: object) -> bool:
    return "anypool_moved" in str(error)
