"""The keeper alone, on a clock that is driven, with a real ledger."""

from __future__ import annotations

import random
from typing import Any
from weakref import ref

import anyio
import pytest

from anypool._core.lease import PooledConnection
from anypool._core.log import PoolLog
from anypool._parts.keeper import LOOK_EVERY, RENEW_AT_ONCE, Keeper
from anypool._parts.leakwatch import LeakWatch
from anypool._parts.warmup import WarmUp
from anypool._runtimes.thread import AwaitableCreator

from .stage import (
    Cancelled,
    ConnectTold,
    Driver,
    Fault,
    Interrupt,
    Never,
    Stage,
    begin,
    cut_short,
    drive,
)


@pytest.fixture(autouse=True)
def _no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: 1.0)
    monkeypatch.setattr(anyio, "get_cancelled_exc_class", lambda: Cancelled)


class Kept(Stage):
    """A stage with a keeper whose pool is open."""

    def __init__(
        self,
        *,
        max_idle: float | None = None,
        keepalive: float | None = None,
        timeout: float | None = 30.0,
        opened: bool = True,
        kind: type[Keeper[Any]] = Keeper,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        nobody: Any = None
        log = PoolLog("Pool", None, None)
        leaks = LeakWatch(self.ledger, self.runtime, log, nobody, None)
        self.keeper: Keeper[Any] = kind(
            self.ledger,
            self.background,
            self.closer,
            self.connector,
            self.inspector,
            max_idle=max_idle,
            keepalive=keepalive,
            timeout=timeout,
            leaks=leaks,
        )
        self.warm_up = WarmUp(self.ledger, self.runtime)
        self.kicks = 0
        if opened:
            self.ledger.decide(self.ledger.open)

    def _note_decision(self) -> None:
        super()._note_decision()
        if self.ledger.wants_look:
            self.ledger.wants_look = False
            self.kicks += 1
        if self.ledger.unstarted:
            self.keeper.begin_connects()

    def wait_for_one(self) -> Any:
        """Have a caller come who waits."""
        lease: Any = PooledConnection()
        lease._ref, lease._owner = ref(lease), None
        lease._record = lease._connection = None
        lease._count = 0
        waiter = self.ledger.decide(self.ledger.admit, lease, True, False)
        return lease, waiter

    def idle(self, number: int) -> list[Any]:
        """Have that many idle connections."""
        records = [self.slot() for _ in range(number)]
        for record in records:
            self.closer.put_back(record)
        assert not self.runtime.begun
        return records


# Growing.


def test_it_opens_what_there_shall_be_at_least() -> None:
    stage = Kept(min_size=2)
    assert len(stage.runtime.begun) == 2
    assert len(stage.ledger.connecting) == 2
    stage.runtime.run_all()
    assert len(stage.made) == len(stage.ledger.idle) == 2
    assert not stage.ledger.connecting
    assert stage.keeper.tend() == float("inf")
    assert not stage.runtime.begun


def test_it_replaces_what_is_gone() -> None:
    stage = Kept(min_size=2)
    stage.runtime.run_all()
    stage.ledger.take_idle(record := stage.ledger.idle[0])
    drive(stage.closer.close_slot(record, "invalid"))
    stage.runtime.run_all()
    assert len(stage.ledger.idle) == 2


def test_it_opens_one_for_who_waits_and_gives_it_to_them() -> None:
    stage = Kept()
    lease, waiter = stage.wait_for_one()
    assert stage.kicks == 1
    assert stage.runtime.run_all() == 1
    assert waiter.gate.released
    assert waiter.record.connection is stage.made[0]
    assert stage.ledger.leases.out == {lease._ref: waiter.record}


def test_the_longer_it_takes_the_more_is_opened() -> None:
    stage = Kept(pool_size=20)
    stage.runtime.time = 1.0
    waiting = [stage.wait_for_one() for _ in range(8)]
    # Not all at once: who is served quickly needs none of their own.
    assert len(stage.runtime.begun) == 5
    stage.ledger.statistics.note_opened(0.1)  # connects take that long, as is known
    stage.runtime.run_next()
    stage.pass_time(0.3)
    assert stage.keeper.tend() < 0.05  # it looks again soon
    assert len(stage.ledger.connecting) == 7
    stage.runtime.run_all()
    assert all(waiter.gate.released for _, waiter in waiting)


@pytest.mark.parametrize("why", ["suspended", "the loop is about to end", "not open"])
def test_nothing_is_opened_where_nobody_could_have_it(why: str) -> None:
    stage = Kept(min_size=2, opened=False)
    if why == "suspended":
        stage.ledger.decide(stage.ledger.suspend, True)
    stage.runtime.settled = why != "the loop is about to end"
    if why != "not open":
        stage.ledger.decide(stage.ledger.open)
    stage.keeper.tend()
    assert not stage.runtime.begun
    if why == "suspended":
        stage.ledger.decide(stage.ledger.suspend, False)
        assert len(stage.runtime.begun) == 2
        stage.runtime.drop_all()


def test_a_connect_whose_pool_is_closed_by_then_is_not_made() -> None:
    stage = Kept(min_size=1)
    stage.ledger.decide(stage.ledger.close)
    stage.runtime.run_all()
    assert stage.made == []
    assert stage.ledger.total == 0


# Connects that fail.


def test_it_pauses_longer_with_each_failure_and_tries_one_at_a_time() -> None:
    stage = Kept(min_size=3)
    stage.fault = Fault()
    stage.runtime.run_all()
    assert stage.ledger.statistics.failed == 3
    assert stage.ledger.total == 0
    delays = []
    for _ in range(8):
        pause = stage.ledger.growth.backoff.resume_at - stage.runtime.time
        assert stage.keeper.tend() == pytest.approx(max(0.001, pause))
        stage.pass_time(pause - 0.01)
        stage.keeper.tend()
        assert not stage.runtime.begun  # the pause is not over
        stage.pass_time(0.011)
        assert stage.keeper.tend() == float("inf")  # what is under way tells when it ends
        assert stage.runtime.run_all() == 1
        delays.append(stage.ledger.growth.backoff.resume_at - stage.runtime.time)
    # It had failed three times by then.
    assert delays[-1] == pytest.approx(delays[-2])
    assert delays == pytest.approx(sorted(delays))
    stage.fault = None
    stage.pass_time(delays[-1])
    stage.keeper.tend()
    stage.runtime.run_next()
    assert stage.ledger.growth.backoff.error is None
    stage.keeper.tend()
    stage.runtime.run_all()
    assert len(stage.ledger.idle) == 3


def test_the_pauses_are_doubled_up_to_a_limit() -> None:
    stage = Kept(min_size=1)
    stage.fault = Fault()
    pauses = []
    for _ in range(8):
        stage.runtime.run_all()
        pauses.append(round(stage.ledger.growth.backoff.resume_at - stage.runtime.time, 6))
        stage.pass_time(pauses[-1])
        stage.keeper.tend()
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    stage.runtime.drop_all()


def test_a_connect_that_fails_leaves_nobody_waiting_longer_than_need_be() -> None:
    stage = Kept()
    _, waiter = stage.wait_for_one()
    stage.fault = Fault()
    stage.runtime.run_all()
    assert not waiter.gate.released
    assert stage.kicks == 2  # that it is looked at when the pause is over
    stage.fault = None
    stage.pass_time(stage.keeper.tend())
    stage.keeper.tend()
    stage.runtime.run_all()
    assert waiter.gate.released


@pytest.mark.parametrize("where", ["creator", "connect listener"])
def test_a_connect_that_takes_too_long_is_cut_short_and_counts_as_failed(
    where: str,
) -> None:
    driver = Driver()
    told = ConnectTold(driver.steps)
    stage = Kept(driver=driver, min_size=1, listeners=[told], timeout=60.0)
    if where == "creator":
        stage.fault = Never()
    else:
        told.fail[where] = Never()
    stage.runtime.run_next()
    assert stage.runtime.limits == [60.0]
    assert isinstance(stage.ledger.growth.backoff.error, TimeoutError)
    assert not stage.ledger.connecting
    assert stage.ledger.total == 0
    # What a listener has left half done is for nobody.
    assert driver.steps == ([] if where == "creator" else [where, "terminate"])


@pytest.mark.parametrize("fault", [Fault(), Never()])
def test_a_new_connection_that_could_not_be_looked_at_is_for_nobody(fault: Any) -> None:
    stage = Kept(min_size=1)
    stage.driver.fail["holds data"] = fault
    stage.runtime.run_next()
    assert not stage.ledger.idle
    assert stage.ledger.total == 0
    assert stage.ledger.growth.backoff.error is not None
    assert stage.driver.steps in (["close"], ["terminate"])


@pytest.mark.parametrize(("timeout", "limit"), [(None, 30.0), (1.0, 30.0), (60.0, 60.0)])
def test_a_connect_may_take_as_long_as_a_checkout_at_least(
    timeout: float | None, limit: float
) -> None:
    stage = Kept(min_size=1, timeout=timeout)
    stage.runtime.run_all()
    assert stage.runtime.limits == [limit]


@pytest.mark.parametrize("where", ["connect", "keep alive", "renew"])
def test_what_is_cut_short_from_outside_loses_no_slot_and_is_not_replaced_at_once(
    where: str,
) -> None:
    stage = Kept(min_size=1, keepalive=10.0)
    if where == "connect":
        stage.fault = Interrupt()
    else:
        stage.runtime.run_all()
        if where == "renew":
            stage.ledger.decide(stage.ledger.age)
            stage.driver.fail_once["close"] = Interrupt()
        else:
            stage.pass_time(11.0)
            stage.driver.fail_once["ping"] = Interrupt()
        stage.keeper.tend()
    with pytest.raises(Interrupt):
        stage.runtime.run_next()
    # Who cancels that, cancels all there is: the next look sees to another.
    assert stage.ledger.total == 0
    assert not stage.ledger.connecting
    assert not stage.runtime.begun
    stage.fault = None
    stage.keeper.tend()
    stage.runtime.run_all()
    assert len(stage.ledger.idle) == 1


def test_a_misplaced_creator_leaves_everybody_to_connect_by_themselves() -> None:
    async def connecting() -> None: ...

    awaitable: Any = connecting()

    def creator() -> Any:
        raise AwaitableCreator(awaitable)

    stage = Kept(min_size=1, blocking=True, creator=creator)
    warm = stage.warm_up.wait(None)
    begin(warm)
    stage.runtime.run_next()
    assert stage.keeper.misplaced
    assert not stage.ledger.opened
    assert awaitable.cr_frame is None  # closed
    assert not stage.ledger.connecting
    assert stage.ledger.statistics.failed == 0
    drive(warm)  # who waits until the pool is warm, waits no more
    stage.keeper.clear()
    assert not stage.keeper.misplaced


# Renewing.


def test_it_renews_two_at_a_time() -> None:
    stage = Kept(recycle=60.0, pool_size=5)
    old = stage.idle(5)
    stage.pass_time(61.0)
    assert stage.keeper.tend() == LOOK_EVERY
    assert len(stage.runtime.begun) == RENEW_AT_ONCE == 2
    assert len(stage.ledger.idle) == 3  # the others can serve meanwhile
    stage.keeper.tend()
    assert len(stage.runtime.begun) == 2
    rounds = 0
    while stage.runtime.begun:
        stage.runtime.run_all()
        stage.keeper.tend()
        rounds += 1
    assert rounds == 3
    assert stage.closed == {"recycle": 5}
    assert len(stage.made) == 10
    assert all(r._expires_at == 121.0 for r in old)


def test_a_drained_pools_connections_are_renewed() -> None:
    stage = Kept()
    stage.idle(1)
    assert stage.keeper.tend() == float("inf")
    stage.ledger.decide(stage.ledger.age)
    assert stage.kicks == 1
    stage.keeper.tend()
    stage.runtime.run_all()
    assert stage.closed == {"dispose": 1}
    assert [record._generation for record in stage.ledger.idle] == [1]


def test_nothing_is_renewed_while_connects_fail() -> None:
    stage = Kept(recycle=60.0)
    (record,) = stage.idle(1)
    stage.pass_time(61.0)
    stage.ledger.growth.backoff.failed(Fault(), stage.runtime.time)
    stage.keeper.tend()
    assert not stage.runtime.begun
    assert list(stage.ledger.idle) == [record]
    assert record.connection is not None


def test_a_close_that_never_ends_does_not_keep_a_slot_from_being_renewed() -> None:
    stage = Kept(recycle=60.0)
    stage.idle(1)
    stage.pass_time(61.0)
    stage.driver.fail_once["close"] = Never()
    stage.keeper.tend()
    stage.runtime.run_next()
    assert stage.runtime.limits[0] == 5.0
    assert len(stage.made) == 2
    assert len(stage.ledger.idle) == 1


# Keeping alive, and closing.


def test_it_pings_what_has_idled_for_long() -> None:
    stage = Kept(keepalive=10.0)
    young, old = stage.idle(2)
    stage.pass_time(10.5)
    young._since = 5.0
    assert stage.keeper.tend() == LOOK_EVERY
    stage.runtime.run_all()
    assert stage.driver.steps == ["ping"]
    assert old._pinged_at == 10.5
    assert list(stage.ledger.idle) == [young, old]
    stage.keeper.tend()
    assert not stage.runtime.begun  # not once more


def test_one_that_is_dead_is_closed_and_replaced() -> None:
    stage = Kept(keepalive=10.0, min_size=1)
    stage.runtime.run_all()
    stage.pass_time(11.0)
    stage.driver.fail_once["ping"] = Fault()
    stage.keeper.tend()
    stage.runtime.run_all()
    assert stage.closed == {"ping": 1}
    assert len(stage.made) == 2
    assert stage.ledger.total == len(stage.ledger.idle) == 1


def test_a_ping_that_is_stuck_in_a_thread_keeps_its_slot() -> None:
    stage = Kept(keepalive=10.0, driver=Driver(blocking=True))
    stage.idle(1)
    stage.pass_time(11.0)
    stage.keeper.tend()
    stage.runtime.run_next()  # its time is up before the thread has done anything
    assert stage.ledger.total == 1
    assert not stage.ledger.idle
    stage.runtime.run_all()
    assert stage.ledger.total == 0
    assert stage.closed == {"ping": 1}


@pytest.mark.parametrize("min_size", [0, 1, 2])
def test_it_closes_what_nobody_needs_above_min_size(min_size: int) -> None:
    stage = Kept(max_idle=10.0, min_size=min_size)
    stage.runtime.run_all()
    stage.idle(3 - min_size)
    assert stage.keeper.tend() == LOOK_EVERY
    stage.pass_time(10.0)
    stage.keeper.tend()
    assert not stage.runtime.begun
    stage.pass_time(0.1)
    stage.keeper.tend()
    stage.runtime.run_all()
    assert len(stage.ledger.idle) == stage.ledger.total == min_size
    assert stage.closed == {"idle": 3 - min_size}


def test_what_is_out_counts_for_min_size() -> None:
    stage = Kept(max_idle=10.0, min_size=1)
    stage.runtime.run_all()
    out = stage.slot()
    stage.pass_time(11.0)
    stage.keeper.tend()
    stage.runtime.run_all()
    assert not stage.ledger.idle
    assert stage.ledger.known_records() == [out]


def test_a_database_in_memory_is_never_closed_for_idling() -> None:
    stage = Kept(max_idle=10.0)
    stage.driver.data = True
    stage.idle(1)
    stage.pass_time(100.0)
    stage.keeper.tend()
    assert not stage.runtime.begun


def test_what_somebody_takes_at_this_moment_is_left_to_them() -> None:
    class Late(Keeper[Any]):
        def _work_for(self, record: Any, now: float, surplus: bool) -> Any:
            work = super()._work_for(record, now, surplus)
            self._ledger.idle.clear()  # the quick path takes no lock
            return work

    stage = Kept(max_idle=10.0, kind=Late)
    (record,) = stage.idle(1)
    stage.pass_time(11.0)
    stage.keeper.tend()
    assert not stage.runtime.begun
    assert record.connection is not None


# When it is at work.


def test_it_looks_once_and_again_when_it_is_kicked() -> None:
    stage = Kept(min_size=1)
    stage.runtime.drop_all()
    stage.keeper.start()
    stage.keeper.start()  # which is no second one
    cares = [work for work, _ in stage.runtime.begun]
    stage.runtime.begun.clear()
    first, second = cares
    begin(first)
    drive(second)
    looks = []
    stage.keeper.kick()
    stage.runtime.now = lambda: float(looks.append(1) or 0)  # type: ignore[func-returns-value]
    first.send(None)
    assert looks
    stage.keeper.stop()
    drive(first)
    stage.keeper.resume()  # all has ended, and it is still open
    assert len(stage.runtime.begun) == 1
    stage.runtime.drop_all()


def test_an_error_in_a_look_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    stage = Kept()
    stage.keeper.start()
    ((care, _),) = stage.runtime.begun
    stage.ledger.growth.rush = None
    stage.ledger.idle.append(None)
    begin(care)
    assert "could not be looked after" in caplog.text
    stage.ledger.idle.clear()
    stage.keeper.kick()
    care.send(None)
    stage.keeper.stop()
    drive(care)


def test_a_look_whose_task_was_cancelled_is_taken_by_another() -> None:
    stage = Kept()
    stage.keeper.start()
    ((care, _),) = stage.runtime.begun
    stage.runtime.begun.clear()
    begin(care)
    stage.keeper.resume()
    assert not stage.runtime.begun  # there is one
    cut_short(care)
    stage.keeper.resume()
    ((care, _),) = stage.runtime.begun
    begin(care)
    stage.keeper.stop()
    drive(care)


def test_it_is_kept_by_nobody_who_looks() -> None:
    stage = Kept()
    stage.keeper.start()
    ((care, _),) = stage.runtime.begun
    begin(care)
    keeper = ref(stage.keeper)
    kick = stage.keeper._care.kick  # type: ignore[union-attr]
    del stage.keeper
    assert keeper() is None
    kick()
    drive(care)


def test_a_pool_that_is_not_open_is_not_looked_after() -> None:
    stage = Kept(opened=False)
    stage.keeper.start()
    stage.keeper.resume()
    assert not stage.runtime.begun
    stage.keeper.kick()
    stage.keeper.stop()
    stage.keeper.let_go()


def test_what_waits_is_cut_short() -> None:
    """A caller that waits until the pool is warm leaves nothing behind."""
    stage = Kept(min_size=1)
    warm = stage.warm_up.wait(None)
    begin(warm)
    cut_short(warm)
    stage.runtime.run_all()
    assert len(stage.ledger.idle) == 1
