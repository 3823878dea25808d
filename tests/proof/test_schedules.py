"""Schedules of threads: the blocking code, with switches at each of its lines.

Small cases are run in all schedules with a bounded number of preemptions; large ones at
random. What a failure prints as plan or seed replays it: ``PROOF_SEED=17 make proof``.
"""

from __future__ import annotations

import gc
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

import anypool
from anypool import sync

from ..support.bounds import proof, rounds, sample, seeds, stride
from ..support.invariants import assert_all_closed, assert_nothing_lost, books
from ..support.modes import run_blocking
from ..support.scheduler import Decisions, Planned, Random, Scheduler, scheduled
from ..support.witness import LEFT, Witness


class BrokenOff(BaseException):
    """Ends what is going on, as an interrupt does."""


class Stage:
    """A pool, the threads that use it, and what they do."""

    def __init__(self, decisions: Decisions, kind: str, options: dict[str, Any]) -> None:
        self.shared = kind in ("StaticPool", "SingletonThreadPool")
        self.witness = Witness(coroutine=False, shared=self.shared)
        self.scheduler = Scheduler(decisions, self.witness.blame)
        self.witness.before = self._before
        self.kind = kind
        self.capacity = 1
        self.fail_connects = 0
        self.refuse: set[int] = set()
        self.break_off: set[int] = set()
        self.closed = False
        self.oldest = 1
        self.options = dict(options)
        if kind == "QueuePool":
            self.capacity = options["pool_size"] + options["max_overflow"]
            self.witness.capacity = self.capacity
        self.knows = bool(self.options.pop("knows", False))
        if self.knows:
            self.options["driver"] = self.witness.driver()
            if "recycle" not in options:
                self.witness.keep = options.get("pool_size", 0) * (kind == "QueuePool")
        with scheduled(self.scheduler):
            self.pool: Any = getattr(sync, kind)(self.witness.connect, **self.options)

    def _before(self, what: str, connection: object) -> None:
        self.scheduler.point()
        if what == "connect" and self.fail_connects:
            self.fail_connects -= 1
            raise ConnectionRefusedError
        if what == "rollback" and getattr(connection, "number", 0) in self.refuse:
            raise ConnectionResetError
        if what == "rollback" and getattr(connection, "number", 0) in self.break_off:
            raise BrokenOff

    def run(self) -> None:
        with scheduled(self.scheduler):
            self.scheduler.run()
            self.fail_connects = 0
            if self.closed:
                assert_all_closed(self.pool, self.witness)
                return
            lease = self.pool.unique_connection(timeout=0)
            assert lease.connection.number >= self.oldest
            lease.close()
            run_blocking(
                assert_nothing_lost(self.pool, self.witness, _now, capacity=self.capacity)
            )

    # What threads do.

    def take(self, **options: Any) -> Any:
        """Check out; see to it that nobody was overtaken."""
        before = [gate for gate in self.scheduler.gates if gate.awaited and gate.taken]
        count = len(self.scheduler.gates)
        lease = self.pool.unique_connection(**options)
        waited = len(self.scheduler.gates) > count
        if not waited and any(gate.awaited and gate.taken for gate in before):
            self.witness.blame("a newcomer overtook a waiter")
        self.witness.handed_out(lease.connection, lease._ref)
        return lease

    def give(self, lease: Any) -> None:
        """Return."""
        if lease.is_valid:
            self.witness.given_back(lease.connection, lease._ref)
        lease.close()

    def cycle(self, **options: Any) -> None:
        """Check out, use, return."""
        lease = self.take(**options)
        lease.connection.execute("select 1")
        assert lease.is_valid
        self.give(lease)

    def cycle_or_not(self) -> None:
        """The same, of a pool that is perhaps closed."""
        with suppress(anypool.PoolClosedError):
            self.cycle()

    def leave(self, lease: Any, what: str) -> None:
        """Return in the middle of something."""
        lease.connection.leave(what)
        self.give(lease)

    def dispose(self) -> None:
        with self.witness.excuse():
            self.pool.dispose()

    def close(self) -> None:
        """Close the pool, with patience for whatever is out."""
        with self.witness.excuse():
            self.pool.close(timeout=None)
        assert self.pool.stats().checked_out == 0
        self.closed = True

    def resize(self, pool_size: int, max_overflow: int) -> None:
        most = pool_size + max_overflow
        self.witness.capacity = max(self.capacity, most)
        self.pool.resize(pool_size, max_overflow)
        self.capacity = most

    def lose(self, lease: Any) -> None:
        """Forget to return."""
        self.witness.given_back(lease.connection, lease._ref)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del lease

    def invalidate(self, lease: Any) -> None:
        self.witness.given_back(lease.connection, lease._ref)
        lease.connection.excused = True
        lease.invalidate()

    def detach(self, lease: Any) -> None:
        lease.connection.detached = True
        self.witness.given_back(lease.connection, lease._ref)
        lease.detach()
        lease.close()


async def _now(condition: Callable[[], object]) -> None:
    assert condition()


Scenario = Callable[[Stage], Iterator[Callable[[], None]]]
"""Prepares a stage, and yields what each of its threads does."""

TIGHT = {"pool_size": 1, "max_overflow": 0, "timeout": None}
LOOSE = {"pool_size": 1, "max_overflow": 1, "timeout": None}


def contend(stage: Stage) -> Iterator[Callable[[], None]]:
    """Two want what only one can have."""
    yield stage.cycle
    yield stage.cycle


def contend_idle(stage: Stage) -> Iterator[Callable[[], None]]:
    """The same with the connection open."""
    stage.cycle()
    yield stage.cycle
    yield stage.cycle


def give_and_wait(stage: Stage) -> Iterator[Callable[[], None]]:
    """One returns, while another comes."""
    lease = stage.take()
    yield lambda: stage.give(lease)
    yield stage.cycle


def give_and_time_out(stage: Stage) -> Iterator[Callable[[], None]]:
    """One returns, while another gives up."""
    lease = stage.take()

    def impatient() -> None:
        with suppress(anypool.PoolTimeoutError):
            stage.cycle(timeout=1)

    yield lambda: stage.give(lease)
    yield impatient


def dispose_and_give(stage: Stage) -> Iterator[Callable[[], None]]:
    """One returns, while another disposes."""
    lease = stage.take()
    yield lambda: stage.give(lease)
    yield stage.dispose


def dispose_and_take(stage: Stage) -> Iterator[Callable[[], None]]:
    """One comes, while another disposes."""
    stage.cycle()
    yield stage.cycle
    yield stage.dispose


def dispose_twice(stage: Stage) -> Iterator[Callable[[], None]]:
    """Two dispose."""
    stage.cycle()
    yield stage.dispose
    yield stage.dispose


def invalidate_and_wait(stage: Stage) -> Iterator[Callable[[], None]]:
    """One's connection is closed, while another comes."""
    lease = stage.take()
    yield lambda: stage.invalidate(lease)
    yield stage.cycle


def detach_and_wait(stage: Stage) -> Iterator[Callable[[], None]]:
    """One's connection leaves, while another comes."""
    lease = stage.take()
    yield lambda: stage.detach(lease)
    yield stage.cycle


def lose_and_wait(stage: Stage) -> Iterator[Callable[[], None]]:
    """One forgets to return, while another comes."""
    leases = [stage.take()]
    yield lambda: stage.lose(leases.pop())
    yield stage.cycle


def fail_and_wait(stage: Stage) -> Iterator[Callable[[], None]]:
    """The first connect fails."""

    def unlucky() -> None:
        with suppress(ConnectionRefusedError):
            stage.cycle()

    stage.fail_connects = 1
    yield unlucky
    yield unlucky


def no_reset_and_wait(stage: Stage) -> Iterator[Callable[[], None]]:
    """One's connection can't be reset, while another comes."""
    lease = stage.take()
    stage.refuse.add(1)
    yield lambda: stage.give(lease)
    yield stage.cycle


def close_twice(stage: Stage) -> Iterator[Callable[[], None]]:
    """Two threads close one lease."""
    lease = stage.take()
    stage.witness.given_back(lease.connection, lease._ref)
    yield lease.close
    yield lease.close


def invalidate_and_close(stage: Stage) -> Iterator[Callable[[], None]]:
    """One thread closes a lease, while another invalidates it."""
    lease = stage.take()
    stage.witness.given_back(lease.connection, lease._ref)

    def invalidate() -> None:
        with suppress(anypool.InvalidRequestError):
            lease.invalidate()

    yield lease.close
    yield invalidate


def detach_and_close(stage: Stage) -> Iterator[Callable[[], None]]:
    """One thread closes a lease, while another detaches it."""
    lease = stage.take()
    stage.witness.given_back(lease.connection, lease._ref)
    stage.witness.connections[0].detached = True

    def detach() -> None:
        lease.detach()
        lease.close()

    yield lease.close
    yield detach


def come_last(stage: Stage) -> Iterator[Callable[[], None]]:
    """One returns, one waits, and a third one comes."""
    lease = stage.take()
    yield lambda: stage.give(lease)
    yield stage.cycle
    yield stage.cycle


def share(stage: Stage) -> Iterator[Callable[[], None]]:
    """Nested checkouts in each thread."""

    def nested() -> None:
        with stage.pool.connect() as connection, stage.pool.connect() as same:
            stage.witness.handed_out(connection, object())
            assert connection is same
            connection.execute("select 1")
            connection.holders.clear()

    yield nested
    yield nested


def close_and_take(stage: Stage) -> Iterator[Callable[[], None]]:
    """One connects, while another closes the pool."""
    yield stage.cycle_or_not
    yield stage.close


def close_and_take_idle(stage: Stage) -> Iterator[Callable[[], None]]:
    """The same with the connection open."""
    stage.cycle()
    yield stage.cycle_or_not
    yield stage.close


def close_and_give(stage: Stage) -> Iterator[Callable[[], None]]:
    """One returns, while another closes the pool."""
    lease = stage.take()
    yield lambda: stage.give(lease)
    yield stage.close


def close_and_wait(stage: Stage) -> Iterator[Callable[[], None]]:
    """One returns, one comes, and one closes the pool."""
    lease = stage.take()
    yield lambda: stage.give(lease)
    yield stage.cycle_or_not
    yield stage.close


def close_at_once(stage: Stage) -> Iterator[Callable[[], None]]:
    """One comes to wait, while another closes the pool with everything that is out."""
    leases = [stage.take() for _ in range(stage.capacity)]
    for lease in leases:
        stage.witness.given_back(lease.connection, lease._ref)

    def close() -> None:
        with stage.witness.excuse():
            stage.pool.close(timeout=0)
        stage.closed = True
        assert not any(lease.is_valid for lease in leases)

    yield stage.cycle_or_not
    yield close


def close_pool_twice(stage: Stage) -> Iterator[Callable[[], None]]:
    """Two close the pool."""
    stage.cycle()
    yield stage.close
    yield stage.close


def grow_and_wait(stage: Stage) -> Iterator[Callable[[], None]]:
    """One comes when all is out, while another makes room for it."""
    leases = [stage.take() for _ in range(stage.capacity)]
    yield stage.cycle
    yield lambda: stage.resize(3, 0)
    for lease in leases:
        yield lambda lease=lease: stage.give(lease)  # type: ignore[misc]


def shrink_and_give(stage: Stage) -> Iterator[Callable[[], None]]:
    """Two return, while there is room for only one any more."""
    stage.resize(2, 0)
    leases = [stage.take() for _ in range(2)]
    yield lambda: stage.give(leases[0])
    yield lambda: stage.resize(1, 0)
    yield lambda: stage.give(leases[1])


def shrink_and_take(stage: Stage) -> Iterator[Callable[[], None]]:
    """One comes, while what idles gets too much."""
    stage.resize(2, 0)
    leases = [stage.take() for _ in range(2)]
    for lease in leases:
        stage.give(lease)
    yield stage.cycle
    yield lambda: stage.resize(1, 0)


def hold_back_and_take(stage: Stage) -> Iterator[Callable[[], None]]:
    """One comes, while another suspends the pool for a moment."""
    stage.cycle()

    def hold_back() -> None:
        stage.pool.suspend()
        stage.pool.resume()

    yield stage.cycle
    yield hold_back


def resume_and_take(stage: Stage) -> Iterator[Callable[[], None]]:
    """One comes to a suspended pool, and one returns, while another resumes it."""
    lease = stage.take()
    stage.pool.suspend()
    yield stage.cycle
    yield stage.pool.resume
    yield lambda: stage.give(lease)


def drain_and_take(stage: Stage) -> Iterator[Callable[[], None]]:
    """One comes, while another drains the pool."""
    stage.cycle()
    stage.oldest = 2
    yield stage.cycle
    yield stage.pool.drain


def drain_and_give(stage: Stage) -> Iterator[Callable[[], None]]:
    """One returns, while another drains the pool."""
    lease = stage.take()
    stage.oldest = 2
    yield lambda: stage.give(lease)
    yield stage.pool.drain


def count_and_take(stage: Stage) -> Iterator[Callable[[], None]]:
    """One looks at the statistics, again and again, while two others work."""

    def count() -> None:
        before: Any = None
        for _ in range(3):
            stats = stage.pool.stats()
            now = stats.checkouts, stats.opened, sum(stats.closed.values()), stats.waits
            assert 0 <= stats.size <= stage.capacity
            if before is not None:
                assert all(new >= old for new, old in zip(now, before, strict=True))
            before = now

    yield stage.cycle
    yield count
    yield stage.cycle


def look_and_give(stage: Stage) -> Iterator[Callable[[], None]]:
    """One looks at the pool, while one comes and one returns."""
    lease = stage.take()

    def look() -> None:
        for _ in range(2):
            stats = stage.pool.stats()
            assert 0 <= stats.idle <= stats.size <= 2

    yield look
    yield lambda: stage.give(lease)
    yield stage.cycle


def open_and_take(stage: Stage) -> Iterator[Callable[[], None]]:
    """One opens the pool for a moment, while others come."""
    for lease in [stage.take() for _ in range(stage.capacity)]:
        stage.give(lease)

    def live() -> None:
        stage.pool.open()
        stage.close()

    yield stage.cycle_or_not
    yield live
    yield stage.cycle_or_not


def break_off_and_give(stage: Stage) -> Iterator[Callable[[], None]]:
    """One's reset is broken off, while another returns, and one comes."""
    leases = [stage.take() for _ in range(stage.capacity)]
    stage.break_off.add(1)

    def give() -> None:
        with pytest.raises(BrokenOff):
            stage.give(leases[0])

    yield give
    for lease in leases[1:]:
        yield lambda lease=lease: stage.give(lease)  # type: ignore[misc]
    yield stage.cycle


def leave_busy_and_wait(stage: Stage) -> Iterator[Callable[[], None]]:
    """One returns in the middle of a statement, while another comes."""
    lease = stage.take()
    yield lambda: stage.leave(lease, "busy changed")
    yield stage.cycle


def leave_stuck_and_wait(stage: Stage) -> Iterator[Callable[[], None]]:
    """The same where the statement can't be stopped."""
    lease = stage.take()
    stage.oldest = 2
    yield lambda: stage.leave(lease, "stays")
    yield stage.cycle


def lose_busy_and_wait(stage: Stage) -> Iterator[Callable[[], None]]:
    """One forgets to return in the middle of a statement, while another comes."""
    leases = [stage.take()]
    leases[0].connection.leave("busy two-phase")
    yield lambda: stage.lose(leases.pop())
    yield stage.cycle


def leave_busy_and_dispose(stage: Stage) -> Iterator[Callable[[], None]]:
    """One returns in the middle of a statement, while another disposes."""
    lease = stage.take()
    yield lambda: stage.leave(lease, "busy")
    yield stage.dispose


def leave_busy_and_close(stage: Stage) -> Iterator[Callable[[], None]]:
    """One returns in the middle of a statement, while another closes the pool."""
    lease = stage.take()
    yield lambda: stage.leave(lease, "busy")
    yield stage.close


BUSY = (
    leave_busy_and_wait,
    leave_stuck_and_wait,
    lose_busy_and_wait,
    leave_busy_and_dispose,
    leave_busy_and_close,
)
LIFE = (
    close_and_take,
    close_and_take_idle,
    close_and_give,
    close_and_wait,
    close_at_once,
    close_pool_twice,
    grow_and_wait,
    shrink_and_give,
    shrink_and_take,
    hold_back_and_take,
    resume_and_take,
    drain_and_take,
    drain_and_give,
    count_and_take,
    look_and_give,
    open_and_take,
    break_off_and_give,
)
QUEUE: list[tuple[str, dict[str, Any], Scenario]] = [
    ("QueuePool", options, scenario)
    for options in (TIGHT, LOOSE)
    for scenario in (
        contend,
        contend_idle,
        give_and_wait,
        give_and_time_out,
        dispose_and_give,
        dispose_and_take,
        dispose_twice,
        invalidate_and_wait,
        detach_and_wait,
        lose_and_wait,
        fail_and_wait,
        no_reset_and_wait,
        close_twice,
        invalidate_and_close,
        detach_and_close,
        share,
        *LIFE,
    )
]
SHARED: list[tuple[str, dict[str, Any], Scenario]] = [
    (kind, options, scenario)
    for kind, options in (("StaticPool", {}), ("SingletonThreadPool", {"pool_size": 1}))
    for scenario in (
        contend,
        give_and_wait,
        dispose_and_give,
        dispose_and_take,
        dispose_twice,
        invalidate_and_wait,
        detach_and_wait,
        lose_and_wait,
        fail_and_wait,
        no_reset_and_wait,
        close_twice,
        invalidate_and_close,
        detach_and_close,
        close_and_take,
        close_and_give,
        close_and_wait,
        drain_and_give,
        look_and_give,
        break_off_and_give,
    )
    # What is done to a connection that others use is done to them.
    if (kind, scenario)
    not in [("StaticPool", detach_and_wait), ("StaticPool", break_off_and_give)]
]
NULL: list[tuple[str, dict[str, Any], Scenario]] = [
    ("NullPool", {}, scenario)
    for scenario in (look_and_give, close_and_give, break_off_and_give)
]
TIGHT_KNOWN = TIGHT | {"knows": True}
KNOWN: list[tuple[str, dict[str, Any], Scenario]] = [
    (kind, options | {"knows": True}, scenario)
    for kind, options in (
        ("QueuePool", TIGHT),
        ("StaticPool", {}),
        ("SingletonThreadPool", {"pool_size": 1}),
        ("NullPool", {}),
    )
    for scenario in BUSY
    # Who shares with one that is stuck may have it as well.
    if (kind, scenario) != ("StaticPool", leave_stuck_and_wait)
]
LONG = (count_and_take, open_and_take)
"""Those with so many steps that they are run in `make proof` only."""
QUICK = tuple(scenario for _, _, scenario in QUEUE + KNOWN if scenario not in LONG)
BOTH_WAYS = (contend, dispose_and_give, close_and_give, shrink_and_give)


def cases(*in_any_case: Scenario, tight: bool = False) -> pytest.MarkDecorator:
    """Run these scenarios, or those with little room, always; and all of them as proof."""
    return pytest.mark.parametrize(
        ("kind", "options", "scenario"),
        [
            pytest.param(
                kind,
                options,
                scenario,
                id=f"{kind}-{scenario.__name__}{'-loose' if options is LOOSE else ''}",
                marks=[] if scenario in (*in_any_case, *quick) else [proof],
            )
            for kind, options, scenario in QUEUE + SHARED + NULL + KNOWN
            for quick in [QUICK if tight and options in (TIGHT, TIGHT_KNOWN) else ()]
        ],
    )


@contextmanager
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        gc.enable()


def play(
    decisions: Decisions, kind: str, options: dict[str, Any], scenario: Scenario
) -> None:
    stage = Stage(decisions, kind, options)
    with scheduled(stage.scheduler):
        works = list(scenario(stage))
    for number, work in enumerate(works):
        stage.scheduler.actor(f"thread {number}", work)
    stage.run()


def explore(
    bound: int,
    kind: str,
    options: dict[str, Any],
    scenario: Scenario,
    *,
    only: int | None = None,
) -> int:
    """Run all schedules with up to so many preemptions; return how many there were.

    Of those with two there may be too many; then a sample of them. Or only a certain
    thread is preempted, by the first that can go on, and all are run (in `make proof`).
    """
    count = 0
    plans: list[dict[int, int]] = [{}]
    with _no_collector():
        for preemptions in range(bound + 1):
            following: list[dict[int, int]] = []
            for plan in plans:
                decisions = Planned(plan)
                try:
                    play(decisions, kind, options, scenario)
                except BaseException as error:
                    raise AssertionError(f"after {count} schedules, plan {plan}") from error
                count += 1
                following += [
                    plan | {step: option}
                    for step in range(max(plan, default=-1) + 1, len(decisions.options))
                    for option in decisions.options[step]
                    if only is None or (decisions.running[step] == only and not option)
                ]
            sampled = preemptions > 0 and only is None
            plans = sample(following, 3000) if sampled else following
            if preemptions > 0 and only is not None:
                plans = plans[:: stride(4)]
    return count


@cases(*BOTH_WAYS, tight=True)
def test_all_schedules(kind: str, options: dict[str, Any], scenario: Scenario) -> None:
    """Two threads, and one preemption anywhere."""
    assert explore(1, kind, options, scenario) > 20


@cases(detach_and_close)
def test_all_schedules_with_two_preemptions(
    kind: str, options: dict[str, Any], scenario: Scenario
) -> None:
    """Two threads, and two preemptions anywhere; all of them where that is feasible."""
    assert explore(2, kind, options, scenario) > 70


def test_nobody_comes_between() -> None:
    """A return is interrupted twice: by one who waits, and by one who comes after that."""
    assert explore(2, "QueuePool", TIGHT, come_last, only=0) > 200


OPERATIONS = (
    *("cycle", "hold", "nested", "invalidate", "detach", "lose", "dispose", "hurry"),
    *("leave", "leave"),
)


class Script:
    """What one thread does, at random."""

    def __init__(self, stage: Stage, seed: str, length: int) -> None:
        self._stage = stage
        self._random = random.Random(seed)
        self._length = length

    def run(self) -> None:
        held: list[Any] = []
        for _ in range(self._length):
            operation = self._random.choice(OPERATIONS)
            if operation == "detach" and self._stage.kind == "StaticPool":
                continue  # who detaches what others use takes it away from them
            # Who shares a connection may lose it to another that closes or detaches it.
            shared = (anypool.InvalidRequestError,) if self._stage.shared else ()
            with suppress(anypool.PoolTimeoutError, ConnectionError, *shared):
                self._do(operation, held)
            wrong = books(self._stage.pool) if self._stage.kind != "QueuePool" else []
            assert not wrong, wrong
        while held:
            self._stage.give(held.pop())

    def _do(self, operation: str, held: list[Any]) -> None:
        stage = self._stage
        if operation == "dispose":
            stage.dispose()
        elif operation == "hurry":
            stage.cycle(timeout=0)
        elif operation == "nested":
            with stage.pool.connect(timeout=3), stage.pool.connect(timeout=3) as connection:
                connection.execute("select 1")
        elif held:
            lease = held.pop()
            if operation == "cycle" or (operation == "leave" and not stage.knows):
                stage.give(lease)
            elif operation == "leave":
                stage.leave(lease, self._random.choice(LEFT))
            elif operation == "hold":
                held.append(lease)
                lease.connection.execute("select 1")
            else:
                getattr(stage, operation)(lease)
        elif operation == "cycle":
            stage.cycle(timeout=5)
        else:
            held.append(stage.take(timeout=5))


def play_at_random(kind: str, seed: int) -> None:
    choose = random.Random(seed)
    options: dict[str, Any] = {}
    if kind == "QueuePool":
        options = {
            "pool_size": choose.randint(1, 2),
            "max_overflow": choose.randint(0, 2),
            "timeout": choose.choice([None, 3.0]),
        }
    elif kind == "SingletonThreadPool":
        options = {"pool_size": choose.randint(1, 3)}
    if choose.random() < 0.5:
        options["recycle"] = choose.choice([0, 2])
    if choose.random() < 0.5:
        options["listeners"] = [_Quiet()]
    options["reset_on_return"] = choose.choice(["rollback", "commit", "full"])
    options["knows"] = choose.random() < 0.5
    stage = Stage(Random(seed, choose.choice([0.01, 0.05, 0.2])), kind, options)
    stage.fail_connects = choose.choice([0, 0, 1, 2])
    stage.refuse = {choose.randint(1, 6) for _ in range(choose.randint(0, 2))}
    for number in range(choose.randint(2, 4)):
        script = Script(stage, f"{seed}.{number}", choose.randint(2, 6))
        stage.scheduler.actor(f"thread {number}", script.run)
    stage.run()


class _Quiet:
    def checkout(self, connection: Any, record: Any, lease: Any) -> None:
        pass

    def checkin(self, connection: Any, record: Any) -> None:
        pass


@pytest.mark.parametrize(
    "kind", ["QueuePool", "SingletonThreadPool", "StaticPool", "NullPool"]
)
def test_random_schedules(kind: str) -> None:
    """Up to four threads with random scripts, in random schedules."""
    with _no_collector():
        for seed in seeds(rounds(60, 3000)):
            try:
                play_at_random(kind, seed)
            except BaseException as error:
                raise AssertionError(f"seed {seed}: PROOF_SEED={seed}") from error


def test_deadlocks_are_found() -> None:
    """The scheduler sees threads that wait for each other."""
    stage = Stage(Planned({}), "QueuePool", TIGHT)
    with scheduled(stage.scheduler):
        lease = stage.take()
    stage.scheduler.actor("waits in vain", stage.cycle)
    with pytest.raises(AssertionError, match="waits in vain"):
        stage.run()
    assert lease.is_valid


def test_schedules_replay() -> None:
    """A seed gives one and the same run."""
    assert _replay() == _replay()


def _replay() -> tuple[list[tuple[str, int]], int]:
    stage = Stage(Random(7, 0.2), "QueuePool", LOOSE)
    for number in range(3):
        script = Script(stage, f"7.{number}", 5)
        stage.scheduler.actor(f"thread {number}", script.run)
    with _no_collector():
        stage.run()
    return stage.witness.events, stage.scheduler.steps


@pytest.fixture(scope="module", autouse=True)
def _learnt() -> None:
    """What drivers are is found out once only: the first run has more lines than others."""
    _replay()
