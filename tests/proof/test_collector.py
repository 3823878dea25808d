"""The garbage collector at every point: at each line of the pool's code, at each
allocation, at exit.

The garbage is a lease in a reference cycle, so that only the collector finds it, and its
finalizer runs wherever that is.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import pytest

import anypool
from anypool import sync

from ..support.bounds import EFFORT, proof, stride
from ..support.clocks import driven
from ..support.invariants import assert_nothing_lost
from ..support.modes import PATIENCE, run_blocking
from ..support.tracing import AtLine
from ..support.witness import Witness

KINDS = [
    "QueuePool",
    *(pytest.param(kind, marks=proof) for kind in ("Singleton", "NullPool", "StaticPool")),
]
SHARED = ("Singleton", "StaticPool")
LITTERED = ("busy two-phase", "busy changed", "stays")


class Litter:
    """Leases in reference cycles, to be thrown away one by one.

    Each leaves something behind on its connection, if that is its own.
    """

    def __init__(self, leases: list[Any]) -> None:
        self._pieces: list[_Cycle] = []
        while leases:
            connection = leases[-1].connection
            if not connection.witness.shared:
                connection.leave(LITTERED[len(leases) % len(LITTERED)])
            self._pieces.append(_Cycle(leases.pop()))

    def drop(self) -> None:
        """Throw one away; the collector will find it."""
        if self._pieces:
            self._pieces.pop()

    def drop_and_collect(self) -> None:
        self.drop()
        gc.collect()


class _Cycle:
    def __init__(self, lease: Any) -> None:
        self.me = self
        self.lease = lease


class Stage:
    """A pool whose leases are littered about."""

    def __init__(self, module: Any, kind: str, litter: int) -> None:
        self.blocking = module is sync
        self.witness = Witness(coroutine=not self.blocking, shared=kind in SHARED)
        self.capacity = 1
        options: dict[str, Any] = {"driver": self.witness.driver()}
        if kind == "QueuePool":
            options |= {"pool_size": litter + 1, "max_overflow": 1, "timeout": 5}
            self.capacity = self.witness.capacity = litter + 2
        elif kind == "Singleton":
            kind = "SingletonThreadPool" if self.blocking else "SingletonTaskPool"
        self.pool: Any = getattr(module, kind)(self.witness.creator, **options)

    async def check(self, until: Any, where: object) -> None:
        await assert_nothing_lost(
            self.pool, self.witness, until, capacity=self.capacity, where=where
        )


def cycle(pool: Any) -> None:
    """Check out, use, return, twice."""
    for _ in range(2):
        with pool.connect() as connection:
            connection.execute("select 1")


def overflow(pool: Any) -> None:
    """Two at a time."""
    leases = [pool.unique_connection(timeout=0) for _ in range(2)]
    for lease in leases:
        lease.close()


def exhaust(pool: Any) -> None:
    """One more than there can be, perhaps."""
    leases = []
    with suppress(anypool.PoolTimeoutError):
        leases += [pool.unique_connection(timeout=0.0005) for _ in range(2)]
        leases.append(pool.unique_connection(timeout=0.0005))
    for lease in leases:
        lease.close()


def invalidate(pool: Any) -> None:
    """Close a connection, and open another."""
    lease = pool.unique_connection()
    lease.invalidate()
    lease = pool.unique_connection()
    lease.connection.detached = True
    lease.detach()
    lease.close()


def dispose(pool: Any) -> None:
    """Dispose, with a connection out and without."""
    with pool.connect():
        pool.dispose()
    pool.dispose()


async def cycle_async(pool: Any) -> None:
    """The same in an event loop."""
    for _ in range(2):
        async with pool.connect() as connection:
            await connection.execute("select 1")


async def invalidate_async(pool: Any) -> None:
    """The same in an event loop."""
    lease = await pool.unique_connection()
    await lease.invalidate()
    lease = await pool.unique_connection()
    lease.connection.detached = True
    await lease.detach()
    await lease.close()


async def wait_async(pool: Any) -> None:
    """Wait for what others return."""

    async def one() -> None:
        async with pool.unique_connection() as connection:
            await connection.execute("select 1")

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(one)


async def dispose_async(pool: Any) -> None:
    """The same in an event loop."""
    async with pool.connect():
        await pool.dispose()
    await pool.dispose()


SCENARIOS = [cycle, overflow, exhaust, invalidate, dispose]
SCENARIOS_ASYNC = [cycle_async, invalidate_async, wait_async, dispose_async]


@contextmanager
def _collecting(*, automatic: bool) -> Iterator[None]:
    before = gc.get_threshold()
    gc.collect()
    if automatic:
        gc.set_threshold(1, 1, 1)
    else:
        gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        gc.set_threshold(*before)
        gc.enable()


async def _now(condition: Callable[[], object]) -> None:
    gc.collect()
    assert condition()


async def _soon(condition: Callable[[], object]) -> None:
    gc.collect()
    for _ in range(100):
        if condition():
            return
        await anyio.sleep(0.5)
    raise AssertionError("what was waited for did not happen")


def _in_thread(work: Callable[[], None]) -> None:
    """Run something where a deadlock shows."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "a deadlock"
    if errors:
        raise errors[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_collected_at_every_line(kind: str, scenario: Callable[[Any], None]) -> None:
    """A lease is found at each line of a blocking pool's code in turn."""
    lines: list[str | None] = ["the first"]

    def run(number: int) -> None:
        stage = Stage(sync, kind, litter=1)
        litter = Litter([stage.pool.unique_connection()])
        with AtLine(number, litter.drop_and_collect) as at:
            scenario(stage.pool)
        litter.drop()
        lines.append(at.where)
        run_blocking(stage.check(_now, at.where))

    with _collecting(automatic=False):
        while lines[-1] is not None:
            _in_thread(lambda: run(len(lines)))
    assert len(lines) > 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_collector_at_every_allocation(kind: str, scenario: Callable[[Any], None]) -> None:
    """The collector runs at each allocation, and finds something every few lines."""

    def run(every: int) -> None:
        stage = Stage(sync, kind, litter=6)
        litter = Litter([stage.pool.unique_connection() for _ in range(6)])
        _EveryLines(every, litter.drop).run(scenario, stage.pool)
        while litter._pieces:
            litter.drop()
        run_blocking(stage.check(_now, f"every {every} lines"))

    with _collecting(automatic=True):
        for every in range(1, 60 if EFFORT else 12):
            _in_thread(lambda every=every: run(every))  # type: ignore[misc]


class _EveryLines:
    """Calls something every few lines of whatever is run."""

    def __init__(self, every: int, act: Callable[[], None]) -> None:
        self._every = every
        self._act = act
        self._count = 0

    def run(self, function: Callable[..., None], *args: Any) -> None:
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            function(*args)
        finally:
            sys.settrace(before)

    def _trace(self, frame: Any, event: str, arg: object) -> Any:
        if event == "line":
            self._count += 1
            if not self._count % self._every:
                self._act()
        return self._trace


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scenario", SCENARIOS_ASYNC)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_collected_at_every_line_in_a_loop(
    backend: str, kind: str, scenario: Callable[[Any], Any]
) -> None:
    """A lease is found at each line of an async pool's code in turn."""

    async def run(number: int) -> str | None:
        stage = Stage(anypool, kind, litter=1)
        litter = Litter([await stage.pool.unique_connection()])
        with anyio.fail_after(1000):
            with AtLine(number, litter.drop_and_collect) as at:
                await scenario(stage.pool)
            litter.drop()
            await stage.check(_soon, at.where)
        return at.where

    async def run_all() -> int:
        for number in range(1, 10000, stride(3)):
            if await run(number) is None:
                return number
        raise AssertionError

    with _collecting(automatic=False):
        assert anyio.run(run_all, **driven(backend)) > 20


SCRIPT = """
import gc, sys, threading, warnings
import anyio, anypool
from anypool import sync
warnings.simplefilter("ignore", ResourceWarning)
gc.set_threshold(1, 1, 1)

class Connection:
    def execute(self, statement): pass
    def rollback(self): pass
    def close(self): pass

class AsyncConnection:
    async def execute(self, statement): await anyio.sleep(0)
    async def rollback(self): await anyio.sleep(0)
    async def close(self): await anyio.sleep(0)

async def create(): return AsyncConnection()

class Cycle:
    def __init__(self, lease): self.me, self.lease = self, lease

def blocking(pool):
    for number in range(20):
        with pool.connect(): pass
        Cycle(pool.unique_connection(timeout=5))
    kept.append(Cycle(pool.unique_connection(timeout=5)))

async def asynchronous():
    async def one():
        for number in range(10):
            async with pool.connect(): pass
            Cycle(await pool.unique_connection(timeout=5))
    pool = anypool.QueuePool(create, pool_size=2, max_overflow=1)
    async with anyio.create_task_group() as tasks:
        for _ in range(3): tasks.start_soon(one)
    kept.append(Cycle(await pool.unique_connection(timeout=5)))
    kept.append(pool)

kept = []
what = sys.argv[1]
if what in ("asyncio", "trio"):
    anyio.run(asynchronous, backend=what)
else:
    pool = sync.QueuePool(Connection if what == "threads" else create,
                          pool_size=2, max_overflow=8, timeout=10)
    threads = [threading.Thread(target=blocking, args=(pool,)) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
if sys.argv[2] == "dropped": kept.clear()
print("done")
"""


@pytest.mark.parametrize("rest", ["kept", "dropped"])
@pytest.mark.parametrize("what", ["threads", "portal", "asyncio", "trio"])
def test_collector_until_the_exit(what: str, rest: str) -> None:
    """A program in which the collector runs all the time ends in time, without a word."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, what, rest],
        # What measures coverage allocates as well: the collector would get nowhere.
        env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr, result.stdout) == (0, "", "done\n")
