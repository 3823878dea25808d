"""Errors that mean a lost connection, and what goes with it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import anypool

from .support.modes import Mode


class Gone(ConnectionError):
    """What the driver of the fakes raises when the server is gone."""


async def _fail(mode: Mode, pool: Any, error: Exception) -> None:
    with pytest.raises(type(error)):
        async with mode.block(pool.connect()):
            raise error


async def _number(mode: Mode, pool: Any) -> int:
    async with mode.block(pool.connect()) as connection:
        number: int = connection.number
        return number


async def _fill(mode: Mode, pool: Any, count: int) -> None:
    """Have the pool open some connections and keep them."""
    leases = [await mode.go(pool.unique_connection()) for _ in range(count)]
    for lease in leases:
        await mode.go(lease.close())


@pytest.mark.parametrize("kind", ["QueuePool", "AssertionPool", "Singleton", "StaticPool"])
async def test_one_connection_goes(mode: Mode, kind: str) -> None:
    pool = mode.pool(kind)
    assert await _number(mode, pool) == 1
    await _fail(mode, pool, ValueError())
    assert await _number(mode, pool) == 1
    await _fail(mode, pool, Gone())
    assert await _number(mode, pool) == 2
    await mode.go(pool.dispose())


@pytest.mark.parametrize("scope", ["connection", "pool"])
async def test_error_in_a_group(mode: Mode, scope: str) -> None:
    """As a task group in the block raises it, maybe with others, and in a group itself."""
    pool = mode.pool(pool_size=2, on_disconnect=scope)
    await _fill(mode, pool, 2)
    harmless = ExceptionGroup("", [ValueError(), KeyError()])
    await _fail(mode, pool, harmless)
    assert mode.world.open == [1, 2]
    await _fail(mode, pool, ExceptionGroup("", [harmless, ExceptionGroup("", [Gone()])]))
    assert await _number(mode, pool) == (1 if scope == "connection" else 3)
    gone = 1 if scope == "connection" else 2
    await mode.until(lambda: mode.world.count("close") == gone)
    await mode.go(pool.dispose())


async def test_error_in_a_group_with_an_interrupt(mode: Mode) -> None:
    pool = mode.pool(pool_size=1)
    group = BaseExceptionGroup("", [KeyboardInterrupt(), Gone()])
    with pytest.raises(BaseExceptionGroup):
        async with mode.block(pool.connect()):
            raise group
    assert pool.stats().closed == {"invalid": 1}
    await mode.go(pool.dispose())


async def test_others_stay_by_default(mode: Mode) -> None:
    pool = mode.pool(pool_size=3)
    await _fill(mode, pool, 3)
    await _fail(mode, pool, Gone())
    assert await _number(mode, pool) == 2
    assert mode.world.open == [2, 3]
    await mode.go(pool.dispose())


async def test_all_idle_connections_go(mode: Mode) -> None:
    pool = mode.pool(pool_size=3, on_disconnect="pool")
    await _fill(mode, pool, 3)
    await _fail(mode, pool, Gone())
    await mode.until(lambda: mode.world.open == [])
    assert await _number(mode, pool) == 4
    assert await _number(mode, pool) == 4
    assert pool.checkedout() == 0
    assert (pool.checkedin(), pool.overflow()) == (1, -2)
    await mode.go(pool.dispose())


async def test_those_that_are_out_go_when_they_return(mode: Mode) -> None:
    pool = mode.pool(pool_size=2, max_overflow=0, on_disconnect="pool")
    other = await mode.go(pool.unique_connection())
    await _fail(mode, pool, Gone())
    assert other.connection.number == 1, "its caller may still use it"
    await mode.go(other.close())
    await mode.until(lambda: mode.world.open == [])
    await _fill(mode, pool, 2)
    assert mode.world.open == [3, 4]
    await mode.go(pool.dispose())


async def test_late_news_of_an_old_connection(mode: Mode) -> None:
    pool = mode.pool(pool_size=3, on_disconnect="pool")
    first = await mode.go(pool.unique_connection())
    second = await mode.go(pool.unique_connection())
    await mode.go(first.invalidate(Gone()))
    assert await _number(mode, pool) == 3
    await mode.go(second.invalidate(Gone()))
    assert await _number(mode, pool) == 3, "it is newer than what was lost"
    await mode.go(pool.dispose())


async def test_what_is_no_news_of_the_server(mode: Mode) -> None:
    pool = mode.pool(pool_size=2, on_disconnect="pool")
    await _fill(mode, pool, 2)
    await _fail(mode, pool, ValueError())
    lease = await mode.go(pool.connect())
    await mode.go(lease.invalidate())
    async with mode.block(pool.connect()) as connection:
        survivor = connection.number
    for _ in range(2):
        lease = await mode.go(pool.connect())
        if lease.connection.number != survivor:
            lease.connection.closed = True  # by its user
        await mode.go(lease.close())
    assert survivor in mode.world.open
    await mode.go(pool.dispose())


async def test_a_listener_that_finds_a_dead_connection(mode: Mode) -> None:
    dead: set[int] = set()

    class Look:
        def checkout(self, connection: Any, record: object, lease: object) -> None:
            if connection.number in dead:
                raise anypool.DisconnectionError

    pool = mode.pool(pool_size=3, on_disconnect="pool", listeners=[Look()])
    await _fill(mode, pool, 3)
    dead.add(1)
    assert await _number(mode, pool) == 4
    await mode.until(lambda: mode.world.open == [4])
    await mode.go(pool.dispose())


async def test_a_reset_that_finds_a_dead_connection(mode: Mode) -> None:
    pool = mode.pool(pool_size=3, on_disconnect="pool")
    await _fill(mode, pool, 3)
    mode.world.fail["rollback"] = Gone()
    await _number(mode, pool)
    await mode.until(lambda: mode.world.open == [])
    mode.world.fail.clear()
    assert await _number(mode, pool) == 4
    await mode.go(pool.dispose())


async def test_connecting_since_before(mode: Mode) -> None:
    """A connect that began before the loss may have reached the server that is gone."""
    if mode.blocking or not mode.world.coroutine:
        pytest.skip("a connect in a thread is waited for")
    begun, go_on = anyio.Event(), anyio.Event()

    async def connect() -> Any:
        connection = await mode.world.connect()
        if connection.number == 2:
            begun.set()
            await go_on.wait()
        return connection

    pool = mode.pool(creator=connect, pool_size=2, on_disconnect="pool")
    first = await pool.unique_connection()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_number, mode, pool)
        await begun.wait()
        await first.invalidate(Gone())
        go_on.set()
    await mode.until(lambda: mode.world.open == [])
    await pool.dispose()


@pytest.mark.parametrize("kind", ["Singleton", "StaticPool", "AssertionPool", "NullPool"])
async def test_other_pools(mode: Mode, kind: str) -> None:
    pool = mode.pool(kind, on_disconnect="pool")
    first = await _number(mode, pool)
    await _fail(mode, pool, Gone())
    second = await _number(mode, pool)
    assert second > first
    await mode.go(pool.dispose())


async def test_the_option(mode: Mode) -> None:
    pool = mode.pool(pool_size=2, on_disconnect="pool").recreate()
    await _fill(mode, pool, 2)
    await _fail(mode, pool, Gone())
    await mode.until(lambda: mode.world.open == [])
    await mode.go(pool.dispose())
    with pytest.raises(ValueError, match="on_disconnect"):
        mode.pool(on_disconnect="all")


# What the application says of errors.


class Switched(Exception):
    """The server lives, but is another one than it was: no driver of a fake knows this."""


ALL = ["QueuePool", "AssertionPool", "Singleton", "StaticPool", "NullPool"]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "known", [Switched, (KeyError, Switched), lambda error, _: isinstance(error, Switched)]
)
async def test_error_that_the_application_knows(mode: Mode, kind: str, known: Any) -> None:
    pool = mode.pool(kind, is_disconnect=known)
    for each in (pool, pool.recreate()):
        first = await _number(mode, each)
        await _fail(mode, each, ValueError())
        assert ("close", first) not in mode.world.events or kind == "NullPool"
        await _fail(mode, each, Switched())
        assert each.stats().closed["invalid"] == 1
        # Beside it, what the driver knows.
        await _fail(mode, each, Gone())
        assert each.stats().closed["invalid"] == 2
        await _fail(mode, each, ExceptionGroup("", [ValueError(), Switched()]))
        assert each.stats().closed["invalid"] == 3
        await mode.go(each.dispose())


async def test_function_is_given_error_and_connection(mode: Mode) -> None:
    seen: list[tuple[Exception, int]] = []

    def look(error: Exception, connection: Any) -> bool:
        seen.append((error, connection.number))
        return False

    pool = mode.pool(pool_size=1, is_disconnect=look)
    error, other = ValueError(), KeyError()
    await _fail(mode, pool, error)
    assert seen == [(error, 1)]
    await _fail(mode, pool, ExceptionGroup("", [other, error]))
    assert seen[1:] == [(other, 1), (error, 1)]
    with pytest.raises(KeyboardInterrupt):
        async with mode.block(pool.connect()):
            raise KeyboardInterrupt
    assert len(seen) == 3, "it is asked of errors only"
    await mode.go(pool.dispose())


async def test_function_that_fails(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    """It has not said that the connection is lost; the caller's own error comes out."""

    def fail(error: Exception, connection: Any) -> bool:
        raise RuntimeError("a bug of the application")

    pool = mode.pool(pool_size=1, is_disconnect=fail, on_disconnect="pool")
    await _fail(mode, pool, ValueError())
    assert await _number(mode, pool) == 1
    (record,) = caplog.records
    assert record.getMessage() == "The option is_disconnect failed"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], RuntimeError)
    await _fail(mode, pool, Gone())
    assert await _number(mode, pool) == 2
    await mode.go(pool.dispose())


async def test_failover_costs_each_caller_one_error(mode: Mode) -> None:
    """The connections are open and answer, all of them to the wrong server."""
    pool = mode.pool(
        pool_size=3, max_overflow=0, is_disconnect=Switched, on_disconnect="pool"
    )
    await _fill(mode, pool, 3)

    async def work() -> bool:
        try:
            async with mode.block(pool.connect()) as connection:
                if connection.number <= 3:
                    raise Switched
        except Switched:
            return False
        return True

    assert [await work() for _ in range(4)] == [False, True, True, True]
    await mode.until(lambda: mode.world.open == [4])
    await mode.go(pool.dispose())


async def test_application_knows_the_error_of_an_invalidation(mode: Mode) -> None:
    pool = mode.pool(pool_size=3, is_disconnect=Switched, on_disconnect="pool")
    await _fill(mode, pool, 3)
    lease = await mode.go(pool.connect())
    await mode.go(lease.invalidate(ValueError()))
    assert mode.world.open == [2, 3]
    lease = await mode.go(pool.connect())
    await mode.go(lease.invalidate(Switched()))
    await mode.until(lambda: mode.world.open == [])
    await mode.go(pool.dispose())


async def test_application_knows_the_error_in_a_lease_of_many(mode: Mode) -> None:
    """A lease that is entered itself, and entered once more by a nested call."""
    pool = mode.pool(pool_size=2, is_disconnect=Switched)
    lease = await mode.go(pool.connect())
    with pytest.raises(Switched):
        async with mode.block(pool.connect()) as connection:
            assert connection is lease.connection
            raise Switched
    assert not lease.is_valid
    await mode.go(lease.close())
    with pytest.raises(Switched):
        async with mode.block(await mode.go(pool.connect())):
            raise Switched
    assert pool.stats().closed == {"invalid": 2}
    await mode.go(pool.dispose())


async def test_the_pools_own_timeout_is_no_news(mode: Mode) -> None:
    """It is a TimeoutError, and so an OSError: but nothing that this connection raised."""
    pool = mode.pool(pool_size=1, max_overflow=0, is_disconnect=OSError)
    with pytest.raises(anypool.PoolTimeoutError):
        async with mode.block(pool.connect()):
            await mode.go(pool.unique_connection(timeout=0))
    assert await _number(mode, pool) == 1
    await _fail(mode, pool, OSError())
    assert await _number(mode, pool) == 2
    await mode.go(pool.dispose())
