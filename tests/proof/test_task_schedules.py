"""Schedules of tasks: who goes on, and who is cancelled, at each suspension.

An operation of a connection, or a listener, suspends as often as the schedule says: so it
decides which task is the next. Small cases are run in all schedules with a bounded number
of deviations, and a cancellation anywhere; large ones at random. What a failure prints as
plan or seed replays it: ``PROOF_SEED=17 make proof``.
"""

from __future__ import annotations

import asyncio
import gc
import random
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

import anypool

from ..support.bounds import proof, rounds, sample, seeds
from ..support.clocks import driven
from ..support.invariants import assert_nothing_lost, books
from ..support.suspensions import AtSuspension
from ..support.witness import LEFT, Witness

BACKENDS = ["asyncio", "trio"]
Pauses = Callable[[], int]


class Stage:
    """A pool, and what tasks do with it."""

    def __init__(self, kind: str, pauses: Pauses, **options: Any) -> None:
        self.shared = kind in ("StaticPool", "SingletonTaskPool")
        self.witness = Witness(coroutine=True, shared=self.shared)
        self.witness.before = self._before
        self.kind = kind
        self.capacity = 1
        self.fail_connects = 0
        self.refuse: set[int] = set()
        self.strikes = 0.0
        self._pauses = pauses
        if kind == "QueuePool":
            self.capacity = options["pool_size"] + options["max_overflow"]
            self.witness.capacity = self.capacity
        self.knows = bool(options.pop("known", False))
        if self.knows:
            abrupt = options.pop("abrupt", False)
            options["driver"] = self.witness.driver(terminates=abrupt)
            if kind == "QueuePool" and "recycle" not in options:
                self.witness.keep = options["pool_size"]
        if options.pop("listen", False):
            options["listeners"] = [_Listener(self)]
        self.pool: Any = getattr(anypool, kind)(self.witness.creator, **options)

    async def pause(self) -> None:
        for _ in range(self._pauses()):
            await anyio.lowlevel.checkpoint()

    async def _before(self, what: str, connection: Any) -> None:
        await self.pause()
        if what == "connect" and self.fail_connects:
            self.fail_connects -= 1
            raise ConnectionRefusedError
        if what == "rollback" and connection.number in self.refuse:
            raise ConnectionResetError

    async def check(self, where: object) -> None:
        gc.collect(0)
        self.fail_connects = 0
        await assert_nothing_lost(
            self.pool, self.witness, _soon, capacity=self.capacity, where=where
        )

    async def take(self, **options: Any) -> Any:
        lease = await self.pool.unique_connection(**options)
        self.witness.handed_out(lease.connection, lease._ref)
        return lease

    async def give(self, lease: Any) -> None:
        if lease.is_valid:
            self.witness.given_back(lease.connection, lease._ref)
        await lease.close()

    async def leave(self, lease: Any, what: str) -> None:
        """Return in the middle of something."""
        if lease.is_valid:
            lease.connection.leave(what)
        await self.give(lease)

    async def dispose(self) -> None:
        with self.witness.excuse():
            await self.pool.dispose()

    async def cycle(self, **options: Any) -> None:
        lease = await self.take(**options)
        try:
            await lease.connection.execute("select 1")
        finally:
            await self.give(lease)

    async def block(self) -> None:
        """The same with the statement that users write."""
        async with self.pool.connect() as connection, self.pool.connect() as same:
            assert connection is same
            self.witness.handed_out(connection, connection)
            try:
                await connection.execute("select 1")
            finally:
                self.witness.given_back(connection, connection)

    async def invalidate(self, lease: Any) -> None:
        self.witness.given_back(lease.connection, lease._ref)
        lease.connection.excused = True
        await lease.invalidate()

    async def detach(self, lease: Any) -> None:
        lease.connection.detached = True
        self.witness.given_back(lease.connection, lease._ref)
        await lease.detach()
        await lease.close()

    async def lose(self, lease: Any) -> None:
        self.witness.given_back(lease.connection, lease._ref)


class _Listener:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def connect(self, connection: Any, record: Any) -> None:
        await self._stage.pause()

    async def checkout(self, connection: Any, record: Any, lease: Any) -> None:
        await self._stage.pause()

    async def checkin(self, connection: Any, record: Any) -> None:
        await self._stage.pause()


async def _soon(condition: Callable[[], object]) -> None:
    for _ in range(100):
        if condition():
            return
        await anyio.sleep(0.5)
    raise AssertionError("what was waited for did not happen")


Scenario = Callable[[Stage], Any]
"""As a context manager: prepares a stage, and gives what each of two tasks does; the first
of them may be cancelled."""


@asynccontextmanager
async def contend(stage: Stage) -> AsyncIterator[Any]:
    """Two want what only one can have."""
    yield stage.cycle, stage.block


@asynccontextmanager
async def hand_off(stage: Stage) -> AsyncIterator[Any]:
    """One waits while the other returns."""
    lease = await stage.take()
    yield stage.cycle, lambda: stage.give(lease)


@asynccontextmanager
async def give_and_wait(stage: Stage) -> AsyncIterator[Any]:
    """One returns while the other waits."""
    lease = await stage.take()
    yield lambda: stage.give(lease), stage.cycle
    await lease.close()


@asynccontextmanager
async def invalidate_and_wait(stage: Stage) -> AsyncIterator[Any]:
    """One's connection is closed while the other waits."""
    lease = await stage.take()
    yield lambda: stage.invalidate(lease), stage.cycle
    await lease.close()


@asynccontextmanager
async def detach_and_wait(stage: Stage) -> AsyncIterator[Any]:
    """One's connection leaves while the other waits."""
    lease = await stage.take()
    yield lambda: stage.detach(lease), stage.cycle
    await lease.close()


@asynccontextmanager
async def dispose_and_take(stage: Stage) -> AsyncIterator[Any]:
    """One disposes while the other comes."""
    await stage.cycle()
    yield stage.dispose, stage.cycle


@asynccontextmanager
async def take_and_dispose(stage: Stage) -> AsyncIterator[Any]:
    """One comes while the other disposes."""
    await stage.cycle()
    yield stage.cycle, stage.dispose


@asynccontextmanager
async def fail_and_wait(stage: Stage) -> AsyncIterator[Any]:
    """The first connect fails."""
    stage.fail_connects = 1

    async def unlucky() -> None:
        with suppress(ConnectionRefusedError):
            await stage.cycle()

    yield unlucky, unlucky


@asynccontextmanager
async def no_reset_and_wait(stage: Stage) -> AsyncIterator[Any]:
    """One's connection can't be reset while the other waits."""
    lease = await stage.take()
    stage.refuse.add(1)
    yield lambda: stage.give(lease), stage.cycle
    await lease.close()


@asynccontextmanager
async def recycle(stage: Stage) -> AsyncIterator[Any]:
    """What both want is too old."""
    lease = await stage.take()
    await stage.dispose()
    await stage.give(lease)
    yield stage.cycle, stage.block


@asynccontextmanager
async def time_out(stage: Stage) -> AsyncIterator[Any]:
    """One has little patience."""

    async def impatient() -> None:
        with suppress(anypool.PoolTimeoutError):
            await stage.cycle(timeout=0.0001)

    yield impatient, stage.block


@asynccontextmanager
async def leave_busy_and_wait(stage: Stage) -> AsyncIterator[Any]:
    """One returns in the middle of a statement while the other waits."""
    lease = await stage.take()
    yield lambda: stage.leave(lease, "busy changed"), stage.cycle
    await lease.close()


@asynccontextmanager
async def leave_stuck_and_wait(stage: Stage) -> AsyncIterator[Any]:
    """The same where the statement can't be stopped."""
    lease = await stage.take()
    yield lambda: stage.leave(lease, "stays"), stage.cycle
    await lease.close()


@asynccontextmanager
async def lose_busy_and_wait(stage: Stage) -> AsyncIterator[Any]:
    """One forgets to return in the middle of a statement while the other waits."""
    leases = [await stage.take()]
    leases[0].connection.leave("busy two-phase")

    async def lose() -> None:
        await stage.lose(leases.pop())

    yield lose, stage.cycle


BUSY = [leave_busy_and_wait, leave_stuck_and_wait, lose_busy_and_wait]
SCENARIOS = [
    *BUSY,
    contend,
    hand_off,
    give_and_wait,
    invalidate_and_wait,
    detach_and_wait,
    dispose_and_take,
    take_and_dispose,
    fail_and_wait,
    no_reset_and_wait,
    recycle,
    time_out,
]
CASES = [
    pytest.param(
        kind,
        scenario,
        id=f"{kind}-{scenario.__name__}",
        marks=[] if kind == "QueuePool" else [proof],
    )
    for kind in ("QueuePool", "SingletonTaskPool", "StaticPool")
    for scenario in SCENARIOS
]
OPTIONS: dict[str, Any] = {
    "QueuePool": {"pool_size": 1, "max_overflow": 0, "timeout": None}
}


class Plan:
    """How often to suspend at each operation: once, but for a few exceptions."""

    def __init__(self, exceptions: dict[int, int]) -> None:
        self.length = 0
        self._exceptions = exceptions

    def __call__(self) -> int:
        self.length += 1
        return self._exceptions.get(self.length - 1, 1)


async def play(
    kind: str, scenario: Scenario, exceptions: dict[int, int], strike: int, native: bool
) -> tuple[int, bool]:
    """Run one schedule; return how many operations there were, and whether it struck.

    Args:
        kind, scenario: what to do.
        exceptions: see Plan.
        strike: at which of its suspensions the first task is cancelled; 0: never.
        native: whether by asyncio's Task.cancel().
    """
    plan = Plan(exceptions)
    where = f"plan {exceptions}, cancelled at {strike}{' natively' * native}"
    stage = Stage(kind, plan, known=scenario in BUSY, **OPTIONS.get(kind, {}))
    struck = False
    with anyio.fail_after(1000):
        async with scenario(stage) as (first, second):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(second)
                if native:
                    # asyncio's own cancellation breaks the shelter of a return: what that
                    # was at is closed.
                    excused = stage.witness.excuse() if strike else nullcontext()
                    with excused:
                        struck = await _natively(first, strike)
                else:
                    with anyio.CancelScope() as scope:
                        at = AtSuspension(_and_look(first), strike, scope.cancel)
                        await at
                    struck = at.struck
                    assert scope.cancelled_caught == struck, f"{where}: swallowed"
    await stage.check(where)
    return plan.length, struck


async def _and_look(work: Callable[[], Awaitable[None]]) -> None:
    await work()
    # So that a cancellation that came at the last moment is seen here.
    await anyio.lowlevel.checkpoint()


async def _natively(first: Callable[[], Awaitable[None]], strike: int) -> bool:
    tasks: list[asyncio.Task[None]] = []
    at = AtSuspension(_and_look(first), strike, lambda: tasks[0].cancel())

    async def run() -> None:
        await at

    tasks.append(asyncio.ensure_future(run()))
    cancelled = False
    try:
        await tasks[0]
    except asyncio.CancelledError:
        cancelled = True
    assert cancelled == at.struck, f"cancelled at {strike}: swallowed"
    return at.struck


async def explore(kind: str, scenario: Scenario, bound: int, native: bool) -> int:
    """Run all schedules with up to so many exceptions, and a cancellation at each
    suspension; return how many there were.

    Of those with two exceptions there may be too many; then a sample of them.
    """
    played = 0
    for strike in count(0):
        plans: list[dict[int, int]] = [{}]
        struck = False
        for exceptions in range(bound + 1):
            following: list[dict[int, int]] = []
            for plan in plans:
                length, hit = await play(kind, scenario, plan, strike, native)
                played += 1
                struck = struck or hit
                following += [
                    plan | {place: pauses}
                    for place in range(max(plan, default=-1) + 1, length)
                    for pauses in (0, 3)
                ]
            plans = following if exceptions == 0 else sample(following, 200)
        if strike and not struck:
            return played
    raise AssertionError


def run(backend: str, *args: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return anyio.run(*args, **driven(backend))


@pytest.mark.parametrize(("kind", "scenario"), CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_all_schedules(backend: str, kind: str, scenario: Scenario) -> None:
    """One task is cancelled anywhere, while one operation is quick or slow."""
    assert run(backend, explore, kind, scenario, 1, False) > 20


@proof
@pytest.mark.parametrize(("kind", "scenario"), CASES)
@pytest.mark.parametrize("style", ["asyncio", "trio", "asyncio natively"])
def test_all_schedules_with_two_exceptions(
    style: str, kind: str, scenario: Scenario
) -> None:
    """The same with two operations that are quick or slow; natively cancelled, too."""
    backend, _, native = style.partition(" ")
    assert run(backend, explore, kind, scenario, 2, bool(native)) > 100


OPERATIONS = (
    *("cycle", "block", "hold", "invalidate", "detach", "lose", "dispose", "hurry"),
    *("leave", "leave"),
)


class Script:
    """What one task does, at random."""

    def __init__(self, stage: Stage, choose: random.Random, length: int) -> None:
        self._stage = stage
        self._random = choose
        self._length = length

    async def run(self) -> None:
        held: list[Any] = []
        shared = (anypool.InvalidRequestError,) if self._stage.shared else ()
        expected = (anypool.PoolTimeoutError, ConnectionError, *shared)
        for _ in range(self._length):
            operation = self._random.choice(OPERATIONS)
            if operation == "detach" and self._stage.kind == "StaticPool":
                continue  # who detaches what others use takes it away from them
            with suppress(*expected), anyio.CancelScope() as scope:
                if self._random.random() < self._stage.strikes:
                    strike = self._random.randint(1, 12)
                    work = self._do(operation, held)
                    await AtSuspension(work, strike, scope.cancel)
                else:
                    await self._do(operation, held)
            wrong = books(self._stage.pool)
            assert not wrong, wrong
        with anyio.CancelScope(shield=True):
            while held:
                await self._stage.give(held.pop())

    async def _do(self, operation: str, held: list[Any]) -> None:
        stage = self._stage
        if operation == "dispose":
            await stage.dispose()
        elif operation == "hurry":
            await stage.cycle(timeout=0)
        elif operation == "block" and not held:
            await stage.block()
        elif held:
            lease = held.pop()
            if operation == "cycle" or (operation == "leave" and not stage.knows):
                await stage.give(lease)
            elif operation == "leave":
                await stage.leave(lease, self._random.choice(LEFT))
            elif operation in ("hold", "block"):
                held.append(lease)
                if lease.is_valid:
                    await lease.connection.execute("select 1")
            else:
                await getattr(stage, operation)(lease)
        elif operation == "cycle":
            await stage.cycle(timeout=5)
        else:
            held.append(await stage.take(timeout=self._random.choice([0.5, 5])))


async def play_at_random(kind: str, seed: int) -> None:
    choose = random.Random(seed)
    backends_own: Any = trio._core._run
    backends_own._ALLOW_DETERMINISTIC_SCHEDULING = True
    backends_own._r.seed(seed)
    options: dict[str, Any] = {
        "known": choose.random() < 0.5,
        "abrupt": choose.random() < 0.5,
        "listen": choose.random() < 0.3,
        "reset_on_return": choose.choice(["rollback", "commit", "full", "rollback"]),
    }
    if not options["known"]:
        del options["abrupt"]
    if choose.random() < 0.3:
        options["recycle"] = 0
    if kind == "QueuePool":
        options |= {"pool_size": choose.randint(1, 2), "max_overflow": choose.randint(0, 2)}
    elif kind == "SingletonTaskPool":
        options |= {"pool_size": choose.randint(1, 3)}
    stage = Stage(kind, lambda: choose.choice([0, 0, 1, 2, 5]), **options)
    stage.strikes = choose.choice([0.0, 0.3, 0.3])
    if stage.strikes:
        # Whoever is cancelled in a checkout may cost a connection.
        stage.witness.keep = 0
    stage.fail_connects = choose.choice([0, 0, 1, 2])
    stage.refuse = {choose.randint(1, 6) for _ in range(choose.randint(0, 2))}
    with anyio.fail_after(10000):
        async with anyio.create_task_group() as tasks:
            for _ in range(choose.randint(2, 5)):
                tasks.start_soon(Script(stage, choose, choose.randint(2, 8)).run)
    await stage.check(f"seed {seed}: PROOF_SEED={seed}")


async def _play_all(kind: str) -> None:
    for seed in seeds(rounds(100, 4000)):
        try:
            await play_at_random(kind, seed)
        except BaseException as error:
            raise AssertionError(f"seed {seed}: PROOF_SEED={seed}") from error


@pytest.mark.parametrize(
    "kind", ["QueuePool", "SingletonTaskPool", "StaticPool", "NullPool"]
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_random_schedules(backend: str, kind: str) -> None:
    """Up to five tasks with random scripts, which are cancelled at random."""
    run(backend, _play_all, kind)
