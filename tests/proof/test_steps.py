"""Every step of a checkout, its use and its return fails in every way there is.

A pass has an entry (what the pool is like when the caller comes), an ending (what the
caller does in the end), and faults: steps that raise, take too long, or never end. In an
opened pool the connects are made in the background. In some passes the caller leaves the
connection busy, changed, or in two phases.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import combinations, islice, product
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import anypool

from ..support.bounds import EFFORT, proof, stride
from ..support.clocks import ThreadClock, driven
from ..support.holds import waiting
from ..support.invariants import assert_nothing_lost, running
from ..support.modes import PATIENCE, Mode, run_blocking
from ..support.witness import LEFT, LOST, Witness

STEPS = (
    "connect",
    "connect listener",
    "checkout listener",
    "ping",
    "execute",
    "checkin listener",
    "rollback",
    "close",
)
IN_CHECKOUT = STEPS[:3]
IN_RETURN = ("checkin listener", "interrupt", "rollback", "restore", "close")
"""The steps of a return in which something is to be stopped and put back."""
TOLERATED = ("interrupt", "rollback", "restore", "close", "ping")
"""An Exception there is the pool's business, and not the caller's."""
IN_BACKGROUND = ("connect", "connect listener")
"""Steps that are not the caller's in an opened pool."""

OUTCOMES = ("exception", "base exception", "slow", "never")
LATE_OUTCOMES = ("slow", "never")
KINDS = ("QueuePool", "Singleton", "NullPool", "StaticPool", "AssertionPool")
ENTRIES = ("fresh", "idle", "stale")
QUEUE_ENTRIES = ("overflow", "served", "served late", "never served", "cancelled")
LATE = ("served late", "never served")
ENDINGS = ("close", "invalidate", "detach", "drop", "lost")
MODES = ("blocking", "asyncio", "trio", "threads", "portal")
REAL_TIME = ("threads", "portal")
OPENED_MODES = ("asyncio", "trio", "threads")
"""Those whose clock the harness has, or that are in real time."""

Faults = tuple[tuple[str, str], ...]


_is_holder = ContextVar("_is_holder", default=False)
"""Faults are the caller's, and not those of who has the connection before."""


class Fault(Exception):
    """Raised by a step."""


class Fatal(BaseException):
    """Raised by a step."""


@dataclass
class Times:
    """Seconds: what a checkout may take, what a slow step takes, and a step without end."""

    limit: float = 10.0
    slow: float = 20.0
    never: float = 1000.0


class Pass:
    """One checkout, use and return.

    Attributes:
        fired: the faults that happened, in order.
    """

    def __init__(
        self,
        mode: str,
        kind: str,
        entry: str,
        ending: str,
        faults: Faults,
        known: bool,
        opened: bool,
        left: str = "",
    ) -> None:
        driver = f"known, {left}" if left else "known" if known else "generic"
        life = "opened" if opened else "unopened"
        self.name = f"{mode} {kind} {life} {driver} {entry} {ending} {dict(faults)}"
        self.opened = opened
        self.mode = Mode(mode)
        self.witness = Witness(
            coroutine=mode not in ("blocking", "threads"),
            shared=kind in ("StaticPool", "Singleton"),
        )
        self.kind = kind
        self.left = left
        self.used: Any = None
        self.entry = entry
        self.ending = ending
        self.times = Times()
        self.late = entry in LATE or any(
            step in IN_CHECKOUT and outcome in ("slow", "never") for step, outcome in faults
        )
        if mode == "blocking" and dict(faults).get("ping") in ("slow", "never"):
            self.late = True  # elsewhere its own limit ends it, before the caller's does
        if mode in REAL_TIME:
            self.times = Times(0.03 if self.late else PATIENCE, 0.06, 0.12)
        elif mode == "blocking" and entry in LATE:
            self.times.limit = 0.002
        self.fired: list[tuple[str, str]] = []
        self.held = threading.Event()
        self.free = threading.Event()
        self.over = False
        self.clock: ThreadClock | None = None
        self.faults = dict(faults)
        self._left = dict(faults)
        self._armed = False
        self.capacity = 1
        options: dict[str, Any] = {}
        if known:
            abrupt = {"terminates": True} if self.witness.coroutine else {}
            options["driver"] = self.witness.driver(**abrupt)
        if kind == "QueuePool":
            overflow = int(entry == "overflow")
            options |= {"pool_size": 1, "max_overflow": overflow, "timeout": None}
            self.capacity = 1 + overflow
        if kind in ("QueuePool", "AssertionPool"):
            self.witness.capacity = self.capacity
        self.witness.before = self._step
        # In a driven loop nothing may be left to a worker thread.
        creator = self.witness.connect if mode in REAL_TIME else self.witness.creator
        self.pool = self.mode.pool(
            kind,
            creator=creator,
            # Without listeners, a return may take a quicker path.
            listeners=[_Listener(self)] if faults or not left else [],
            pre_ping="ping" in self.faults,
            **options,
        )
        self.held_leases: list[Any] = []
        self._returned: Any = None

    # The steps.

    def _step(self, what: str, connection: Any = None) -> Any:
        """Fail, if this step is to; what it returns is to be awaited."""
        # What is done in a thread for the holder is done in no one's context.
        returned = connection is self._returned and what not in IN_CHECKOUT
        armed = self._armed and not (_is_holder.get() or (connection and returned))
        outcome = self._left.pop(what, None) if armed else None
        in_loop = self.witness.coroutine
        if outcome is None:
            return anyio.lowlevel.checkpoint() if in_loop else None
        self.fired.append((what, outcome))
        if what == "checkout listener" and "exception" in outcome:
            connection.transaction = True  # it has begun something, and fails then
        if outcome == "exception":
            raise Fault(what)
        if outcome == "base exception":
            raise Fatal(what)
        if in_loop:
            return anyio.sleep(self.times.slow if outcome == "slow" else self.times.never)
        if self.clock is not None:
            self.clock.now += self.times.slow
        elif outcome == "slow":
            threading.Event().wait(self.times.slow)
        if outcome == "never":
            self.held.set()
            assert self.free.wait(PATIENCE)
        return None

    # The pass.

    async def go(self) -> BaseException | None:
        """Do all of it; return what came out of the pass, if anything did."""
        mode, pool = self.mode, self.pool
        await self._enter()
        self._armed = True
        error: BaseException | None = None
        try:
            async with mode.group() as start:
                if self.entry in ("served", "served late"):
                    start(self._serve)
                try:
                    error = await self._bounded()
                finally:
                    self.over = True
                    self.free.set()
        finally:
            self._armed = False
        for lease in self.held_leases:
            await mode.go(lease.close())
        gc.collect(0)
        await assert_nothing_lost(
            pool,
            self.witness,
            self._until,
            capacity=self.capacity,
            where=self.name,
        )
        if self.left and error is None and not self.fired:
            kept = self.left not in LOST and self.kind != "NullPool"
            following = len(self.witness.connections) - self.used.number
            assert following == (not kept), f"{self.name}: {self.witness.events}"
        if self.opened:
            await mode.go(pool.close())
            assert not running(pool), f"{self.name}: {running(pool)}"
        return error

    async def _until(self, condition: Callable[[], object]) -> None:
        if self.mode.name == "blocking":
            assert condition()
        elif self.mode.name in REAL_TIME:
            await self.mode.until(condition)
        else:
            for _ in range(100):
                if condition():
                    return
                await anyio.sleep(0.5)
            raise AssertionError("what was waited for did not happen")

    async def _enter(self) -> None:
        mode, pool = self.mode, self.pool
        if self.opened:
            await mode.go(pool.open())
        if self.entry in ("idle", "stale"):
            await mode.go((await mode.go(pool.connect())).close())
        if self.entry == "stale":
            lease = await mode.go(pool.connect())
            await mode.go(pool.dispose())
            await mode.go(lease.close())
        if self.entry in QUEUE_ENTRIES:
            self.held_leases.append(await mode.go(pool.unique_connection()))

    async def _serve(self) -> None:
        """Return the connection that others wait for; late, if that is the entry."""
        _is_holder.set(True)
        late = self.entry == "served late"
        until = self.mode.until if self.mode.blocking else self._until
        await until(lambda: self.over or (not late and waiting(self.pool)))
        lease = self.held_leases.pop()
        self._returned = lease.connection
        await self.mode.go(lease.close())
        self._returned = None

    async def _bounded(self) -> BaseException | None:
        if self.mode.blocking:
            return await self._outcome()
        outcome: list[BaseException | None] = []
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, scope)
                outcome.append(await self._outcome())
                tasks.cancel_scope.cancel()
        return outcome[0] if outcome else TimeoutError("cancelled")

    async def _watch(self, scope: anyio.CancelScope) -> None:
        """See to it that a pass without end has one."""
        if self.entry == "cancelled":
            await self._until(lambda: waiting(self.pool))
        elif self.mode.name == "threads":
            with suppress(AssertionError):
                await self.mode.until(self.held.is_set)
            await anyio.sleep(self.times.slow)
            self.free.set()
            return
        else:
            await anyio.sleep(self.times.never / 2)
        scope.cancel()

    async def _outcome(self) -> BaseException | None:
        try:
            await self._work()
        except (Fault, Fatal, anypool.PoolTimeoutError, ConnectionError) as error:
            return error
        return None

    async def _work(self) -> None:
        mode, pool = self.mode, self.pool
        lease = await mode.go(pool.connect(timeout=self.times.limit))
        connection = lease.connection
        self.witness.handed_out(connection, "the caller")
        try:
            await mode.go(pool.call(connection.execute, "select 1"))
            self.used = connection
            connection.leave(self.left)
            if self.ending == "lost":
                raise ConnectionResetError
        except BaseException as error:
            self.witness.given_back(connection, "the caller")
            if isinstance(error, Exception) and lease._lost_by(error):
                await mode.go(lease.invalidate(error))
            else:
                await mode.go(lease.close())
            raise
        self.witness.given_back(connection, "the caller")
        await self._end(lease, connection)

    async def _end(self, lease: Any, connection: Any) -> None:
        go = self.mode.go
        if self.ending == "invalidate":
            await go(lease.invalidate())
        elif self.ending == "detach":
            connection.detached = True
            await go(lease.detach())
            await go(lease.close())
        elif self.ending != "drop":
            await go(lease.close())


class _Listener:
    def __init__(self, owner: Pass) -> None:
        if owner.witness.coroutine:
            self.connect: Any = self._connect
            self.checkout: Any = self._checkout
            self.checkin: Any = self._checkin
        else:
            self.connect = lambda *_: owner._step("connect listener")
            self.checkout = lambda connection, *_: owner._step(
                "checkout listener", connection
            )
            self.checkin = lambda connection, *_: owner._step(
                "checkin listener", connection
            )
        self._owner = owner

    async def _connect(self, *_: Any) -> None:
        await self._owner._step("connect listener")

    async def _checkout(self, connection: Any, *_: Any) -> None:
        await self._owner._step("checkout listener", connection)

    async def _checkin(self, connection: Any, *_: Any) -> None:
        await self._owner._step("checkin listener", connection)


def verdict(one: Pass, error: BaseException | None) -> str | None:
    """Say what is wrong with what came out of a pass."""
    fired = dict(one.fired)
    tolerated = TOLERATED + (IN_BACKGROUND if one.opened else ())
    raised = [
        step
        for step, outcome in fired.items()
        if outcome == "base exception" or (outcome == "exception" and step not in tolerated)
    ]
    slow = IN_CHECKOUT + (("ping",) if one.mode.name == "blocking" else ())
    late = [step for step in slow if fired.get(step) in ("slow", "never")]
    late += [one.entry] if one.entry in LATE else []
    # What a finalizer's return raises, nobody hears.
    heard = one.ending != "drop" or set(raised) & {*IN_CHECKOUT, "execute"}
    if fired.get("close") in LATE_OUTCOMES and one.mode.name != "blocking":
        # Nor a listener's error, where the close that follows exceeds the return's bound.
        heard = heard and set(raised) - {"checkin listener"}
    if error is None:
        if (raised and heard) or late or one.entry == "cancelled":
            return "nothing was raised"
    elif isinstance(error, (Fault, Fatal)):
        if str(error) not in raised:
            return f"{error!r} was raised"
    elif isinstance(error, anypool.PoolTimeoutError):
        if not one.late and one.faults.get("close") not in ("slow", "never"):
            return f"{error!r} was raised"
    elif isinstance(error, TimeoutError):
        if one.entry != "cancelled" and "never" not in fired.values():
            return "it did not end"
    elif one.ending != "lost":
        return f"{error!r} was raised"
    return None


def single_faults(steps: tuple[str, ...] = STEPS) -> Iterator[Faults]:
    yield ()
    for fault in product(steps, OUTCOMES):
        yield (fault,)


def double_faults(steps: tuple[str, ...] = STEPS) -> Iterator[Faults]:
    for first, second in combinations(steps, 2):
        for outcomes in product(OUTCOMES, OUTCOMES):
            yield (first, outcomes[0]), (second, outcomes[1])


def passes(
    mode: str,
    kind: str,
    all_faults: Iterable[Faults],
    *,
    opened: bool = False,
    left: tuple[str, ...] = ("",),
) -> Iterator[Pass]:
    """Yield all the passes that make sense, with any of these things left behind."""
    entries = ENTRIES + (QUEUE_ENTRIES if kind == "QueuePool" else ())
    endings: tuple[str, ...] = ENDINGS
    drivers: tuple[bool, ...] = (False, True)
    if left != ("",):
        # Only the return matters, of a driver that can tell.
        entries = ("idle", "served") if kind == "QueuePool" else ("idle",)
        endings, drivers = ("close", "drop"), (True,)
    for faults in all_faults:
        for entry, ending, known, what in product(entries, endings, drivers, left):
            if mode in ("blocking", "portal") and entry == "cancelled":
                continue  # nothing cancels a thread; test_interrupts has what comes close
            outcomes = dict(faults).values()
            if mode != "blocking" and "base exception" in outcomes:
                close_fails = dict(faults).get("close") == "base exception"
                in_background = ending == "drop" or (
                    close_fails and {"slow", "never"} & {*outcomes}
                )
                if in_background or (close_fails and set(outcomes) == {"base exception"}):
                    continue  # in a task of the loop's own it ends the program, and should
            given = dict(faults)
            if opened and (
                "base exception" in map(given.get, IN_BACKGROUND)
                or ("connect listener" in given and given.get("close") == "base exception")
            ):
                continue  # as well
            if (mode, kind) == ("threads", "AssertionPool") and given.get(
                "ping"
            ) in LATE_OUTCOMES:
                continue  # known: it opens another one beside that of a ping without end
            never = [step for step, outcome in faults if outcome == "never"]
            if mode == "portal" and "execute" in never:
                continue  # a thread that waits for a statement waits
            one = Pass(mode, kind, entry, ending, faults, known, opened, what)
            if mode in REAL_TIME and entry == "served" and one.late:
                continue  # whoever is served in time, and not too late, is lucky
            yield one


@dataclass
class Tally:
    """What came of many passes."""

    count: int = 0
    fired: int = 0
    wrong: list[str] = field(default_factory=list)

    def note(self, one: Pass, error: BaseException | None) -> None:
        self.count += 1
        self.fired += bool(one.fired)
        what = verdict(one, error)
        if what is not None:
            self.wrong.append(f"{one.name}: {what}; {one.fired} {one.witness.events}")

    def failed(self, one: Pass, error: BaseException) -> None:
        self.wrong.append(f"{one.name}: {error!r}")


@contextmanager
def _conditions(mode: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadClock]:
    """Set the clocks, and let finalizers warn and complain."""
    clock = ThreadClock()
    monkeypatch.setattr("anypool._core.bounds.CLOSE_TIMEOUT", 0.03)
    if mode == "blocking":
        monkeypatch.setattr("anypool._runtimes.thread.time", clock)
    elif mode in REAL_TIME:
        monkeypatch.setattr("anypool._core.bounds.RETURN_TIMEOUT", 0.03)
        monkeypatch.setattr("anypool._core.bounds.PING_TIMEOUT", 0.03)
    complaints: list[Any] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda hook: complaints.append(hook.exc_type)
    )
    logging.disable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield clock
        gc.collect()
    logging.disable(logging.NOTSET)
    assert set(complaints) <= {Fatal}, complaints


def run_all(
    mode: str, all_passes: Iterable[Pass], monkeypatch: pytest.MonkeyPatch
) -> Tally:
    tally = Tally()
    with _conditions(mode, monkeypatch) as clock:
        if mode in ("blocking", "portal"):
            for one in all_passes:
                if mode == "blocking":
                    one.clock = clock
                _run_blocking(one, tally)
        else:
            anyio.run(_run_async, all_passes, tally, **_backend(mode))
    return tally


def _backend(mode: str) -> dict[str, Any]:
    return {"backend": "asyncio"} if mode in REAL_TIME else driven(mode)


def _run_blocking(one: Pass, tally: Tally) -> None:
    def run() -> None:
        try:
            tally.note(one, run_blocking(one.go()))
        except BaseException as error:
            tally.failed(one, error)
            error.__traceback__ = None

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if "never" in one.faults.values():
        # If it is held up, that is where it stays until it is set free.
        while thread.is_alive() and not one.held.wait(0.001):
            pass
        one.free.set()
    thread.join(3 * PATIENCE)
    assert not thread.is_alive(), f"{one.name} hangs"


async def _run_async(all_passes: Iterable[Pass], tally: Tally) -> None:
    for one in all_passes:
        try:
            tally.note(one, await one.go())
        except Exception as error:
            tally.failed(one, error)
            error.__traceback__ = None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_every_step_fails(mode: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost, and what comes out is what went wrong."""
    every = 41 if mode in REAL_TIME else stride(7)
    chosen = islice(passes(mode, kind, single_faults()), None, None, every)
    tally = run_all(mode, chosen, monkeypatch)
    assert not tally.wrong, f"{len(tally.wrong)} wrong:\n" + "\n".join(tally.wrong[:10])
    assert tally.count > 15
    assert tally.fired > tally.count / 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_whatever_is_left(mode: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped and undone, or its connection closed; and no other one is closed."""
    tally = run_all(mode, passes(mode, kind, [()], left=LEFT), monkeypatch)
    assert not tally.wrong, f"{len(tally.wrong)} wrong:\n" + "\n".join(tally.wrong[:10])
    assert tally.count >= 2 * len(LEFT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_every_step_of_undoing_fails(
    mode: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left behind can't be stopped or undone, in every way there is."""
    every = 23 if mode in REAL_TIME else stride(7)
    chosen = islice(
        passes(mode, kind, single_faults(IN_RETURN), left=LEFT), None, None, every
    )
    tally = run_all(mode, chosen, monkeypatch)
    assert not tally.wrong, f"{len(tally.wrong)} wrong:\n" + "\n".join(tally.wrong[:10])
    # Of a few in real time, few come to their step.
    assert tally.fired > tally.count / (8 if mode in REAL_TIME else 4)


@pytest.mark.parametrize("mode", OPENED_MODES)
def test_every_step_fails_in_an_opened_pool(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where the connects are made in the background."""
    every = 41 if mode in REAL_TIME else stride(7)
    chosen = passes(mode, "QueuePool", single_faults(), opened=True)
    tally = run_all(mode, islice(chosen, None, None, every), monkeypatch)
    assert not tally.wrong, f"{len(tally.wrong)} wrong:\n" + "\n".join(tally.wrong[:10])
    assert tally.count > 15
    assert tally.fired > tally.count / 4


@proof
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_two_steps_fail(mode: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with any two faults in one pass."""
    every = 101 if mode in REAL_TIME else max(4, round(4 / (EFFORT or 1)))
    chosen = islice(passes(mode, kind, double_faults()), None, None, every)
    tally = run_all(mode, chosen, monkeypatch)
    assert not tally.wrong, f"{len(tally.wrong)} wrong:\n" + "\n".join(tally.wrong[:10])
    assert tally.count > 50


@proof
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_two_steps_of_undoing_fail(
    mode: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with any two faults in one return."""
    every = 101 if mode in REAL_TIME else max(3, round(3 / (EFFORT or 1)))
    faults = double_faults(IN_RETURN)
    chosen = islice(passes(mode, kind, faults, left=LEFT), None, None, every)
    tally = run_all(mode, chosen, monkeypatch)
    assert not tally.wrong, f"{len(tally.wrong)} wrong:\n" + "\n".join(tally.wrong[:10])
    assert tally.count > 20


@proof
@pytest.mark.parametrize("mode", OPENED_MODES)
def test_two_steps_fail_in_an_opened_pool(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in an opened pool."""
    every = 101 if mode in REAL_TIME else max(4, round(4 / (EFFORT or 1)))
    chosen = passes(mode, "QueuePool", double_faults(), opened=True)
    tally = run_all(mode, islice(chosen, None, None, every), monkeypatch)
    assert not tally.wrong, f"{len(tally.wrong)} wrong:\n" + "\n".join(tally.wrong[:10])
    assert tally.count > 50
