"""Traps of failure and cancellation: what errors do to slots and connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import anypool
from anypool._drivers.dbapi import DBAPIDriver

from .support.holds import Holds, interruptible, overlaps, waiting
from .support.modes import PATIENCE, Mode

KINDS = ["QueuePool", "Singleton", "NullPool", "StaticPool", "AssertionPool"]
all_kinds = pytest.mark.parametrize("kind", KINDS)


class Stop(BaseException):
    """What is no Exception: stands for cancellations and interrupts."""


def _raise(error: BaseException) -> None:
    raise error


async def _checked_out_afresh(mode: Mode, pool: Any) -> Any:
    """Check a connection out, as soon as a return that goes on without its caller is
    over: an AssertionPool takes nobody before."""
    for _ in range(2000):
        try:
            return await mode.go(pool.connect(timeout=5))
        except AssertionError:
            await anyio.sleep(0.002)
    raise AssertionError("the pool never had its connection back")


@all_kinds
@pytest.mark.parametrize("what", ["connect", "rollback", "close"])
async def test_base_exceptions_lose_no_slot(mode: Mode, what: str, kind: str) -> None:
    """Trap: `except Exception` missed CancelledError and its like; the slot leaked or a
    broken connection was pooled."""
    pool = mode.pool(kind)
    lease = await mode.go(pool.connect())
    if what == "rollback":
        mode.world.fail[what] = Stop()
        with pytest.raises(Stop):
            await mode.go(lease.close())
        await mode.until(lambda: 1 not in mode.world.open)
    elif what == "close":
        # Whether an interrupted close() has closed the connection can't be known: it may
        # be closed once more.
        once = [Stop()]
        mode.world.on[what] = lambda: _raise(once.pop()) if once else None
        with pytest.raises(Stop):
            await mode.go(lease.invalidate())
    else:
        await mode.go(lease.invalidate())
        mode.world.fail[what] = Stop()
        with pytest.raises(Stop):
            await mode.go(pool.connect())
    mode.world.fail.clear()
    await mode.settle()
    mode.world.events.clear()
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2
    assert not hasattr(pool, "checkedout") or pool.checkedout() == 0


async def test_base_exception_in_a_block_returns_the_connection(mode: Mode) -> None:
    """An interrupted block gives its connection back, and it is reset."""
    pool = mode.pool(pool_size=1, max_overflow=0)
    with pytest.raises(Stop):
        async with mode.block(pool.connect()) as conn:
            conn.number
            raise Stop
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    assert mode.world.events_of(1) in (["rollback"], ["close"])


async def test_cancelled_hand_off_loses_nothing(mode: Mode) -> None:
    """Trap: a waiter cancelled in the moment it was served took the connection with it."""
    if mode.blocking:
        pytest.skip("threads can't be cancelled")
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=None)
    for order in ("cancel first", "return first"):
        lease = await mode.go(pool.connect())
        scope = anyio.CancelScope()
        outcome: list[str] = []

        async def wait(
            scope: anyio.CancelScope = scope, outcome: list[str] = outcome
        ) -> None:
            with scope:
                async with pool.connect():
                    outcome.append("got it")
                    await anyio.lowlevel.checkpoint()
                    outcome.append("went on")
            outcome.append("cancelled" if scope.cancelled_caught else "not cancelled")

        async with mode.group() as start:
            start(wait)
            await mode.until(lambda: waiting(pool) == 1)
            if order == "cancel first":
                scope.cancel()
            if mode.name == "threads":
                # Returned in a moment, so that both happen before the waiter runs again.
                pool._path.reset_mode = None
            await mode.go(lease.close())
            scope.cancel()
        assert outcome[-1] == "cancelled"
        assert "went on" not in outcome
        assert pool.checkedout() == 0
        async with mode.block(pool.connect(timeout=5)):
            pass


@pytest.mark.parametrize("how", ["wait_for", "timeout", "cancel"])
async def test_asyncio_cancellation_while_waiting_is_not_swallowed(
    mode: Mode, how: str
) -> None:
    """Trap: asyncio.wait_for swallowed the cancellation on 3.11, or lost the connection."""
    if mode.name not in ("asyncio", "uvloop", "threads"):
        pytest.skip("asyncio's own cancellation")
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=None, use_threadlocal=False)
    lease = await pool.connect()

    async def connect() -> Any:
        return await pool.connect()

    if how == "wait_for":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connect(), 0.01)
    elif how == "timeout":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await pool.connect()
    else:
        task = asyncio.create_task(connect())
        await mode.until(lambda: waiting(pool) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert waiting(pool) == 0
    await lease.close()
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    async with pool.connect(timeout=1):
        pass


@all_kinds
@pytest.mark.parametrize("what", ["rollback", "close", "connect"])
async def test_cancellation_in_a_scope(mode: Mode, what: str, kind: str) -> None:
    """Trap: cancelled during rollback, close or connect, a connection stayed out for
    ever. The return is shielded: it is finished first."""
    if mode.blocking:
        pytest.skip("threads can't be cancelled")
    holds = Holds(mode)
    pool = mode.pool(kind, creator=holds.connect)
    slow = holds.on(what)
    scope = anyio.CancelScope()
    outcome: list[str] = []

    async def work() -> None:
        with scope:
            lease = await pool.connect()
            if what == "close":
                await lease.invalidate()
            await lease.close()
            await anyio.lowlevel.checkpoint()
            outcome.append("went on")

    async with mode.group() as start:
        start(work)
        await mode.until(lambda: slow.reached)
        scope.cancel()
        await anyio.lowlevel.checkpoint()
        slow.release()
    assert scope.cancelled_caught
    assert outcome == []
    await mode.until(lambda: not hasattr(pool, "checkedout") or pool.checkedout() == 0)
    lease = await _checked_out_afresh(mode, pool)
    assert not lease.connection.closed
    await lease.close()
    await mode.go(pool.dispose())
    await mode.until(lambda: mode.world.open == [])
    if kind != "StaticPool":  # whose connection several callers use at a time
        assert overlaps(mode) == []


@all_kinds
@pytest.mark.parametrize("what", ["rollback", "close", "connect"])
async def test_cancellation_of_a_task(mode: Mode, what: str, kind: str) -> None:
    """The same with asyncio's Task.cancel(), which anyio's shields don't stop."""
    if mode.name not in ("asyncio", "uvloop", "threads"):
        pytest.skip("asyncio's own cancellation")
    holds = Holds(mode)
    pool = mode.pool(kind, creator=holds.connect)
    slow = holds.on(what)

    async def work() -> None:
        lease = await pool.connect()
        if what == "close":
            await lease.invalidate()
        await lease.close()
        await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await mode.until(lambda: slow.reached)
    task.cancel()
    await asyncio.sleep(0)
    slow.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    await mode.until(lambda: not hasattr(pool, "checkedout") or pool.checkedout() == 0)
    lease = await _checked_out_afresh(mode, pool)
    assert not lease.connection.closed
    await lease.close()
    await mode.go(pool.dispose())
    await mode.until(lambda: mode.world.open == [])
    if kind != "StaticPool":  # whose connection several callers use at a time
        assert overlaps(mode) == []


async def test_return_of_a_cancelled_caller_is_bounded(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback that hangs does not keep a cancelled caller for ever."""
    if mode.name in ("blocking", "portal", "threads"):
        pytest.skip("a thread can't be cut short")
    monkeypatch.setattr("anypool._core.bounds.RETURN_TIMEOUT", 0.05)
    holds = Holds(mode)
    pool = mode.pool(
        creator=holds.connect, pool_size=1, max_overflow=0, driver=interruptible(mode)
    )
    slow = holds.on("rollback")
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with mode.block(pool.connect()):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert slow.reached
    await mode.until(lambda: mode.world.open == [])
    slow.release()
    async with mode.block(pool.connect(timeout=5)) as conn:
        assert conn.number == 2


@pytest.mark.parametrize("how", ["block", "lease"])
async def test_return_of_a_caller_that_nobody_cancels_is_bounded(
    mode: Mode, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A rollback that hangs costs its connection, and keeps nobody for ever."""
    if mode.name == "blocking":
        pytest.skip("a thread can't be cut short")
    monkeypatch.setattr("anypool._core.bounds.RETURN_TIMEOUT", 0.05)
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, pool_size=1, max_overflow=0)
    async with mode.block(pool.connect()):
        pass  # what the driver knows of these connections, it knows from now on
    slow = holds.on("rollback")
    lease = await mode.go(pool.connect())
    if how == "lease":
        await mode.go(lease.close())
    else:
        async with mode.block(lease):
            pass
    assert slow.reached
    if mode.name != "threads":  # where the connection is cut off when its thread lets go
        await mode.until(lambda: pool.checkedout() == 0 and mode.world.open == [])
    slow.release()
    async with mode.block(pool.connect(timeout=PATIENCE)) as connection:
        assert connection.number == (1 if mode.name == "threads" else 2)
    await mode.go(pool.close())


@pytest.mark.parametrize("times", [1, 2])
async def test_cancellation_of_a_return_that_is_overdue(
    mode: Mode, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """It is the caller's own, and is not taken for the end of the pool's patience."""
    if mode.name not in ("asyncio", "uvloop"):
        pytest.skip("asyncio's own cancellation")
    monkeypatch.setattr("anypool._core.bounds.RETURN_TIMEOUT", 0.05)
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, pool_size=1, max_overflow=0)
    async with mode.block(pool.connect()):
        pass
    slow = holds.on("rollback")

    async def work() -> None:
        async with pool.connect():
            pass

    task = asyncio.create_task(work())
    await mode.until(lambda: slow.reached)
    if times == 2:  # in the very moment in which the pool loses its patience
        give_up = pool._runtime.cancel

        def both(caller: Any) -> None:
            give_up(caller)
            task.cancel()

        monkeypatch.setattr(pool._runtime, "cancel", both)
    else:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    slow.release()
    await mode.until(lambda: pool.checkedout() == 0 and mode.world.open == [])
    await pool.close()


async def test_close_that_hangs_keeps_no_slot(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where nobody waits for it, since its caller was interrupted."""
    if mode.name in ("blocking", "threads"):
        pytest.skip("a thread can't be cut short")
    monkeypatch.setattr("anypool._core.bounds.CLOSE_TIMEOUT", 0.02)

    class Interrupted:
        def checkout(self, connection: Any, record: Any, lease: Any) -> None:
            if connection.number == 1:
                raise Stop

    holds = Holds(mode)
    closing = holds.on("close")
    pool = mode.pool(
        creator=holds.connect, pool_size=1, max_overflow=0, listeners=[Interrupted()]
    )
    with pytest.raises(Stop):
        await mode.go(pool.connect())
    async with mode.block(pool.connect(timeout=PATIENCE / 2)) as connection:
        assert (connection.number, closing.reached) == (2, 1)
    closing.release()
    await mode.go(pool.close())


async def test_scopes_inside_the_driver_and_listeners_work(mode: Mode) -> None:
    """Drivers and listeners may use cancel scopes of their own on the way back."""
    if mode.name in ("blocking", "threads"):
        pytest.skip("async drivers only")

    async def scoped() -> None:
        with anyio.move_on_after(5):
            await anyio.sleep(0.001)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 0.001)

    class Connection:
        def __init__(self) -> None:
            self.events: list[str] = []

        async def rollback(self) -> None:
            await scoped()
            self.events.append("rollback")

        async def close(self) -> None:
            await scoped()
            self.events.append("close")

    class Listener:
        async def checkin(self, connection: Any, record: Any) -> None:
            await scoped()

    async def connect() -> Connection:
        await scoped()
        return Connection()

    for listeners in ([], [Listener()]):
        pool = mode.pool(creator=connect, listeners=listeners)
        for _ in range(2):
            async with mode.block(pool.connect()) as conn:
                pass
        assert conn.events == ["rollback"] * 2
        lease = await mode.go(pool.connect())
        await mode.go(lease.close())
        await mode.go(pool.dispose())
        assert conn.events == ["rollback"] * 3 + ["close"]


async def test_closed_async_generator_returns_its_connection(mode: Mode) -> None:
    """A dependency written as a generator is closed by GeneratorExit, which may come when
    nothing can be awaited any more."""
    if mode.blocking:
        pytest.skip("async generators")
    holds = Holds(mode)
    pool = mode.pool(
        creator=holds.connect, pool_size=1, max_overflow=0, driver=interruptible(mode)
    )
    slow = holds.on("rollback")

    async def dependency() -> AsyncGenerator[Any, None]:
        async with pool.connect() as conn:
            yield conn

    generator = dependency()
    await anext(generator)
    closing = anyio.Event()

    async def close() -> None:
        await generator.aclose()
        closing.set()

    async with mode.group() as start:
        start(close)
        await mode.until(lambda: slow.reached)
        slow.release()
        await closing.wait()
    await mode.until(lambda: pool.checkedout() == 0)
    assert mode.world.events_of(1) == ["rollback"]
    async with mode.block(pool.connect(timeout=5)) as conn:
        assert conn.number == 1


async def test_destroyed_coroutine_returns_its_connection(mode: Mode) -> None:
    """A coroutine that is closed in the middle of a block can await nothing more."""
    if mode.blocking:
        pytest.skip("coroutines")
    pool = mode.pool(pool_size=1, max_overflow=0, driver=interruptible(mode))
    mode.world.pause = 2

    class Once:
        def __await__(self) -> Any:
            yield None

    async def work() -> None:
        async with pool.connect():
            await Once()

    # Connected before, so that nothing but Once() suspends.
    async with pool.connect():
        pass
    work_in_progress = work()
    work_in_progress.send(None)
    assert pool.checkedout() == 1
    work_in_progress.close()
    await mode.until(lambda: pool.checkedout() == 0)
    assert mode.world.events_of(1) == ["rollback", "rollback"]


async def test_cancelled_statement_is_over_before_the_connection_goes_on(
    mode: Mode,
) -> None:
    """A statement whose caller was cancelled goes on in its worker thread: nothing else
    is done to the connection meanwhile, and nobody else gets it."""
    if mode.blocking:
        pytest.skip("threads can't be cancelled")
    holds = Holds(mode)
    pool = mode.pool(
        creator=holds.connect, pool_size=1, max_overflow=0, driver=interruptible(mode)
    )
    slow = holds.on("execute")
    scope = anyio.CancelScope()

    async def work() -> None:
        with scope:
            async with pool.connect() as conn:
                await pool.call(conn.execute, "insert")

    async def next_caller() -> None:
        async with pool.connect(timeout=5) as conn:
            assert not conn.busy

    async with mode.group() as start:
        start(work)
        await mode.until(lambda: slow.reached)
        start(next_caller)
        await mode.until(lambda: waiting(pool) == 1)
        scope.cancel()
        await anyio.sleep(0.01)
        slow.release()
    assert overlaps(mode) == []


@pytest.mark.parametrize("shared", [False, True])
async def test_interrupt_is_for_who_has_the_connection_alone(
    mode: Mode, shared: bool
) -> None:
    """What others do on it is none of a cancelled caller's business."""
    if mode.blocking or mode.name == "threads":
        pytest.skip("needs cancellation of what the connection may be doing")
    driver, interrupted = interruptible(mode), anyio.Event()
    really_interrupt = driver.interrupt

    def interrupt(connection: Any) -> Any:
        interrupted.set()
        return really_interrupt(connection)

    driver.interrupt = interrupt
    pool = mode.pool("StaticPool", driver=driver)
    others = [await pool.unique_connection()] if shared else []
    reached = anyio.Event()

    async def use() -> None:
        async with pool.unique_connection():
            reached.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use)
        await reached.wait()
        tasks.cancel_scope.cancel()
    assert interrupted.is_set() == (not shared)
    assert mode.world.open == [1]
    for lease in others:
        await lease.close()
    await pool.dispose()


async def test_cancelled_call_interrupts_no_other_callers_statement(mode: Mode) -> None:
    if mode.name != "threads":
        pytest.skip("worker threads")
    holds = Holds(mode)
    hold = holds.on("execute")
    interrupted: list[int] = []

    class Interrupting(DBAPIDriver):
        def interrupt(self, connection: Any, /) -> None:
            interrupted.append(connection.number)
            hold.release()

    pool = mode.pool(creator=holds.connect, driver=Interrupting())
    other = await pool.unique_connection()

    async def work() -> None:
        async with pool.connect() as connection:
            await pool.call(connection.execute, "select pg_sleep(60)")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await mode.until(lambda: hold.reached)
        tasks.cancel_scope.cancel()
    assert set(interrupted) == {2}  # once by the call, and once by the return
    assert other.is_valid
    await other.close()
    await pool.close()


async def test_timed_out_waiter_is_handed_nothing(mode: Mode) -> None:
    """Trap: a waiter that had timed out was still handed a connection."""
    pool = mode.pool(pool_size=1, max_overflow=0)
    lease = await mode.go(pool.connect())

    async def wait() -> None:
        with pytest.raises(anypool.PoolTimeoutError, match="QueuePool limit of size 1"):
            await mode.go(pool.connect(timeout=0.01))

    async with mode.group() as start:
        for _ in range(3):
            start(wait)
    assert waiting(pool) == 0
    await mode.go(lease.close())
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)


async def test_waiter_is_never_given_a_connection_that_is_closed_under_it(
    mode: Mode,
) -> None:
    """Trap: a waiter queued before close() got a connection that was then killed."""
    pool = mode.pool(pool_size=2, max_overflow=0, timeout=None)
    leases = [await mode.go(pool.unique_connection()) for _ in range(2)]

    async def wait() -> None:
        async with mode.block(pool.connect()) as conn:
            await mode.go(conn.execute("select 1"))
            assert not conn.closed

    async with mode.group() as start:
        for _ in range(4):
            start(wait)
        await mode.until(lambda: waiting(pool) == 4)
        await mode.go(leases[0].close())
        await mode.go(pool.dispose())
        await mode.go(leases[1].close())
    assert pool.checkedout() == 0
    mode.world.assert_sound()


@all_kinds
async def test_double_invalidate(mode: Mode, kind: str) -> None:
    """Trap: a second invalidate hit whoever had the slot next."""
    pool = mode.pool(kind)
    lease = await mode.go(pool.connect())
    await mode.go(lease.invalidate())
    other = await mode.go(pool.connect())
    with pytest.raises(anypool.InvalidRequestError):
        await mode.go(lease.invalidate())
    await mode.go(lease.close())
    assert other.is_valid
    assert not other.connection.closed
    await mode.go(other.close())


async def test_concurrent_invalidates_close_once(mode: Mode) -> None:
    """Two holders of a StaticPool's connection both find it broken."""
    holds = Holds(mode)
    pool = mode.pool("StaticPool", creator=holds.connect)
    leases = [await mode.go(pool.unique_connection()) for _ in range(2)]
    slow = holds.on("close")

    async def invalidate(lease: Any) -> None:
        await mode.go(lease.invalidate())

    async def next_caller() -> None:
        async with mode.block(pool.connect()) as conn:
            assert conn.number == 2

    async with mode.group() as start:
        for lease in leases:
            start(invalidate, lease)
        await mode.until(lambda: slow.reached)
        start(next_caller)
        await mode.until(lambda: not any(lease.is_valid for lease in leases))
        slow.release()
    assert mode.world.count("close") == 1


@all_kinds
async def test_double_return(mode: Mode, kind: str) -> None:
    """Trap: a double return gave one connection to two users."""
    if kind in ("StaticPool", "Singleton"):
        pytest.skip("shares its connection")
    pool = mode.pool(kind, use_threadlocal=False)
    lease = await mode.go(pool.connect())
    await mode.go(lease.close())
    await mode.go(lease.close())
    one = await mode.go(pool.connect())
    await mode.go(lease.close())
    if kind == "AssertionPool":
        with pytest.raises(AssertionError):
            await mode.go(pool.connect())
    else:
        two = await mode.go(pool.connect())
        assert one.connection is not two.connection
        await mode.go(two.close())
    await mode.go(one.close())


async def test_return_by_two_callers_at_once(mode: Mode) -> None:
    """Only one of two concurrent closes returns the connection."""
    holds = Holds(mode)
    pool = mode.pool(creator=holds.connect, pool_size=2, max_overflow=0)
    lease = await mode.go(pool.connect())
    slow = holds.on("rollback")

    async def close() -> None:
        await mode.go(lease.close())

    async with mode.group() as start:
        start(close)
        await mode.until(lambda: slow.reached)
        start(close)
        start(close)
        slow.release()
    assert mode.world.count("rollback") == 1
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)


async def test_nothing_is_done_to_dead_connections(mode: Mode) -> None:
    """Trap: finalize callbacks ran on dead connections."""
    seen: list[Any] = []

    class Listener:
        def checkin(self, connection: Any, record: Any) -> None:
            seen.append(connection)

    pool = mode.pool(listeners=[Listener()])
    lease = await mode.go(pool.connect())
    await mode.go(lease.invalidate())
    await mode.go(lease.close())
    del lease
    await mode.settle()
    assert seen == [None]
    assert mode.world.events_of(1) == ["close"]


async def test_initialisation_is_retried_for_each_connection(mode: Mode) -> None:
    """Trap: once-only initialisation was never retried after it failed; connections were
    handed out before theirs was over."""
    ready: set[int] = set()
    attempts: list[int] = []

    class Initialise:
        def connect(self, connection: Any, record: Any) -> None:
            attempts.append(connection.number)
            if len(attempts) == 1:
                raise OSError("not yet")
            ready.add(connection.number)

    pool = mode.pool(listeners=[Initialise()], use_threadlocal=False)
    with pytest.raises(OSError, match="not yet"):
        await mode.go(pool.connect())

    async def use() -> None:
        async with mode.block(pool.connect()) as conn:
            assert conn.number in ready

    async with mode.group() as start:
        for _ in range(5):
            start(use)
    assert sorted(attempts) == [c.number for c in mode.world.connections]


async def test_errors_have_no_misleading_context(mode: Mode) -> None:
    """Trap: "During handling of queue.Empty, another exception occurred"."""
    pool = mode.pool(pool_size=1, max_overflow=0)
    async with mode.block(pool.connect()):
        with pytest.raises(anypool.PoolTimeoutError) as caught:
            await mode.go(pool.unique_connection(timeout=0.01))
        assert caught.value.__context__ is caught.value.__cause__ is None
        with pytest.raises(anypool.PoolTimeoutError) as caught:
            await mode.go(pool.unique_connection(timeout=0))
        assert caught.value.__context__ is caught.value.__cause__ is None
    await mode.go(pool.dispose())
    mode.world.fail["connect"] = OSError("refused")
    with pytest.raises(OSError, match="refused") as refused:
        await mode.go(pool.connect())
    assert refused.value.__context__ is refused.value.__cause__ is None


async def test_dispose_waits_for_nobody(mode: Mode) -> None:
    """Trap: closing with a connection out spun at 100 % CPU, or waited for ever."""
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    idle = await mode.go(pool.unique_connection())
    await mode.go(idle.close())
    await mode.go(pool.dispose())
    assert mode.world.open == [1]
    await mode.go(lease.close())
    assert mode.world.open == []


async def test_connect_that_outlives_its_caller_is_used_or_closed(mode: Mode) -> None:
    """A blocking creator can't be stopped: what it makes for a caller that has left
    serves the next one, and no pool of one opens a second connection meanwhile."""
    if mode.name != "threads":
        pytest.skip("worker threads")
    for kind in ("QueuePool", "StaticPool", "AssertionPool", "Singleton"):
        holds = Holds(mode)
        options = {"pool_size": 1, "max_overflow": 0} if kind == "QueuePool" else {}
        pool = mode.pool(kind, creator=holds.connect, **options)
        slow = holds.on("connect")
        with anyio.move_on_after(0.02):
            await pool.connect()
        assert slow.reached == 1
        before = len(mode.world.connections)

        async def release(slow: Any = slow) -> None:
            await anyio.sleep(0.02)
            slow.release()

        async with mode.group() as start:
            start(release)
            if kind == "AssertionPool":
                with pytest.raises(AssertionError):
                    await pool.connect()
            else:
                async with pool.connect() as conn:
                    assert not conn.closed
        await mode.until(lambda before=before: len(mode.world.connections) > before)  # type: ignore[misc]
        await mode.settle()
        assert slow.reached == 1, kind
        await mode.go(pool.dispose())
        await mode.until(lambda: mode.world.open == [])


async def test_terminate_that_fails_hides_nothing(mode: Mode) -> None:
    """A driver that can't even terminate a connection neither replaces the error that is
    under way nor keeps the slot."""

    class Connection:
        def rollback(self) -> Any:
            raise Stop

        def close(self) -> Any:
            raise OSError("can't close")

        def terminate(self) -> None:
            raise OSError("can't terminate")

    class AsyncConnection(Connection):
        async def rollback(self) -> None:
            raise Stop

        async def close(self) -> None:
            raise OSError("can't close")

    async def connect() -> AsyncConnection:
        return AsyncConnection()

    creator: Any = connect if mode.world.coroutine else Connection
    pool = mode.pool(creator=creator, pool_size=1, max_overflow=0)
    for _ in range(2):
        lease = await mode.go(pool.connect(timeout=5))
        with pytest.raises(Stop):
            await mode.go(lease.close())
        await mode.until(lambda: pool.checkedout() == 0)


async def test_call_is_interrupted_while_a_connect_is_left_to_a_thread(mode: Mode) -> None:
    """The connect has its slot in its own name; it is not the interrupted caller's."""
    if mode.name != "threads":
        pytest.skip("needs calls in threads")
    holds = Holds(mode)
    driver = interruptible(mode)
    pool = mode.pool(creator=holds.connect, driver=driver)
    kept = await pool.connect()
    connecting = holds.on("connect")
    with pytest.raises(anypool.PoolTimeoutError):
        await pool.unique_connection(timeout=0.01)
    assert connecting.reached
    await kept.close()
    lease = await pool.connect()
    executing = holds.on("execute")
    interrupted = []

    def interrupt(connection: Any) -> None:
        interrupted.append(connection.number)
        executing.release()

    driver.interrupt = interrupt
    async with mode.group() as start:
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                await mode.until(lambda: executing.reached)
                scope.cancel()

            start(cancel)
            await pool.call(lease.connection.execute, "select 1")
    assert interrupted == [1]
    connecting.release()
    await lease.close()
    await pool.close()
