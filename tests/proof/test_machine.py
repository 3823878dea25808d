"""A state machine drives a pool and a reference model side by side.

Callers are threads or tasks that live as long as the machine. After each step: who has
which connection, who waits, the counts and statistics, which connections are open, and
what listeners were told. The pools are not opened, so that all of it is determined.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import anypool
from anypool import PoolStats, sync

from ..support.bounds import EFFORT, rounds
from ..support.callers import Connection, Lease, Model, limits
from ..support.clocks import ThreadClock
from ..support.hosts import Order, TaskHost, ThreadHost
from ..support.invariants import books, leftovers
from ..support.sharers import SharedModel
from ..support.witness import LEFT, Witness

CALLERS = st.integers(0, 5)
PICKS = st.integers(0, 9)
TIDIER = 9
CLOSERS = 10
"""The first of the callers that close the pool; each may have to wait for returns."""

COUNTED = (
    *("checkouts", "waits", "timeouts", "cancelled", "opened", "failed"),
    *("wait_time", "use_time", "connect_time"),
)
"""The statistics that never become less."""


class _Checkins:
    def __init__(self, told: list[bool]) -> None:
        self._told = told

    def checkin(self, connection: Any, record: Any) -> None:
        self._told.append(connection is not None)


class Machine(RuleBasedStateMachine):
    """One pool, one model."""

    mode: str

    def __init__(self) -> None:
        super().__init__()
        self.host: Any = ThreadHost() if self.mode == "blocking" else TaskHost(self.mode)
        self.patch = pytest.MonkeyPatch()
        self.clock = ThreadClock()
        self.patch.setattr("anypool._runtimes.thread.time", self.clock)
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore", ResourceWarning)
        # What the model's leases and connections are in reality.
        self.real: dict[Lease, Any] = {}
        self.connections: dict[Connection, Any] = {}
        self.ended: list[Any] = []
        self.orders: dict[Lease, Order] = {}
        self.checkins: list[bool] = []

    @initialize(
        kind=st.sampled_from([*["QueuePool"] * 7, "NullPool", "AssertionPool"]),
        pool_size=st.sampled_from([1, 1, 1, 2, 2, 3, 0]),
        max_overflow=st.sampled_from([0, 0, 1, 1, 1, 2, -1]),
        recycle=st.sampled_from([-1, 0, 10]),
        threadlocal=st.booleans(),
        reset=st.sampled_from(["rollback", "commit", "full", None]),
        listens=st.booleans(),
        tells=st.sampled_from([True, True, True, False]),
        pre_ping=st.sampled_from([False, True, 5.0]),
        use_lifo=st.booleans(),
        max_waiting=st.sampled_from([None, None, None, None, 0, 1, 2]),
    )
    def start(
        self,
        kind: str,
        pool_size: int,
        max_overflow: int,
        recycle: float,
        threadlocal: bool,
        reset: Any,
        listens: bool,
        tells: bool,
        pre_ping: bool | float,
        use_lifo: bool,
        max_waiting: int | None,
    ) -> None:
        keep, capacity = limits(pool_size, max_overflow)
        options: dict[str, Any] = {
            "recycle": recycle,
            "use_threadlocal": threadlocal,
            "reset_on_return": reset,
            "pre_ping": pre_ping,
        }
        self.overflow = max_overflow
        if kind == "QueuePool":
            options |= {"pool_size": pool_size, "max_overflow": max_overflow}
            options |= {"use_lifo": use_lifo, "max_waiting": max_waiting, "timeout": None}
        else:
            keep, capacity = (0, math.inf) if kind == "NullPool" else (1, 1)
        self._make(kind, listens, tells, capacity, options)
        self.model = Model(
            keep,
            capacity,
            recycle,
            threadlocal,
            resets=reset is not None,
            pools=kind != "NullPool",
            asserts=kind == "AssertionPool",
            lifo=use_lifo,
            ping_after=_ping_after(pre_ping),
            tells=tells,
            full=reset == "full",
            most=math.inf if max_waiting is None else max_waiting,
        )

    def _make(
        self,
        kind: str,
        listens: bool,
        tells: bool,
        capacity: float,
        options: dict[str, Any],
    ) -> None:
        if listens:
            options["listeners"] = [_Checkins(self.checkins)]
        self.listens = listens
        self.kind = kind
        shared = kind not in ("QueuePool", "NullPool", "AssertionPool")
        self.witness = Witness(
            coroutine=not self.host.blocking, capacity=capacity, shared=shared
        )
        self.witness.before = self._fail
        self.witness.resets = options["reset_on_return"] is not None
        if tells:
            options["driver"] = self.witness.driver()
            options["use_times"] = True  # else a pool takes no more looks than it must
        pools: Any = sync if self.host.blocking else anypool
        self.pool = getattr(pools, kind)(self.witness.creator, **options)
        if not self.host.blocking:
            self.host.in_loop(self.pool._runtime.caller)
            self.pool._runtime.now = self.clock.monotonic
        self.fail_connects = self.fail_resets = self.fail_pings = 0
        self.closing: list[Order] = []
        self.before = self._stats()

    def _fail(self, what: str, connection: object) -> None:
        if what == "connect" and self.fail_connects:
            self.fail_connects -= 1
            raise ConnectionRefusedError
        if what in ("rollback", "commit") and self.fail_resets:
            self.fail_resets -= 1
            raise ConnectionResetError
        if what == "ping" and self.fail_pings:
            self.fail_pings -= 1
            raise ConnectionResetError

    # What callers do.

    @rule(caller=CALLERS, share=st.booleans())
    def connect(self, caller: int, share: bool) -> None:
        if self._is_busy(caller):
            return  # a caller that waits does nothing else
        lease = self.model.connect(caller, share=share)
        connect = self.pool.connect if share else self.pool.unique_connection
        order = self.host.order(caller, lambda: connect())
        if lease in self.real:  # nested
            self.host.settle(lambda: order.done)
            assert order.result is self.real[lease]
        else:
            self.orders[lease] = order

    @rule(steps=st.lists(st.integers(-3, 5), min_size=4, max_size=12))
    def rush(self, steps: list[int]) -> None:
        """Callers come and go: number n comes, or where that is negative a lease goes, some
        of them in the middle of something."""
        for step in steps:
            if step >= 0:
                self.connect(step, False)
            elif self.real:
                lease = self._pick(-step)
                if step == -3:
                    self._leave(lease, "busy")
                self._close(lease, TIDIER)
            self.agrees()

    @rule(caller=CALLERS, what=st.sampled_from(["", *LEFT]))
    def connect_without_patience(self, caller: int, what: str) -> None:
        """Come, leave something behind, and go."""
        if self._is_busy(caller):
            return
        lease = self.model.connect(caller, share=False, patience=False)
        order = self.host.order(caller, lambda: self.pool.unique_connection(timeout=0))
        self.host.settle(lambda: order.done)
        if lease.state == "failed":
            assert isinstance(order.error, lease.error), order.error
        else:
            self._same(lease, order.result)
            self._leave(lease, what)
            self._spare_sharers(lease)
            self.model.close(lease)
            self._do(caller, order.result.close)

    @precondition(lambda self: self.real)
    @rule(pick=PICKS, caller=CALLERS)
    def close(self, pick: int, caller: int) -> None:
        """Close a lease, one's own or another caller's."""
        if not self._is_busy(caller):
            self._close(self._pick(pick), caller)

    def _close(self, lease: Lease, caller: int) -> None:
        self._spare_sharers(lease)
        self.model.close(lease)
        self._do(caller, self.real[lease].close)

    @precondition(lambda self: self.real)
    @rule(pick=PICKS, what=st.sampled_from(LEFT))
    def leave(self, pick: int, what: str) -> None:
        """Begin something on a connection, or change it, and leave it like that."""
        self._leave(self._pick(pick), what)

    def _leave(self, lease: Lease, what: str) -> None:
        connection = lease.connection
        assert connection is not None
        if self.model.tells or what == "transaction":
            self.connections[connection].leave(what)
            connection.left = set(self.connections[connection].left)

    @precondition(lambda self: self.real)
    @rule(pick=PICKS)
    def drop(self, pick: int) -> None:
        lease = self._pick(pick)
        self._spare_sharers(lease)
        self.model.close(lease, all_of_it=True)
        if self.host.blocking:
            del self.real[lease]
        else:
            self.host.in_loop(self.real.pop, lease)

    @precondition(lambda self: self.real)
    @rule(pick=PICKS, caller=CALLERS)
    def invalidate(self, pick: int, caller: int) -> None:
        lease = self._pick(pick)
        if not self._is_busy(caller) and not _is_shared(lease):
            self.model.invalidate(lease)
            self._do(caller, self.real[lease].invalidate)

    @precondition(lambda self: self.real)
    @rule(pick=PICKS, caller=CALLERS)
    def detach(self, pick: int, caller: int) -> None:
        lease = self._pick(pick)
        if not self._is_busy(caller) and not _is_shared(lease):
            self.real[lease].connection.detached = True
            self.model.detach(lease)
            self._do(caller, self.real[lease].detach)

    @precondition(lambda self: self.model.waiters and not self.host.blocking)
    @rule(pick=PICKS)
    def give_up(self, pick: int) -> None:
        """Cancel a caller that waits."""
        lease = self.model.waiters[pick % len(self.model.waiters)]
        self.model.give_up(lease)
        order = self.orders.pop(lease)
        assert order.cancel is not None
        self.host.in_loop(order.cancel)
        self.host.settle(lambda: order.done)

    @rule(caller=CALLERS)
    def dispose(self, caller: int) -> None:
        if not self._is_busy(caller):
            self.model.dispose()
            self._do(caller, self.pool.dispose)

    @precondition(lambda self: self.ended)
    @rule(pick=PICKS, caller=CALLERS)
    def close_again(self, pick: int, caller: int) -> None:
        """Close a lease that is over, or take it out of the pool: nothing happens."""
        if not self._is_busy(caller):
            lease = self.ended[pick % len(self.ended)]
            self._do(caller, lease.detach if pick % 2 else lease.close)

    @rule(caller=CALLERS)
    def drain(self, caller: int) -> None:
        if not self._is_busy(caller):
            self.model.drain()
            self._do(caller, self.pool.drain)

    @rule(
        caller=CALLERS,
        pool_size=st.sampled_from([1, 1, 2, 3, 0]),
        max_overflow=st.sampled_from([None, None, 0, 1, 2, -1]),
    )
    def resize(self, caller: int, pool_size: int, max_overflow: int | None) -> None:
        if self.kind != "QueuePool" or self._is_busy(caller):
            return
        self._fail_nothing()
        if max_overflow is not None:
            self.overflow = max_overflow
        keep, capacity = limits(pool_size, self.overflow)
        self.witness.capacity = capacity
        self.model.resize(keep, capacity)
        self._do(caller, lambda: self.pool.resize(pool_size, max_overflow))
        assert self.pool.size() == pool_size

    @rule(caller=CALLERS)
    def suspend(self, caller: int) -> None:
        if self.kind == "QueuePool" and not self._is_busy(caller):
            self.model.suspend()
            self._do(caller, self.pool.suspend)

    @rule(caller=CALLERS)
    def resume(self, caller: int) -> None:
        if self.kind == "QueuePool" and not self._is_busy(caller):
            self._fail_nothing()
            self.model.resume()
            self._do(caller, self.pool.resume)

    @rule(chance=st.integers(0, 9), at_once=st.booleans())
    def close_pool(self, chance: int, at_once: bool) -> None:
        """Close the pool, once in a while; or again."""
        if chance:
            return
        self.model.shut(at_once=at_once)
        timeout = 0 if at_once else None
        caller = CLOSERS + len(self.closing)
        self.closing.append(self.host.order(caller, lambda: self.pool.close(timeout)))
        inner = getattr(self.pool, "async_pool", self.pool)
        self.host.settle(lambda: inner._ledger.closed)

    @rule(seconds=st.sampled_from([0.5, 9, 20]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.model.now += seconds

    @rule(what=st.sampled_from(["connects", "resets", "pings"]))
    def fail_next(self, what: str) -> None:
        if what == "connects":
            self.fail_connects = self.model.failing_connects = 1
        elif what == "pings":
            self.fail_pings = self.model.failing_pings = 1
        elif self.model.resets:
            self.fail_resets = self.model.failing_resets = 1

    def _fail_nothing(self) -> None:
        """Several are going to be served at a time: which of them fails is not said."""
        self.fail_connects = self.model.failing_connects = 0
        self.fail_pings = self.model.failing_pings = 0

    def _spare_sharers(self, lease: Lease) -> None:
        """What one does to a connection that others have is not modelled."""
        if _is_shared(lease):
            self.fail_resets = self.model.failing_resets = 0

    def _pick(self, pick: int) -> Lease:
        return list(self.real)[pick % len(self.real)]

    def _is_busy(self, caller: int) -> bool:
        return any(each.caller == caller for each in self.model.waiters)

    def _do(self, caller: int, work: Any) -> None:
        order = self.host.order(caller, work)
        del work
        self.host.settle(lambda: order.done)
        assert order.error is None, order.error

    # What has to be so after each step.

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        self.host.settle(lambda: all(self._as_told(*each) for each in self.orders.items()))
        for lease, order in list(self.orders.items()):
            if lease.state == "out" and lease not in self.real:
                assert order.error is None, repr(order.error)
                self._same(lease, order.result)
                self.real[lease] = order.result
                del self.orders[lease]
            elif lease.state == "failed":
                assert isinstance(order.error, lease.error), repr(order.error)
                del self.orders[lease]
            order.result = None
        if self.closing and not self.model.out:
            self.host.settle(lambda: all(order.done for order in self.closing))
        for order in self.closing:
            assert order.error is None
            assert order.done == (not self.model.out)
        try:
            self.host.settle(lambda: self._state() == self._expected())
        except AssertionError:
            assert self._state() == self._expected()
        for lease, real in list(self.real.items()):
            assert real.is_valid == (lease.connection is not None)
            if lease.connection is not None:
                assert real.connection is self.connections[lease.connection]
            else:
                self.ended.append(self.real.pop(lease))
        for connection in self.model.open & self.connections.keys():
            assert self.connections[connection].left == connection.left
        if self.listens:
            assert self.checkins == self.model.checkins
        stats = self._stats()
        timed = {"use_time"} if self.before.use_time is None else set()
        for name in {*COUNTED} - timed:
            assert getattr(stats, name) >= getattr(self.before, name), name
        self.before = stats
        assert not books(self.pool)
        assert not self.witness.violations, self.witness.violations

    def _as_told(self, lease: Lease, order: Order) -> bool:
        return order.done == (lease.state != "waits")

    def _same(self, lease: Lease, real: Any) -> None:
        assert lease.connection is not None
        known = self.connections.setdefault(lease.connection, real.connection)
        assert known is real.connection
        if not _is_shared(lease):
            self.witness.assess(known)

    def _stats(self) -> PoolStats:
        if self.host.blocking:
            stats: PoolStats = self.pool.stats()
        else:
            stats = self.host.in_loop(self.pool.stats)
        return stats

    def _state(self) -> dict[str, Any]:
        stats = self._stats()
        return {
            "open": len(self.witness.open),
            "size": stats.size,
            "idle": stats.idle,
            "checked_out": stats.checked_out,
            "connecting": stats.connecting,
            "waiting": stats.waiting,
            "closed": dict(stats.closed),
            **{name: getattr(stats, name) for name in COUNTED if "time" not in name},
        }

    def _expected(self) -> dict[str, Any]:
        model = self.model
        return {
            "open": len(model.open),
            "size": model.size(),
            "idle": model.spare(),
            "checked_out": len(model.out),
            "connecting": 0,
            "waiting": len(model.waiters),
            "closed": dict(model.reasons),
            **{name: model.counts[name] for name in COUNTED if "time" not in name},
        }

    def teardown(self) -> None:
        try:
            if hasattr(self, "model"):
                self.resume(TIDIER)
                self.agrees()
                while self.real:
                    self.drop(0)
                    self.agrees()
                self.host.settle(lambda: not leftovers(self.pool))
                self._do(TIDIER, self.pool.dispose)
                assert self.witness.open == []
        finally:
            self.host.close()
            self.caught.__exit__(None, None, None)
            self.patch.undo()


class SharedMachine(Machine):
    """The same with pools whose connections several callers may have at a time."""

    model: SharedModel

    @initialize(
        limit=st.sampled_from([None, None, 1, 2, 3]),
        recycle=st.sampled_from([-1, 0, 10]),
        threadlocal=st.booleans(),
        reset=st.sampled_from(["rollback", "commit", "full", None]),
        listens=st.booleans(),
        tells=st.sampled_from([True, True, True, False]),
        pre_ping=st.sampled_from([False, True, 5.0]),
    )
    def start(  # other options
        self,
        limit: int | None,
        recycle: float,
        threadlocal: bool,
        reset: Any,
        listens: bool,
        tells: bool,
        pre_ping: bool | float,
    ) -> None:
        options: dict[str, Any] = {
            "recycle": recycle,
            "reset_on_return": reset,
            "pre_ping": pre_ping,
        }
        if limit is None:
            kind = "StaticPool"
            options["use_threadlocal"] = threadlocal
        else:
            kind = "SingletonThreadPool" if self.host.blocking else "SingletonTaskPool"
            options["pool_size"], threadlocal = limit, True
        self._make(kind, listens, tells, math.inf, options)
        self.model = SharedModel(
            0,
            math.inf,
            recycle,
            threadlocal,
            resets=reset is not None,
            ping_after=_ping_after(pre_ping),
            tells=tells,
            full=reset == "full",
            limit=limit,
        )


def _is_shared(lease: Lease) -> bool:
    return lease.slot is not None and lease.slot.users > 1


def _ping_after(pre_ping: bool | float) -> float:
    return {"False": math.inf, "True": -1.0}.get(str(pre_ping), pre_ping)


@pytest.mark.parametrize("machine", [Machine, SharedMachine])
@pytest.mark.parametrize("mode", ["blocking", "asyncio", "trio"])
def test_pool_and_model_agree(mode: str, machine: type[Machine]) -> None:
    """Whatever is done, in whatever order, is what the model says."""
    run_state_machine_as_test(
        type("Machine", (machine,), {"mode": mode}),
        settings=settings(
            max_examples=rounds(15, 400),
            phases=[Phase.generate, *([Phase.shrink] if EFFORT >= 1 else [])],
            stateful_step_count=40,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
