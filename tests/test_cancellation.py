"""Cancellation at every suspension of everything that a pool does.

Whatever is cut off, afterwards nothing is out, all of the capacity can be had, and each
connection is either in the pool or closed, none twice. And the cancellation arrives: it is
never swallowed.
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import anypool

from .support.fakes import World
from .support.invariants import running
from .support.modes import PATIENCE
from .support.opened import begin_connects
from .support.suspensions import AtSuspension

STYLES = ["asyncio scope", "asyncio cancel", "asyncio late cancel", "trio scope"]
"""A scope of anyio's; asyncio's Task.cancel(), which no shield of anyio's stops; the same,
arriving together with what was waited for; and trio's own."""

KINDS = ["QueuePool", "SingletonTaskPool", "NullPool", "StaticPool", "AssertionPool"]


class Stage:
    """A pool, and what a scenario does with it."""

    def __init__(self, kind: str, driver: str, options: dict[str, Any]) -> None:
        self.world = World(coroutine=driver == "async")
        self.world.pause = 2
        self.capacity = 1
        if kind != "QueuePool":
            options = {}
        else:
            options = {"pool_size": 1, "max_overflow": 0, "timeout": None} | options
            self.capacity = options["pool_size"] + options["max_overflow"]
        self.pool: Any = getattr(anypool, kind)(self.world.connect, **options)

    async def check(self, where: str) -> None:
        """Assert that nothing was lost."""
        pool = self.pool
        if pool._ledger.closed:
            await self._check_closed(where)
            return
        with anyio.move_on_after(PATIENCE) as scope:
            while pool._ledger.leases.out or (
                hasattr(pool, "checkedout") and pool.checkedout()
            ):
                await anyio.sleep(0.001)
        assert not scope.cancelled_caught, f"{where}: a slot is out for ever"
        leases = []
        for _ in range(self.capacity):
            lease = await self._connect(where)
            assert not lease.connection.closed, (
                f"{where}: a closed connection was given out"
            )
            leases.append(lease)
        for lease in leases:
            await lease.close()
        if pool._ledger.opened:
            await pool.close()
            await self._check_closed(where)
        else:
            await pool.dispose()
            await self._check_all_closed(where)

    async def _check_all_closed(self, where: str) -> None:
        with anyio.move_on_after(PATIENCE) as scope:
            while self.world.open:
                await anyio.sleep(0.001)
        assert not scope.cancelled_caught, (
            f"{where}: a connection was neither kept nor closed"
        )
        self.world.assert_sound()

    async def _check_closed(self, where: str) -> None:
        """Assert that a pool that is closed, or whose close was cut short, is no more."""
        pool = self.pool
        await self._check_all_closed(where)
        with anyio.move_on_after(PATIENCE) as scope:
            while pool.checkedout() or running(pool):
                await anyio.sleep(0.001)
        assert not scope.cancelled_caught, f"{where}: a slot or a task survived the close"
        with pytest.raises(anypool.PoolClosedError):
            await pool.connect()
        stats = pool.stats()
        assert (stats.size, stats.waiting, stats.connecting) == (0, 0, 0), where
        assert sum(stats.closed.values()) == stats.opened, f"{where}: {stats}"

    async def _connect(self, where: str) -> Any:
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    return await self.pool.unique_connection()
                except AssertionError:  # AssertionPool: is still being returned
                    await anyio.sleep(0.001)


Scenario = Callable[[Stage], Any]


@asynccontextmanager
async def connect(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Open, use and return."""

    async def work() -> None:
        async with stage.pool.connect() as conn:
            await stage.pool.call(conn.execute, "select 1")

    yield work


@asynccontextmanager
async def cycle(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Check out what is idle, and return it."""
    async with stage.pool.connect():
        pass

    async def work() -> None:
        lease = await stage.pool.connect()
        try:
            await anyio.lowlevel.checkpoint()
        finally:
            await lease.close()

    yield work


@asynccontextmanager
async def nested(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Twice the same connection."""

    async def work() -> None:
        async with stage.pool.connect(), stage.pool.connect():
            await anyio.lowlevel.checkpoint()

    yield work


@asynccontextmanager
async def recycle(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """What is idle is too old, and is replaced."""
    lease = await stage.pool.connect()
    await stage.pool.dispose()

    async def work() -> None:
        await lease.close()
        async with stage.pool.connect():
            pass

    yield work


@asynccontextmanager
async def listeners(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """With listeners that wait."""

    class Listener:
        async def connect(self, connection: Any, record: Any) -> None:
            await anyio.lowlevel.checkpoint()

        async def checkout(self, connection: Any, record: Any, lease: Any) -> None:
            await anyio.lowlevel.checkpoint()

        async def checkin(self, connection: Any, record: Any) -> None:
            await anyio.lowlevel.checkpoint()

    stage.pool.add_listener(Listener())

    async def work() -> None:
        async with stage.pool.connect():
            pass

    yield work


@asynccontextmanager
async def disconnection(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A checkout listener has the connection replaced."""

    class Reject:
        async def checkout(self, connection: Any, record: Any, lease: Any) -> None:
            await anyio.lowlevel.checkpoint()
            if connection.number == 1:
                raise anypool.DisconnectionError

    stage.pool.add_listener(Reject())

    async def work() -> None:
        async with stage.pool.connect():
            pass

    yield work


@asynccontextmanager
async def failures(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The reset fails, then the connect."""

    async def work() -> None:
        lease = await stage.pool.connect()
        try:
            stage.world.fail["rollback"] = OSError("gone")
            await anyio.lowlevel.checkpoint()
        finally:
            await lease.close()
        stage.world.fail["connect"] = OSError("refused")
        with pytest.raises(OSError, match="refused"):
            await stage.pool.connect()

    yield work


@asynccontextmanager
async def invalidate(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The connection is closed, and its slot reconnects."""

    async def work() -> None:
        async with stage.pool.connect():
            lease = await stage.pool.unique_connection() if stage.capacity > 1 else None
        lease = lease or await stage.pool.connect()
        try:
            await lease.invalidate()
        finally:
            await lease.close()
        async with stage.pool.connect():
            pass

    yield work


@asynccontextmanager
async def detach(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The connection leaves the pool."""

    async def work() -> None:
        lease = await stage.pool.connect()
        try:
            await lease.detach()
            await anyio.lowlevel.checkpoint()
        finally:
            await lease.close()

    yield work


@asynccontextmanager
async def drop(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The lease is lost."""

    async def work() -> None:
        lease = await stage.pool.connect()
        await anyio.lowlevel.checkpoint()
        del lease
        await anyio.lowlevel.checkpoint()

    yield work


@asynccontextmanager
async def dispose(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The pool is disposed of, with a connection out."""
    lease = await stage.pool.connect()
    try:
        yield stage.pool.dispose
    finally:
        await lease.close()


@asynccontextmanager
async def dispose_idle(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The pool is disposed of, with all connections idle."""
    leases = [await stage.pool.unique_connection() for _ in range(stage.capacity)]
    for lease in leases:
        await lease.close()
    yield stage.pool.dispose


@asynccontextmanager
async def overflow(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """One more than the pool keeps."""
    lease = await stage.pool.unique_connection()

    async def work() -> None:
        async with stage.pool.unique_connection():
            await lease.close()

    yield work
    await lease.close()


@asynccontextmanager
async def wait(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Wait, with others before and behind in the queue."""
    leases = [await stage.pool.unique_connection() for _ in range(stage.capacity)]
    served: list[int] = []

    async def other(number: int) -> None:
        async with stage.pool.unique_connection():
            await anyio.lowlevel.checkpoint()
        served.append(number)

    async def return_all() -> None:
        for lease in leases:
            await lease.close()

    async def work() -> None:
        async with stage.pool.unique_connection():
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other, 1)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(return_all)
        yield work
        tasks.start_soon(other, 2)
    assert sorted(served) == [1, 2]


@asynccontextmanager
async def time_out(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Wait in vain."""
    leases = [await stage.pool.unique_connection() for _ in range(stage.capacity)]

    async def work() -> None:
        with pytest.raises(anypool.PoolTimeoutError):
            await stage.pool.unique_connection(timeout=0.001)

    yield work
    for lease in leases:
        await lease.close()


@asynccontextmanager
async def deadline(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """With a timeout for connecting."""

    async def work() -> None:
        async with stage.pool.connect(timeout=PATIENCE):
            pass

    yield work


# In a pool that is opened.


@asynccontextmanager
async def opening(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Open the pool, and wait until it is warm."""

    async def work() -> None:
        await stage.pool.open()
        await stage.pool.wait(None)

    yield work
    await stage.pool.open()


@asynccontextmanager
async def fail_fast(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Open it where there is no server."""
    stage.world.fail["connect"] = OSError("refused")

    async def work() -> None:
        with pytest.raises(OSError, match="refused"):
            await stage.pool.open()

    yield work


@asynccontextmanager
async def connect_beside(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Wait for a connection that is opened in the background."""
    await stage.pool.open()

    async def work() -> None:
        async with stage.pool.connect():
            pass

    yield work


@asynccontextmanager
async def refused_beside(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """The same, in vain at first."""
    await stage.pool.open()
    stage.world.fail["connect"] = OSError("refused")
    stage.world.on["connect"] = lambda: stage.pool._ledger.growth.backoff.succeeded()

    async def work() -> None:
        with pytest.raises(anypool.PoolTimeoutError):
            await stage.pool.connect(timeout=0.01)

    yield work


@asynccontextmanager
async def ping(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """What is idle is pinged at checkout."""
    await stage.pool.open()
    async with stage.pool.connect():
        pass

    async def work() -> None:
        async with stage.pool.connect():
            pass

    yield work


@asynccontextmanager
async def failed_ping(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """What is idle doesn't answer, and another one is waited for."""
    await stage.pool.open()
    async with stage.pool.connect():
        pass
    stage.world.fail["ping"] = ConnectionResetError()

    async def work() -> None:
        async with stage.pool.connect():
            pass

    yield work


@asynccontextmanager
async def stale(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """What is idle is too old, and is replaced for a caller."""
    await stage.pool.open()
    async with stage.pool.connect():
        pass

    async def work() -> None:
        stage.pool._ledger.age()
        async with stage.pool.connect():
            pass

    yield work


@asynccontextmanager
async def drain(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Everything is replaced, what is idle in the background."""
    await stage.pool.open()
    leases = [await stage.pool.unique_connection() for _ in range(3)]
    for lease in leases[1:]:
        await lease.close()

    async def work() -> None:
        await stage.pool.drain()
        await anyio.lowlevel.checkpoint()
        await leases[0].close()
        async with stage.pool.connect():
            pass

    yield work
    await leases[0].close()


@asynccontextmanager
async def resize(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Idle connections are closed, since the pool is made smaller."""
    await stage.pool.open()
    leases = [await stage.pool.unique_connection() for _ in range(3)]
    for lease in leases:
        await lease.close()

    async def work() -> None:
        await stage.pool.resize(1, 0)

    yield work
    await stage.pool.resize(3, 0)


@asynccontextmanager
async def close_idle(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Close the pool, with nothing out."""
    await stage.pool.open()
    leases = [await stage.pool.unique_connection() for _ in range(3)]
    for lease in leases:
        await lease.close()
    yield stage.pool.close


@asynccontextmanager
async def close_busy(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Close it with something out that is being returned, and somebody who waits."""
    await stage.pool.open()
    lease = await stage.pool.unique_connection()

    async def wait() -> None:
        with pytest.raises(anypool.PoolClosedError):
            await stage.pool.unique_connection()

    async def give_back() -> None:
        while not stage.pool._ledger.closed:
            await anyio.lowlevel.checkpoint()
        await lease.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(give_back)
        yield stage.pool.close
        # Who was cancelled before anything was done has not closed it.
        await stage.pool.close()


@asynccontextmanager
async def close_at_work(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Close it while it connects, and with something out for too long."""
    await stage.pool.open()
    leases = [await stage.pool.unique_connection() for _ in range(2)]

    async def work() -> None:
        await stage.pool.resize(4, 0)
        begin_connects(stage.pool, 2)
        await anyio.lowlevel.checkpoint()
        await stage.pool.close(timeout=0)

    yield work
    for lease in leases:
        await lease.close()


EVERYWHERE = [
    connect,
    cycle,
    nested,
    recycle,
    listeners,
    disconnection,
    failures,
    invalidate,
    detach,
    drop,
    dispose,
    dispose_idle,
]
THREE = {"pool_size": 3}
OPENED: dict[Scenario, dict[str, Any]] = {
    opening: THREE | {"min_size": 2},
    fail_fast: THREE | {"fail_fast": True},
    connect_beside: {},
    refused_beside: {},
    ping: {"pre_ping": True},
    failed_ping: THREE | {"pre_ping": True},
    stale: {},
    drain: THREE,
    resize: THREE,
    close_idle: THREE,
    close_busy: {},
    close_at_work: {"pool_size": 2},
}
OPTIONS: dict[Scenario, dict[str, Any]] = {
    dispose_idle: THREE,
    overflow: {"max_overflow": 1},
    wait: {"max_overflow": 1},
    **OPENED,
}
CASES = [
    *(
        pytest.param(kind, each, id=f"{kind}-{each.__name__}")
        for kind in KINDS
        for each in EVERYWHERE
    ),
    *(
        pytest.param("QueuePool", each, id=f"QueuePool-{each.__name__}")
        for each in (overflow, wait, time_out, deadline, *OPENED)
    ),
]


@pytest.mark.parametrize("driver", ["async", "blocking"])
@pytest.mark.parametrize(("kind", "scenario"), CASES)
@pytest.mark.parametrize("style", STYLES)
def test_cancellation_at_every_suspension(
    style: str, kind: str, scenario: Scenario, driver: str
) -> None:
    """Nothing is lost, whichever await is the last."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        backend = style.partition(" ")[0]
        anyio.run(_at_every, style, kind, scenario, driver, backend=backend)
        gc.collect()


async def _at_every(style: str, kind: str, scenario: Scenario, driver: str) -> None:
    number = 0
    while True:
        number += 1
        with anyio.fail_after(6 * PATIENCE):
            stage = Stage(kind, driver, OPTIONS.get(scenario, {}))
            if not await _once(stage, scenario, style, number):
                break
    assert number > 1


async def _once(stage: Stage, scenario: Scenario, style: str, number: int) -> bool:
    async with scenario(stage) as work:

        async def all_of_it() -> None:
            await work()
            # So that a cancellation that came at the last moment is seen here.
            await anyio.lowlevel.checkpoint()

        cancelled = False
        if style.endswith("scope"):
            with anyio.CancelScope() as scope:
                at = AtSuspension(all_of_it(), number, scope.cancel)
                await at
            cancelled = scope.cancelled_caught
        else:
            tasks: list[asyncio.Task[None]] = []
            late = style == "asyncio late cancel"
            at = AtSuspension(
                all_of_it(), number, None if late else lambda: tasks[0].cancel()
            )

            async def run() -> None:
                await at

            tasks.append(asyncio.ensure_future(run()))
            try:
                await tasks[0]
            except asyncio.CancelledError:
                cancelled = True
            finally:
                tasks.clear()
        assert cancelled == at.struck, (
            f"suspension {number}: the cancellation was swallowed"
        )
        stage.world.fail.clear()
        await anyio.lowlevel.checkpoint()  # the loop itself forgets what it raised
        gc.collect()
    await stage.check(f"suspension {number}")
    return at.struck
