"""Checkout and return, as every application uses them."""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import anyio.from_thread
import pytest

import anypool

from .support.holds import Holds, interruptible
from .support.modes import Mode


async def test_block_gives_the_drivers_connection_and_returns_it(mode: Mode) -> None:
    """The block has the driver's own object, and the pool has it again afterwards."""
    pool = mode.pool()
    async with mode.block(pool.connect()) as conn:
        assert conn is mode.world.connections[0]
        assert (pool.size(), pool.checkedin(), pool.overflow(), pool.checkedout()) == (
            5,
            0,
            -4,
            1,
        )
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    assert mode.world.events == [("connect", 0), ("rollback", 1)]


async def test_nested_connects_share_a_lease(mode: Mode) -> None:
    """A caller that connects twice gets one lease, which the last close returns."""
    pool = mode.pool()
    outer = await mode.go(pool.connect())
    inner = await mode.go(pool.connect())
    assert outer is inner
    await mode.go(inner.close())
    assert pool.checkedout() == 1
    await mode.go(outer.close())
    assert pool.checkedout() == 0
    await mode.go(outer.close())  # harmless
    assert pool.checkedin() == 1


async def test_nested_blocks_share_a_connection(mode: Mode) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=1)
    async with mode.block(pool.connect()) as outer:
        async with mode.block(pool.connect()) as inner:
            assert inner is outer
        assert pool.checkedout() == 1
    assert pool.checkedout() == 0


async def test_without_threadlocal_each_connect_is_its_own(mode: Mode) -> None:
    pool = mode.pool(use_threadlocal=False)
    first = await mode.go(pool.connect())
    second = await mode.go(pool.connect())
    assert first is not second
    assert first.connection is not second.connection
    await mode.go(first.close())
    await mode.go(second.close())


async def test_unique_connection_is_never_shared(mode: Mode) -> None:
    """unique_connection() gives another connection, and its return leaves the shared
    lease of the caller in place."""
    pool = mode.pool()
    shared = await mode.go(pool.connect())
    unique = await mode.go(pool.unique_connection())
    assert unique.connection is not shared.connection
    await mode.go(unique.close())
    again = await mode.go(pool.connect())
    assert again is shared
    await mode.go(again.close())
    await mode.go(shared.close())
    assert pool.checkedout() == 0


async def test_idle_connections_go_out_first_in_first_out(mode: Mode) -> None:
    pool = mode.pool(use_threadlocal=False)
    leases = [await mode.go(pool.connect()) for _ in range(3)]
    for lease in leases:
        await mode.go(lease.close())
    for number in (1, 2, 3, 1):
        async with mode.block(pool.connect()) as conn:
            assert conn.number == number


async def test_overflow_is_closed_on_return(mode: Mode) -> None:
    """Up to pool_size connections are kept; what was opened beyond that is closed."""
    pool = mode.pool(pool_size=1, max_overflow=2, use_threadlocal=False)
    leases = [await mode.go(pool.connect()) for _ in range(3)]
    assert pool.overflow() == 2
    for lease in leases:
        await mode.go(lease.close())
    assert (pool.checkedin(), pool.overflow(), pool.checkedout()) == (1, 0, 0)
    assert mode.world.open == [1]


async def test_timeout_names_the_limit(mode: Mode) -> None:
    pool = mode.pool(pool_size=1, max_overflow=1, use_threadlocal=False)
    leases = [await mode.go(pool.connect()) for _ in range(2)]
    with pytest.raises(
        anypool.PoolTimeoutError,
        match=r"QueuePool limit of size 1 overflow 1 reached, connection timed out, "
        r"timeout 0.01",
    ):
        await mode.go(pool.connect(timeout=0.01))
    with pytest.raises(TimeoutError):
        await mode.go(pool.connect(timeout=0))
    for lease in leases:
        await mode.go(lease.close())
    assert pool.checkedout() == 0


async def test_no_limits(mode: Mode) -> None:
    """max_overflow=-1 and pool_size=0 both mean no limit."""
    for options in ({"pool_size": 1, "max_overflow": -1}, {"pool_size": 0}):
        pool = mode.pool(use_threadlocal=False, timeout=0, **options)
        leases = [await mode.go(pool.connect()) for _ in range(30)]
        assert pool.checkedout() == 30
        for lease in leases:
            await mode.go(lease.close())
        assert pool.checkedout() == 0
        assert pool.checkedin() == (1 if options["pool_size"] else 30)


async def test_invalidate_closes_now_and_the_slot_reconnects(mode: Mode) -> None:
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    lease.info["note"] = 1
    await mode.go(lease.invalidate(ValueError("broken")))
    assert mode.world.open == []
    assert not lease.is_valid
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    await mode.go(lease.close())  # harmless
    await mode.go(lease.detach())
    again = await mode.go(pool.connect())
    assert again is not lease
    assert again.connection.number == 2
    assert again.info == {}
    await mode.go(again.close())


async def test_closed_leases_say_so(mode: Mode) -> None:
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    await mode.go(lease.close())
    uses: tuple[Callable[[], Any], ...] = (
        lambda: lease.connection,
        lambda: lease.info,
        lambda: lease.record,
        lambda: lease.execute,
        lambda: lease.cursor(),
        lambda: lease.invalidate(),
    )
    for use in uses:
        with pytest.raises(anypool.InvalidRequestError, match="This connection is closed"):
            await mode.go(use())
    assert not lease.is_valid


async def test_lease_is_closed_by_who_is_told_of_its_detachment(mode: Mode) -> None:
    """That closes the connection."""
    if mode.name == "portal":
        pytest.skip("its listeners are called in the loop, where nothing may block")

    class Listener:
        def detach(self, connection: Any, record: Any) -> None:
            lease.close()

    class AsyncListener:
        async def detach(self, connection: Any, record: Any) -> None:
            await lease.close()

    pool = mode.pool(listeners=[Listener() if mode.blocking else AsyncListener()])
    lease = await mode.go(pool.connect())
    await mode.go(lease.detach())
    await mode.until(lambda: mode.world.open == [])
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    assert not lease.is_valid
    await mode.go(lease.detach())


async def test_detached_connections_leave_the_pool(mode: Mode) -> None:
    """A detached connection keeps a copy of its info, is not counted any more, and is
    really closed in the end."""
    pool = mode.pool(pool_size=1, max_overflow=0)
    lease = await mode.go(pool.connect())
    lease.info["note"] = 1
    await mode.go(lease.detach())
    assert lease.info == {"note": 1}
    assert lease.is_valid
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2
    assert mode.world.open == [1, 2]
    await mode.go(lease.close())
    assert mode.world.open == [2]
    assert mode.world.events_of(1)[-1] == "close"
    with pytest.raises(anypool.InvalidRequestError):
        lease.info


async def test_notes_are_those_of_the_record(mode: Mode) -> None:
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    record = lease.record
    assert isinstance(record, anypool.ConnectionRecord)
    assert record.connection is lease.connection
    assert lease.info is record.info
    await mode.go(lease.detach())
    assert lease.record is not record
    assert lease.record.connection is lease.connection
    assert lease.info is lease.record.info
    await mode.go(lease.close())


async def test_notes_stand_before_the_connections_own_info(mode: Mode) -> None:
    """Whoever takes the lease for a connection finds what that says of itself."""
    pool = mode.pool(pool_size=1)
    lease = await mode.go(pool.connect())
    lease.info["dbname"] = "my own note"
    with pytest.raises(AttributeError, match="nor the connection's info have 'dbname'"):
        lease.info.dbname
    lease.connection.info = SimpleNamespace(dbname="app", encoding="utf-8")
    assert (lease.info.dbname, lease.info.encoding) == ("app", "utf-8")
    assert lease.info == {"dbname": "my own note"}
    assert issubclass(type(lease.info), dict)
    assert copy.copy(lease.info.copy()) == lease.info
    assert not hasattr(lease.info, "__array__")
    with pytest.raises(AttributeError, match="'vendor'"):
        lease.info.vendor
    with pytest.raises(AttributeError):
        lease.info.dbname = "other"

    notes = lease.info
    await mode.go(lease.invalidate())
    with pytest.raises(AttributeError, match="'dbname'"):
        notes.dbname
    lease = await mode.go(pool.connect())
    assert lease.info is notes
    lease.connection.info = SimpleNamespace(dbname="new")
    assert notes.dbname == "new"
    lease.info["note"] = 1
    await mode.go(lease.detach())
    assert lease.info == {"note": 1}
    assert lease.info.dbname == "new"
    await mode.go(lease.close())


async def test_lease_forwards_attributes(mode: Mode) -> None:
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    assert lease.number == 1
    with pytest.raises(AttributeError):
        lease.nonsense
    await mode.go(lease.close())


async def test_failed_connects_free_their_slot(mode: Mode) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=1)
    mode.world.fail["connect"] = OSError("refused")
    for _ in range(3):
        with pytest.raises(OSError, match="refused"):
            await mode.go(pool.connect())
    assert pool.checkedout() == 0
    mode.world.fail.clear()
    async with mode.block(pool.connect()):
        assert pool.checkedout() == 1


async def test_failed_reset_closes_the_connection(mode: Mode) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=1)
    lease = await mode.go(pool.connect())
    mode.world.fail["rollback"] = OSError("gone")
    await mode.go(lease.close())
    assert mode.world.open == []
    mode.world.fail.clear()
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2


@pytest.mark.parametrize("kind", ["QueuePool", "NullPool", "AssertionPool"])
async def test_unique_lease_outlives_its_caller(mode: Mode, kind: str) -> None:
    pool = mode.pool(kind)
    leases = []

    async def checkout() -> None:
        leases.append(await mode.go(pool.unique_connection()))

    async with mode.group() as start:
        start(checkout)
    gc.collect()  # the task or thread is gone
    await mode.go(leases.pop().close())
    async with mode.block(pool.connect()):
        pass
    await mode.go(pool.dispose())
    assert not mode.world.open


async def test_cursor(mode: Mode) -> None:
    """It is the driver's, and closed with its block."""
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    async with mode.block(await mode.go(lease.cursor())) as cursor:
        assert cursor.rowcount == 7
        rows = list(cursor) if mode.blocking else [row async for row in cursor]
        assert rows == [1, 2, 3]
    assert mode.world.events_of(1) == ["cursor", "cursor.close"]
    await mode.go(lease.close())


async def test_cursor_that_can_not_be_closed(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is logged by its class; what is no error of the cursor's is raised."""
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    cursor = await mode.go(lease.cursor())
    mode.world.fail["cursor.close"] = OSError("password=SECRET")
    await mode.go(cursor.close())
    assert "Error closing cursor: OSError" in caplog.text
    assert "SECRET" not in caplog.text
    mode.world.fail["cursor.close"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        await mode.go(cursor.close())
    assert lease.is_valid
    await mode.go(cursor.invalidate(ValueError()))
    assert not lease.is_valid
    assert not mode.world.open


async def test_cursor_that_can_not_be_opened(mode: Mode) -> None:
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    mode.world.fail["cursor"] = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        await mode.go(lease.cursor())
    assert not lease.is_valid
    assert not mode.world.open
    assert pool.checkedout() == 0


async def test_cursor_that_can_not_be_opened_as_the_lease_was_closed(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode.name == "portal":
        pytest.skip("a blocking close in the loop's own thread would wait for itself")
    pool = mode.pool()
    lease = await mode.go(pool.connect())

    def close(_: Any) -> None:
        if mode.blocking:
            lease.close()
        else:
            anyio.from_thread.run(lease.close)
        raise OSError("gone")

    async def close_async(_: Any) -> None:
        await lease.close()
        raise OSError("gone")

    cursor = close_async if mode.world.coroutine else close
    monkeypatch.setattr(type(lease.connection), "cursor", cursor)
    with pytest.raises(OSError, match="gone"):
        await mode.go(lease.cursor())
    assert mode.world.open == [1], "it was returned before that"
    assert pool.checkedout() == 0


async def test_checkout_is_entered_once_at_a_time(mode: Mode) -> None:
    """The second would take the first one's lease for its own."""
    if mode.blocking:
        pytest.skip("connect() has checked out already")
    pool = mode.pool(pool_size=1, max_overflow=0)
    checkout = pool.connect()
    async with checkout as connection:
        with pytest.raises(anypool.InvalidRequestError, match="is entered already"):
            async with checkout:
                pass
        assert pool.checkedout() == 1
        with pytest.raises(anypool.PoolTimeoutError):
            await pool.unique_connection(timeout=0)
    async with checkout as again:
        assert again is connection

    refused: list[Exception] = []

    async def enter() -> None:
        try:
            async with checkout:
                await mode.until(lambda: refused)
        except anypool.InvalidRequestError as error:
            refused.append(error)

    lease = await pool.unique_connection()
    async with mode.group() as start:
        start(enter)
        start(enter)
        await mode.until(lambda: refused)
        await lease.close()
    assert len(refused) == 1
    assert pool.checkedin() == 1
    await pool.dispose()


async def test_lease_that_is_closed_in_its_block(mode: Mode) -> None:
    """More often than it was checked out, even."""
    pool = mode.pool()
    async with mode.block(pool.connect()):
        lease = await mode.go(pool.connect())
        for _ in range(3):
            await mode.go(lease.close())
        assert pool.checkedout() == 0
        other = await mode.go(pool.connect())
    assert other.is_valid
    await mode.go(other.close())


@pytest.mark.parametrize("kind", ["QueuePool", "AssertionPool", "StaticPool", "Singleton"])
@pytest.mark.parametrize("error", [None, ValueError])
async def test_closed_by_its_user_where_nothing_is_reset(
    mode: Mode, kind: str, error: type[Exception] | None
) -> None:
    """Nobody gets it again."""
    pool = mode.pool(kind, reset_on_return=None)
    for number in (1, 2):
        with nullcontext() if error is None else pytest.raises(error):
            async with mode.block(pool.connect()) as connection:
                assert connection.number == number
                connection.closed = True
                if error is not None:
                    raise error
    lease = await mode.go(pool.unique_connection())
    assert lease.connection.number == 3
    lease.connection.closed = True
    await mode.go(lease.close())
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 4
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 4
    await mode.go(pool.dispose())


async def test_driver_whose_reset_waits_for_nothing(mode: Mode) -> None:
    """It may be a plain method, whatever else the driver has to wait for."""
    reset: list[int] = []
    base = type(interruptible(mode))

    class Driver(base):  # type: ignore[misc, valid-type]  # which depends on the mode
        def reset(self, connection: Any, mode: Any) -> None:
            reset.append(connection.number)

    pool = mode.pool(driver=Driver())
    async with mode.block(pool.connect()):
        pass
    lease = await mode.go(pool.connect())
    await mode.go(lease.close())
    assert reset == [1, 1]
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)


class Gone(ConnectionError):
    """What the driver of the fakes raises when the server is gone."""


@pytest.mark.parametrize("error", [None, ValueError, Gone])
async def test_lease_as_a_block(mode: Mode, error: type[Exception] | None) -> None:
    """It is returned; after an error that means a lost connection, without that."""
    pool = mode.pool()
    with nullcontext() if error is None else pytest.raises(error):
        async with mode.block(await mode.go(pool.connect())) as connection:
            assert connection is mode.world.connections[0]
            if error is not None:
                raise error
    assert pool.checkedout() == 0
    assert mode.world.open == ([] if error is Gone else [1])


async def test_protocols_of_the_connection_are_not_the_leases(mode: Mode) -> None:
    """Who asks for a special method must not get that of another object."""
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    lease.connection.__fspath__ = lambda: "path"
    assert hasattr(lease.connection, "__fspath__")
    assert not hasattr(lease, "__fspath__")
    assert not hasattr(pool.connect(), "__fspath__")
    await mode.go(lease.close())
    await mode.go(lease.close())


async def test_call_passes_all_arguments_on(mode: Mode) -> None:
    pool = mode.pool()

    def function(*args: int, **kwargs: int) -> Any:
        return args, kwargs

    assert await mode.go(pool.call(function, 1, two=2)) == ((1,), {"two": 2})


@pytest.mark.parametrize("kind", ["NullPool", "QueuePool", "StaticPool"])
async def test_connect_that_takes_too_long(mode: Mode, kind: str) -> None:
    holds = Holds(mode)
    hold = holds.on("connect")
    pool = mode.pool(kind, creator=holds.connect)

    async def checkout() -> None:
        match = f"{kind}: connecting timed out, timeout 0.02"
        with pytest.raises(anypool.PoolTimeoutError, match=match):
            await mode.go(pool.connect(timeout=0.02))

    async with mode.group() as start:
        start(checkout)
        await mode.until(lambda: hold.reached)
        if mode.name == "blocking":  # it can't be cut short, and is told in the end
            begin = time.monotonic()
            await mode.until(lambda: time.monotonic() > begin + 0.02)
            hold.release()
    hold.release()
    assert pool.stats().timeouts == 1
    await mode.go(pool.close())
    assert not mode.world.open
