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
from .support.modes import PATIENCE
from .support.suspensions import AtSuspension

STYLES = ["asyncio scope", "asyncio cancel", "asyncio late cancel", "trio scope"]
"""A scope of anyio's; asyncio's Task.cancel(), which no shield of anyio's stops; the same,
arriving together with what was waited for; and trio's own."""

KINDS = ["QueuePool", "SingletonTaskPool", "NullPool", "StaticPool", "AssertionPool"]


class Stage:
    """A pool, and what a scenario does with it."""

    def __init__(self, kind: str, driver: str, size: int, overflow: int) -> None:
        self.world = World(coroutine=driver == "async")
        self.world.pause = 2
        options: dict[str, Any] = {}
        self.capacity = 1
        if kind == "QueuePool":
            options = {"pool_size": size, "max_overflow": overflow, "timeout": None}
            self.capacity = size + overflow
        self.pool: Any = getattr(anypool, kind)(self.world.connect, **options)

    async def check(self, where: str) -> None:
        """Assert that nothing was lost."""
        pool = self.pool
        with anyio.move_on_after(PATIENCE) as scope:
            while pool._out or (hasattr(pool, "checkedout") and pool.checkedout()):
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
        await pool.dispose()
        with anyio.move_on_after(PATIENCE) as scope:
            while self.world.open:
                await anyio.sleep(0.001)
        assert not scope.cancelled_caught, (
            f"{where}: a connection was neither kept nor closed"
        )
        self.world.assert_sound()

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
CASES = [
    *(
        pytest.param(kind, each, id=f"{kind}-{each.__name__}")
        for kind in KINDS
        for each in EVERYWHERE
    ),
    *(
        pytest.param("QueuePool", each, id=f"QueuePool-{each.__name__}")
        for each in (overflow, wait, time_out, deadline)
    ),
]


@pytest.mark.parametrize("driver", ["async", "blocking"])
@pytest.mark.parametrize(("kind", "scenario"), CASES)
@pytest.mark.parametrize("style", STYLES)
def test_cancellation_at_every_suspension(
    style: str, kind: str, scenario: Scenario, driver: str
) -> None:
    """Nothing is lost, whichever await is the last."""
    gc.freeze()  # what there is now needn't be looked at: that makes collecting quick
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            backend = style.partition(" ")[0]
            anyio.run(_at_every, style, kind, scenario, driver, backend=backend)
            gc.collect()
    finally:
        gc.unfreeze()


async def _at_every(style: str, kind: str, scenario: Scenario, driver: str) -> None:
    number = 0
    while True:
        number += 1
        with anyio.fail_after(6 * PATIENCE):
            size = 3 if scenario is dispose_idle else 1
            stage = Stage(kind, driver, size, 1 if scenario in (overflow, wait) else 0)
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
