"""Age and health: renewed, pinged, drained."""

from __future__ import annotations

import logging
import time
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

import anypool

from .support.holds import Hold, Holds, slow_connects
from .support.modes import PATIENCE, Mode
from .support.opened import inner, look, opened


async def test_jitter_keeps_connections_from_dying_together(mode: Mode) -> None:
    pool, clock = await opened(mode, min_size=20, pool_size=20, recycle=100)
    limits = {record._expires_at - clock.now for record in inner(pool)._ledger.idle}
    assert len(limits) > 15
    assert min(limits) > 90
    assert max(limits) <= 100
    clock.now += 95
    await look(mode, pool)
    old = sum(limit < 95 for limit in limits)
    await mode.until(lambda: pool.stats().closed.get("recycle") == old)
    await mode.go(pool.wait())
    await mode.until(lambda: pool.checkedin() == 20)
    await mode.go(pool.close())


async def test_jitter_of_ones_own_choice_holds_when_opened(mode: Mode) -> None:
    pool, clock = await opened(mode, min_size=5, recycle=100, recycle_jitter=0)
    assert {record._expires_at - clock.now for record in inner(pool)._ledger.idle} == {100}
    await mode.go(pool.close())


@pytest.mark.parametrize(
    "options", [{"recycle": 0}, {"recycle": 10, "recycle_jitter": 1e9}], ids=str
)
async def test_connection_that_is_too_old_from_the_first_serves_once(
    mode: Mode, options: dict[str, Any]
) -> None:
    """Or else nobody would ever be served, and the server be stormed."""
    pool, clock = await opened(mode, pool_size=1, max_overflow=0, **options)
    for number in (1, 2, 3):
        async with mode.block(pool.connect(timeout=5)) as connection:
            assert connection.number == number
            clock.now += 0.1
    await mode.go(pool.close())


async def test_renewal_doesnt_end_with_the_first_that_is_young(mode: Mode) -> None:
    pool, clock = await opened(mode, pool_size=2, recycle=100, recycle_jitter=0)
    old = await mode.go(pool.unique_connection())
    clock.now += 60
    young = await mode.go(pool.unique_connection())
    await mode.go(young.close())
    await mode.go(old.close())
    clock.now += 41
    await look(mode, pool)
    await mode.until(lambda: mode.world.open == [2, 3])
    await mode.go(pool.close())


@pytest.mark.parametrize("kind", ["StaticPool", "Singleton"])
async def test_shared_connection_is_renewed_for_whoever_has_it_alone(
    mode: Mode, kind: str
) -> None:
    pool, clock = await opened(mode, kind, recycle=10)
    for number in (1, 2):
        lease = await mode.go(pool.unique_connection())
        assert lease.connection.number == number
        await mode.go(lease.close())
        clock.now += 11
    leases = [await mode.go(pool.unique_connection())]
    clock.now += 11
    leases.append(await mode.go(pool.unique_connection()))
    assert [lease.connection.number for lease in leases] == [3, 3]
    for lease in leases:
        await mode.go(lease.close())
    await mode.go(pool.close())


@pytest.mark.parametrize("kind", ["StaticPool", "Singleton"])
async def test_shared_connection_is_pinged_for_whoever_has_it_alone(
    mode: Mode, kind: str
) -> None:
    pool = mode.pool(kind, pre_ping=True)
    for pings in (0, 1):  # the first one is new
        lease = await mode.go(pool.unique_connection())
        assert mode.world.count("ping") == pings
        await mode.go(lease.close())
    leases = [await mode.go(pool.unique_connection()) for _ in range(2)]
    assert mode.world.count("ping") == 2
    for lease in leases:
        await mode.go(lease.close())
    await mode.go(pool.close())


async def test_ping_before_every_checkout(mode: Mode) -> None:
    pool = mode.pool(pre_ping=True)
    for _ in range(3):
        async with mode.block(pool.connect()):
            pass
    assert mode.world.count("ping") == 2  # the first one is new
    await mode.go(pool.close())


@pytest.mark.parametrize(
    ("option", "expected"), [("pre_ping", "ping"), ("recycle", "close")]
)
async def test_connection_is_looked_at_after_any_number_of_checkouts(
    mode: Mode, option: str, expected: str
) -> None:
    pool, clock = await opened(mode, **{option: 60})
    for _ in range(3):
        async with mode.block(pool.connect()):
            pass
    clock.now += 61
    async with mode.block(pool.connect()):
        assert mode.world.events_of(1)[-1] == expected
    await mode.go(pool.close())


@pytest.mark.parametrize("what", ["keepalive", "max_idle"])
async def test_what_is_often_used_is_not_idle(mode: Mode, what: str) -> None:
    pool, clock = await opened(mode, **{what: 60})
    for _ in range(3):
        async with mode.block(pool.connect()):
            clock.now += 40
    assert _due(pool, clock.now) == []
    await mode.go(pool.close())


def _due(pool: Any, now: float) -> Any:
    """Return what upkeep has to do at this time."""
    books = inner(pool)
    return books._ledger.decide(books._keeper._take_due, now)


async def test_dead_connection_is_logged(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    pool = mode.pool(pre_ping=True)
    async with mode.block(pool.connect()):
        pass
    mode.world.fail["ping"] = ConnectionResetError("password=SECRET")
    with caplog.at_level(logging.INFO, "anypool"):
        async with mode.block(pool.connect()) as connection:
            assert connection.number == 2
    assert "is dead" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("recycle", [0.5, 1, 3600])
async def test_opened_pool_has_a_jitter_of_a_tenth(mode: Mode, recycle: float) -> None:
    pool, _ = await opened(mode, recycle=recycle)
    assert inner(pool)._parts.connector.jitter == recycle / 10
    await mode.go(pool.close())


async def test_ping_after_idling(mode: Mode) -> None:
    pool, clock = await opened(mode, pre_ping=30)
    for pause, pings in ((0, 0), (29, 0), (31, 1), (1, 1), (31, 2)):
        clock.now += pause
        async with mode.block(pool.connect()):
            assert mode.world.count("ping") == pings
    await mode.go(pool.close())


async def test_opened_pool_pings_once_for_each_checkout(mode: Mode) -> None:
    pool = mode.pool(pre_ping=True)
    async with mode.block(pool):
        for pings in range(4):  # the first one is new
            async with mode.block(pool.connect()):
                assert mode.world.count("ping") == pings


async def test_server_that_answers_no_ping_is_not_stormed(mode: Mode) -> None:
    mode.world.fail["ping"] = ConnectionResetError()
    pool = mode.pool(pre_ping=True)
    async with mode.block(pool):
        for connects in range(1, 4):
            async with mode.block(pool.connect()):
                assert mode.world.count("connect") == connects


async def test_stale_connection_is_replaced_by_who_may_not_wait(mode: Mode) -> None:
    pool = mode.pool()
    async with mode.block(pool):
        async with mode.block(pool.connect()):
            pass
        inner(pool)._ledger.age()
        async with mode.block(pool.connect(timeout=0)) as connection:
            assert connection.number == 2
        inner(pool)._ledger.age()
        mode.world.fail["connect"] = OSError("refused")
        with pytest.raises(OSError, match="refused"):
            await mode.go(pool.connect(timeout=0))


async def test_pool_that_never_waits_is_warmed(mode: Mode) -> None:
    """A timeout of 0 is for callers, not for what is done in the background."""
    pool = mode.pool(timeout=0, min_size=2, fail_fast=True)
    async with mode.block(pool):
        await mode.go(pool.wait(PATIENCE))
        async with mode.block(pool.connect()):
            assert pool.stats().failed == 0


async def test_checkout_may_take_longer_than_the_pools_timeout(mode: Mode) -> None:
    slow_connects(mode, 0.05)
    pool = mode.pool(timeout=0.01)
    async with mode.block(pool):
        async with mode.block(pool.connect(timeout=PATIENCE)):
            assert pool.stats().opened == 1
        assert pool.stats().failed == 0


@pytest.mark.parametrize("is_open", [False, True])
async def test_one_checkout_gets_past_all_stale_connections(
    mode: Mode, is_open: bool
) -> None:
    pool = mode.pool(pool_size=6, pre_ping=True)
    if is_open:
        await mode.go(pool.open())
    leases = [await mode.go(pool.unique_connection()) for _ in range(6)]
    for lease in leases:
        await mode.go(lease.close())
    dead = set(mode.world.open)

    def ping() -> None:
        if mode.world.events[-1][1] in dead:
            raise ConnectionResetError

    mode.world.on["ping"] = ping
    begin = time.monotonic()
    async with mode.block(pool.connect()) as connection:
        assert connection.number not in dead
    assert time.monotonic() - begin < PATIENCE / 4
    assert pool.stats().closed["ping"] >= 1
    await mode.go(pool.close())


async def test_dead_connection_takes_all_of_the_time(mode: Mode) -> None:
    """Who has found a dead connection when the time is over doesn't wait for another."""
    pool, clock = await opened(mode, min_size=1, pool_size=1, max_overflow=0, pre_ping=True)
    async with mode.block(pool.connect()):
        clock.now += 1

    def ping() -> None:
        clock.now += 31
        raise ConnectionResetError

    mode.world.on["ping"] = ping
    with pytest.raises(anypool.PoolTimeoutError, match="connecting timed out, timeout 30"):
        await mode.go(pool.connect())
    stats = pool.stats()
    assert (stats.timeouts, stats.checked_out, stats.waiting) == (1, 0, 0)
    await mode.go(pool.wait())
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 2
    await mode.go(pool.close())


async def test_timeout_after_a_dead_connection_is_told_as_it_was_given(mode: Mode) -> None:
    """Who waits for another connection waits for what is left, and hears of the whole."""
    pool, clock = await opened(mode, min_size=1, pool_size=1, max_overflow=0, pre_ping=True)
    async with mode.block(pool.connect()):
        clock.now += 1

    def ping() -> None:
        clock.now += 29.98
        if mode.name == "threads":
            anyio.from_thread.run_sync(pool.suspend)
        else:
            inner(pool).suspend()
        raise ConnectionResetError

    mode.world.on["ping"] = ping
    with pytest.raises(anypool.PoolTimeoutError, match="connection timed out, timeout 30"):
        await mode.go(pool.connect())
    pool.resume()
    await mode.go(pool.wait())
    await mode.go(pool.close())


async def test_keepalive_pings_what_idles(mode: Mode) -> None:
    pool, clock = await opened(mode, min_size=2, keepalive=60)
    clock.now += 61
    await look(mode, pool)
    await mode.until(lambda: mode.world.count("ping") == 2)
    await mode.until(lambda: pool.checkedin() == 2)
    assert _due(pool, clock.now + 59) == []
    mode.world.fail["ping"] = ConnectionResetError()
    clock.now += 61
    await look(mode, pool)
    await mode.until(lambda: pool.stats().closed.get("ping") == 2)
    await mode.go(pool.wait())
    assert len(mode.world.open) == 2
    await mode.go(pool.close())


@pytest.mark.parametrize("what", ["keepalive", "max_idle", "recycle"])
async def test_upkeep_leaves_what_is_out_alone(mode: Mode, what: str) -> None:
    pool, clock = await opened(mode, **{what: 60})
    out, idle = [await mode.go(pool.unique_connection()) for _ in range(2)]
    await mode.go(idle.close())
    clock.now += 61
    await look(mode, pool)
    expected = "ping" if what == "keepalive" else "close"
    await mode.until(lambda: mode.world.events_of(2)[-1] == expected)
    await mode.settle()
    assert mode.world.events_of(1) == []
    assert pool.stats().checked_out == 1
    await mode.go(out.close())
    await mode.go(pool.close())


async def test_drain_replaces_all_connections(mode: Mode) -> None:
    pool = mode.pool(min_size=3)
    await mode.go(pool.open())
    await mode.go(pool.wait())
    lease = await mode.go(pool.connect())
    number = lease.connection.number
    await mode.go(pool.drain())
    await mode.until(lambda: mode.world.open == [number, 4, 5])
    await mode.go(lease.close())
    await mode.until(lambda: mode.world.open == [4, 5, 6])
    await mode.go(pool.close())


async def test_drain_of_a_pool_that_is_not_open(mode: Mode) -> None:
    pool = mode.pool()
    async with mode.block(pool.connect()):
        pass
    await mode.go(pool.drain())
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 2
    assert mode.world.open == [2]
    await mode.go(pool.close())


@pytest.mark.parametrize("is_open", [False, True])
async def test_interrupted_ping_keeps_its_slot(mode: Mode, is_open: bool) -> None:
    """No other connection takes the place of one that is still there."""
    if mode.blocking:
        pytest.skip("needs cancellation")
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, pre_ping=True, pool_size=1, max_overflow=0)
    await _open_and_use(mode, pool, is_open)
    pinging, closing = holds.on("ping"), holds.on("close")
    async with mode.group() as start:
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                await mode.until(lambda: pinging.reached)
                scope.cancel()

            start(cancel)
            await pool.connect()
        start(_use, mode, pool)
        await mode.until(lambda: pool.stats().waiting == 1)
        assert mode.world.count("connect") == 1
        pinging.release()
        await mode.until(lambda: closing.reached)
        assert mode.world.count("connect") == 1
        closing.release()
    assert mode.world.open == [2]
    await pool.close()


@pytest.mark.parametrize("is_open", [False, True])
async def test_slow_ping_in_a_thread_keeps_its_slot(
    mode: Mode, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller waits for the next connection that may exist."""
    pool, pinging = await _slow_to_ping(mode, is_open, monkeypatch)
    with pytest.raises(anypool.PoolTimeoutError):
        await pool.connect(timeout=0)
    assert (pool.checkedin(), pool.checkedout(), len(inner(pool)._ledger.leases.out)) == (
        0,
        1,
        1,
    )
    async with mode.group() as start:
        start(_use, mode, pool)
        await mode.until(lambda: pool.stats().waiting == 1)
        assert mode.world.count("connect") == 1
        assert mode.world.count("close") == 0
        pinging.release()
    assert mode.world.open == [2]
    assert pool.stats().closed == {"ping": 1}
    await pool.close()


@pytest.mark.parametrize("is_open", [False, True])
async def test_whose_ping_is_slow_in_a_thread_waits_for_another_connection(
    mode: Mode, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, pinging = await _slow_to_ping(mode, is_open, monkeypatch)
    async with mode.group() as start:
        start(_use, mode, pool)
        await mode.until(lambda: pool.stats().waiting == 1)
        assert (pool.checkedin(), pool.checkedout()) == (0, 1)
        assert mode.world.open == [1]
        pinging.release()
    assert mode.world.open == [2]
    await pool.close()


async def _slow_to_ping(
    mode: Mode, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Hold]:
    """Make a pool whose idle connection won't answer a ping before it is released."""
    if mode.name != "threads":
        pytest.skip("needs pings that can't be stopped")
    monkeypatch.setattr("anypool._core.bounds.PING_TIMEOUT", 0.02)
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, pre_ping=True, pool_size=1, max_overflow=0)
    await _open_and_use(mode, pool, is_open)
    return pool, holds.on("ping")


async def _open_and_use(mode: Mode, pool: Any, is_open: bool) -> None:
    if is_open:
        await mode.go(pool.open())
    await _use(mode, pool)


async def _use(mode: Mode, pool: Any) -> None:
    async with mode.block(pool.connect()):
        pass
