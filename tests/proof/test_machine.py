"""A state machine drives a pool and a reference model side by side.

Callers are threads or tasks that live as long as the machine. After each step: who has
which connection, who waits, the counts, which connections are open, and what listeners
were told.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

import anypool
from anypool import sync

from ..support.bounds import EFFORT, rounds
from ..support.callers import Lease, Model, limits
from ..support.clocks import ThreadClock
from ..support.holds import waiting
from ..support.hosts import Order, TaskHost, ThreadHost
from ..support.invariants import books, leftovers
from ..support.witness import Witness

CALLERS = st.integers(0, 3)


class _Checkins:
    def __init__(self, told: list[bool]) -> None:
        self._told = told

    def checkin(self, connection: Any, record: Any) -> None:
        self._told.append(connection is not None)


class Machine(RuleBasedStateMachine):
    """One pool, one model."""

    mode: str
    leases = Bundle("leases")

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
        self.connections: dict[Any, Any] = {}
        self.orders: dict[Lease, Order] = {}
        self.checkins: list[bool] = []

    @initialize(
        kind=st.sampled_from(["QueuePool", "QueuePool", "QueuePool", "NullPool"]),
        pool_size=st.integers(0, 3),
        max_overflow=st.integers(-1, 2),
        recycle=st.sampled_from([-1, 0, 10]),
        threadlocal=st.booleans(),
        reset=st.sampled_from(["rollback", "commit", None]),
        listens=st.booleans(),
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
    ) -> None:
        keep, capacity = limits(pool_size, max_overflow)
        options: dict[str, Any] = {
            "recycle": recycle,
            "use_threadlocal": threadlocal,
            "reset_on_return": reset,
        }
        if kind == "QueuePool":
            options |= {"pool_size": pool_size, "max_overflow": max_overflow}
            options["timeout"] = None
        else:
            keep, capacity = 0, math.inf
        if listens:
            options["listeners"] = [_Checkins(self.checkins)]
        self.listens = listens
        self.kind = kind
        self.witness = Witness(coroutine=not self.host.blocking, capacity=capacity)
        self.witness.before = self._fail
        pools: Any = sync if self.host.blocking else anypool
        self.pool = getattr(pools, kind)(self.witness.creator, **options)
        if not self.host.blocking:
            self.host.in_loop(self.pool._runtime.caller)
            self.pool._runtime.now = self.clock.monotonic
        self.model = Model(
            keep,
            capacity,
            recycle,
            threadlocal,
            resets=reset is not None,
            pools=kind == "QueuePool",
        )
        self.fail_connects = self.fail_resets = 0

    def _fail(self, what: str, connection: object) -> None:
        if what == "connect" and self.fail_connects:
            self.fail_connects -= 1
            raise ConnectionRefusedError
        if what in ("rollback", "commit") and self.fail_resets:
            self.fail_resets -= 1
            raise ConnectionResetError

    # What callers do.

    @rule(target=leases, caller=CALLERS, share=st.booleans())
    def connect(self, caller: int, share: bool) -> Any:
        if any(each.caller == caller for each in self.model.waiters):
            return multiple()  # a caller that waits does nothing else
        lease = self.model.connect(caller, share=share)
        assert lease is not None
        connect = self.pool.connect if share else self.pool.unique_connection
        order = self.host.order(caller, lambda: connect())
        if lease in self.real:  # nested
            self.host.settle(lambda: order.done)
            assert order.result is self.real[lease]
            return multiple()
        self.orders[lease] = order
        return lease

    @rule(caller=CALLERS)
    def connect_without_patience(self, caller: int) -> None:
        if any(each.caller == caller for each in self.model.waiters):
            return
        lease = self.model.connect(caller, share=False, patience=False)
        order = self.host.order(caller, lambda: self.pool.unique_connection(timeout=0))
        self.host.settle(lambda: order.done)
        if lease is None:
            assert isinstance(order.error, anypool.PoolTimeoutError)
        elif lease.state == "out":
            self._same(lease, order.result)
            self.model.close(lease)
            self._do(caller, order.result.close)
        else:
            assert isinstance(order.error, ConnectionRefusedError)

    @rule(lease=leases, caller=CALLERS)
    def close(self, lease: Lease, caller: int) -> None:
        """Close a lease, one's own or another caller's."""
        if self._is_busy(caller):
            return
        if lease in self.real:
            self.model.close(lease)
            self._do(caller, self.real[lease].close)

    @rule(lease=leases)
    def drop(self, lease: Lease) -> None:
        if lease in self.real:
            self.model.close(lease, all_of_it=True)
            self.orders.pop(lease, None)
            if self.host.blocking:
                del self.real[lease]
            else:
                self.host.in_loop(self.real.pop, lease)

    @rule(lease=leases, caller=CALLERS)
    def invalidate(self, lease: Lease, caller: int) -> None:
        if (
            lease in self.real
            and lease.connection is not None
            and not self._is_busy(caller)
        ):
            self.model.invalidate(lease)
            self._do(caller, self.real[lease].invalidate)

    @rule(lease=leases, caller=CALLERS)
    def detach(self, lease: Lease, caller: int) -> None:
        if lease in self.real and lease.slot is not None and not self._is_busy(caller):
            self.real[lease].connection.detached = True
            self.model.detach(lease)
            self._do(caller, self.real[lease].detach)

    @rule(lease=leases)
    def give_up(self, lease: Lease) -> None:
        """Cancel a caller that waits."""
        if lease.state == "waits" and not self.host.blocking:
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

    @rule(seconds=st.sampled_from([0.5, 9, 20]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.model.now += seconds

    @rule(what=st.sampled_from(["connects", "resets"]))
    def fail_next(self, what: str) -> None:
        if what == "connects":
            self.fail_connects = self.model.failing_connects = 1
        elif self.model.resets:
            self.fail_resets = self.model.failing_resets = 1

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
                assert isinstance(order.error, ConnectionRefusedError)
                del self.orders[lease]
            order.result = None
        try:
            self.host.settle(lambda: self._state() == self._expected())
        except AssertionError:
            assert self._state() == self._expected()
        for lease, real in self.real.items():
            assert real.is_valid == (lease.connection is not None)
            if lease.connection is not None:
                assert real.connection is self.connections[lease.connection]
        if self.listens:
            assert self.checkins == self.model.checkins
        assert not books(self.pool)
        assert not self.witness.violations, self.witness.violations

    def _as_told(self, lease: Lease, order: Order) -> bool:
        return order.done == (lease.state != "waits")

    def _same(self, lease: Lease, real: Any) -> None:
        known = self.connections.setdefault(lease.connection, real.connection)
        assert known is real.connection

    def _state(self) -> tuple[int, ...]:
        counts: tuple[int, ...] = ()
        if self.kind == "QueuePool":
            counts = (self.pool.checkedin(), self.pool.checkedout(), waiting(self.pool))
        return len(self.witness.open), *counts

    def _expected(self) -> tuple[int, ...]:
        model = self.model
        counts: tuple[int, ...] = ()
        if self.kind == "QueuePool":
            idle = len(model.idle)
            counts = (idle, model.total - idle, len(model.waiters))
        return len(model.open), *counts

    def teardown(self) -> None:
        try:
            if hasattr(self, "model"):
                for lease in list(self.model.waiters):
                    self.give_up(lease)
                while self.real:
                    self.drop(next(iter(self.real)))
                    self.agrees()
                self.host.settle(lambda: not leftovers(self.pool))
                self._do(9, self.pool.dispose)
                assert self.witness.open == []
        finally:
            self.host.close()
            self.caught.__exit__(None, None, None)
            self.patch.undo()


@pytest.mark.parametrize("mode", ["blocking", "asyncio", "trio"])
def test_pool_and_model_agree(mode: str) -> None:
    """Whatever is done, in whatever order, is what the model says."""
    run_state_machine_as_test(
        type("Machine", (Machine,), {"mode": mode}),
        settings=settings(
            max_examples=rounds(20, 500),
            phases=[Phase.generate, *([Phase.shrink] if EFFORT else [])],
            stateful_step_count=30,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
