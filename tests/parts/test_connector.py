"""The connector alone: creators and listeners that fail, a clock that is driven."""

from __future__ import annotations

import math
import random
import sqlite3
from functools import partial
from typing import Any

import anyio
import pytest

from anypool._core.errors import InvalidRequestError
from anypool._core.lease import PooledConnection
from anypool._drivers.closing import ClosingDriver
from anypool._drivers.generic import GenericDriver
from anypool._drivers.generic_async import GenericAsyncDriver
from anypool._drivers.sqlite3 import SQLiteDriver
from anypool._ledgers.static import StaticLedger

from .stage import (
    Cancelled,
    ConnectTold,
    Driver,
    Fault,
    FirstTold,
    Interrupt,
    Never,
    Stage,
    begin,
    cut_short,
    drive,
)


@pytest.fixture(autouse=True)
def _own_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anyio, "get_cancelled_exc_class", lambda: Cancelled)


class BeforeTold:
    def __init__(self, **changes: Any) -> None:
        self.changes = changes
        self.seen: list[dict[str, Any]] = []

    def before_connect(self, parameters: dict[str, Any], record: Any) -> None:
        self.seen.append(dict(parameters))
        parameters.update(self.changes)


def test_a_connect_is_noted_with_all_that_counts_later() -> None:
    stage = Stage()
    stage.ledger.generation = 3
    record = stage.slot(connected=False)
    record.info["left"] = "by another"
    record._ending = True
    stage.pass_time(7.0)
    drive(stage.connector.connect(record))
    assert record.connection is stage.made[0]
    assert record._driver is stage.driver
    assert (record._serial, record._generation) == (1, 3)
    assert record._since == record._pinged_at == 7.0
    assert record._expires_at == math.inf
    assert record._baseline == "baseline 0"
    assert not record._ending
    assert not dict(record.info)
    assert stage.ledger.statistics.opened == 1
    drive(stage.connector.connect(other := stage.slot(connected=False)))
    assert other._serial == 2


def test_what_ends_all_connections_during_a_connect_ends_this_one_too() -> None:
    stage: Any = Stage(creator=lambda: (stage.ledger.age(), object())[1])
    record = stage.slot(connected=False)
    drive(stage.connector.connect(record))
    assert stage.ledger.generation == 1
    assert record._generation == 0
    assert stage.inspector.is_stale(record)


def test_how_long_a_connect_took_is_counted() -> None:
    stage: Any = Stage(creator=lambda: (stage.pass_time(2.5), object())[1])
    stage.slot()
    stage.slot()
    assert stage.ledger.statistics.mean_connect_time() == 2.5


@pytest.mark.parametrize("jitter", [None, 0.0, 4.0])
def test_the_age_limit_is_less_by_the_jitter_at_most(
    jitter: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.25)
    stage = Stage(recycle=10.0, jitter=jitter)
    stage.pass_time(100.0)
    assert stage.slot()._expires_at == 110.0 - 0.25 * (jitter or 0.0)


def test_a_creator_that_fails_leaves_an_empty_slot_and_is_counted() -> None:
    stage = Stage()
    record = stage.slot(connected=False)
    for fault, failed in ((Fault(), 1), (Interrupt(), 1)):
        stage.fault = fault
        with pytest.raises(type(fault)):
            drive(stage.connector.connect(record))
        assert record.connection is None
        assert stage.ledger.statistics.failed == failed
        assert stage.ledger.statistics.opened == 0
    assert stage.driver.steps == []


@pytest.mark.parametrize(
    ("listener", "what"),
    [(ConnectTold, "connect listener"), (FirstTold, "first connect listener")],
)
def test_a_listener_that_fails_closes_what_it_has_seen(listener: Any, what: str) -> None:
    driver = Driver()
    stage = Stage(driver=driver, listeners=[listener(driver.steps, fail={what: Fault()})])
    record = stage.slot(connected=False)
    with pytest.raises(Fault):
        drive(stage.connector.connect(record))
    assert record.connection is None
    assert driver.steps == [what, "close"]
    assert stage.closed == {"listener": 1}


def test_a_listener_that_is_cut_short_leaves_a_connection_for_nobody() -> None:
    driver = Driver()
    told = ConnectTold(driver.steps, fail={"connect listener": Never()})
    stage = Stage(driver=driver, listeners=[told])
    record = stage.slot(connected=False)
    work = stage.connector.connect(record)
    begin(work)
    cut_short(work)
    assert record.connection is not None
    assert stage.inspector.is_left(record)  # who called for it sees to that


def test_what_connect_listeners_do_belongs_to_the_baseline() -> None:
    driver = Driver()
    stage = Stage(driver=driver, listeners=[ConnectTold(driver.steps)])
    assert stage.slot()._baseline == "baseline 1"


def test_first_connect_is_told_once_and_once_more_after_a_failure() -> None:
    driver = Driver()
    told = FirstTold(driver.steps, fail={"first connect listener": Fault()})
    listeners = [told, ConnectTold(driver.steps)]
    stage = Stage(driver=driver, listeners=listeners, pool_size=4)
    record = stage.slot(connected=False)
    with pytest.raises(Fault):
        drive(stage.connector.connect(record))
    told.fail.clear()
    stage.slot()
    stage.slot()
    first = "first connect listener"
    assert [step for step in driver.steps if step == first] == [first, first]
    # One that comes later is told of the next connection.
    steps: list[str] = []
    stage.announcer.add(FirstTold(steps))
    stage.slot()
    assert steps == [first]


def test_before_connect_changes_the_arguments_of_this_connect_only() -> None:
    made: list[Any] = []

    def creator(*args: Any, **kwargs: Any) -> Any:
        made.append((args, kwargs))
        return object()

    told = BeforeTold(password="new", port=2)
    given = partial(creator, "host", port=1)
    stage = Stage(creator=given, listeners=[told])
    stage.slot()
    stage.slot()
    assert made == [(("host",), {"port": 2, "password": "new"})] * 2
    assert told.seen == [{"port": 1}, {"port": 1}]
    assert given.keywords == {"port": 1}


def test_before_connect_that_fails_is_a_connect_that_failed() -> None:
    class Refuses:
        def before_connect(self, parameters: Any, record: Any) -> None:
            raise Fault

    stage = Stage(listeners=[Refuses()])
    with pytest.raises(Fault):
        drive(stage.connector.connect(stage.slot(connected=False)))
    assert stage.made == []
    assert stage.ledger.statistics.failed == 1


# The driver.


class Closable:
    def close(self) -> None: ...


class Rollback(Closable):
    def rollback(self) -> None: ...


@pytest.mark.parametrize(
    ("make", "chosen"),
    [
        (
            lambda: sqlite3.connect("file:a?mode=memory&cache=shared", uri=True),
            SQLiteDriver,
        ),
        (Rollback, GenericDriver),
        (Closable, ClosingDriver),
    ],
)
def test_the_driver_is_chosen_by_the_connection(make: Any, chosen: type) -> None:
    stage: Any = Stage(unknown=True, creator=make, blocking=True)
    record = stage.slot()
    assert type(record._driver) is chosen
    assert stage.connector.driver is record._driver
    record._driver.close(record.connection)
    record.connection = None


def test_what_had_to_be_awaited_doesnt_block_and_is_made_in_the_loop_from_then_on() -> None:
    async def make() -> Any:
        return Rollback()

    stage: Any = Stage(unknown=True, creator=lambda: make())
    assert not stage.connector.inline
    record = stage.slot()
    assert type(record._driver) is GenericAsyncDriver
    assert stage.connector.inline
    assert len(stage.runtime.in_threads) == 1
    stage.slot()
    assert len(stage.runtime.in_threads) == 1


def test_the_driver_that_was_given_is_kept() -> None:
    stage = Stage(creator=Rollback)
    assert stage.slot()._driver is stage.driver
    assert stage.connector.inline  # it doesn't block


def test_a_creator_that_brings_another_kind_gets_another_driver() -> None:
    kinds = iter([Rollback(), Closable()])
    stage = Stage(unknown=True, creator=lambda: next(kinds))
    assert type(stage.slot()._driver) is GenericDriver
    assert type(stage.slot()._driver) is ClosingDriver


# Databases that end with their connection.


@pytest.mark.parametrize("data", [True, "empty"])
def test_a_database_in_memory_is_never_too_old(data: Any) -> None:
    stage = Stage(recycle=1.0)
    stage.driver.data = data
    record = stage.slot()
    assert record._holds_data == data
    assert record._expires_at == math.inf


def test_a_second_empty_database_is_refused_and_its_slot_is_not_kept() -> None:
    stage = Stage()
    stage.driver.data = "empty"
    first = stage.slot()
    record = stage.slot(connected=False)
    with pytest.raises(InvalidRequestError, match="another, empty database"):
        drive(stage.connector.connect(record))
    assert record.connection is None
    assert stage.closed == {"invalid": 1}
    stage.closer.put_back(record)
    assert stage.ledger.known_records() == [first]
    assert stage.ledger.total == 1


def test_one_that_has_something_in_it_is_nobody_elses_business() -> None:
    stage = Stage()
    stage.driver.data = True
    slots = [stage.slot(), stage.slot()]
    assert all(slot._holds_data for slot in slots)


def test_what_the_driver_can_not_even_look_at_is_closed() -> None:
    stage = Stage()
    stage.driver.fail["holds data"] = Fault()
    record = stage.slot(connected=False)
    with pytest.raises(Fault):
        drive(stage.connector.connect(record))
    assert record.connection is None
    assert stage.closed == {"invalid": 1}


def test_a_look_that_is_cut_short_leaves_a_connection_for_nobody() -> None:
    stage = Stage()
    stage.driver.fail["holds data"] = Never()
    record = stage.slot(connected=False)
    work = stage.connector.connect(record)
    begin(work)
    cut_short(work)
    assert stage.inspector.is_left(record)


# A caller that leaves.


def _lease(stage: Stage) -> Any:
    lease: Any = PooledConnection()
    lease._ref, lease._owner = object(), None
    lease._record = lease._connection = None
    lease._count = 0
    record = stage.slot(connected=False)
    stage.ledger.leases.out[lease._ref] = record
    return lease, record


def test_who_leaves_while_a_thread_connects_leaves_it_the_slot() -> None:
    stage = Stage(driver=Driver(blocking=True))
    lease, record = _lease(stage)
    work = stage.connector.open(lease, record)
    begin(work)
    cut_short(work)
    out = stage.ledger.leases.out
    assert lease._ref not in out
    assert list(out.values()) == [record]  # in the job's own name
    assert stage.ledger.total == 1
    stage.runtime.run_all()  # the thread is done
    assert record.connection is stage.made[0]
    assert not out
    assert list(stage.ledger.idle) == [record]  # for the next caller


def test_what_was_left_and_then_fails_gives_its_slot_back() -> None:
    stage = Stage(driver=Driver(blocking=True))
    lease, record = _lease(stage)
    work = stage.connector.open(lease, record)
    begin(work)
    cut_short(work)
    stage.fault = Fault()
    stage.runtime.run_all()
    assert not stage.ledger.leases.out
    assert list(stage.ledger.idle) == [record]
    assert record.connection is None


def test_who_stays_gets_the_error_of_the_thread() -> None:
    stage = Stage(driver=Driver(blocking=True))
    lease, record = _lease(stage)
    stage.fault = Fault()
    work = stage.connector.open(lease, record)
    begin(work)
    stage.runtime.run_all()
    with pytest.raises(Fault):
        drive(work)
    assert stage.ledger.leases.out == {lease._ref: record}


def test_where_nothing_blocks_the_caller_connects_by_itself() -> None:
    for stage in (Stage(), Stage(blocking=True, driver=Driver(blocking=True))):
        lease, record = _lease(stage)
        drive(stage.connector.open(lease, record))
        assert record.connection is stage.made[0]
        assert not stage.runtime.begun


def test_another_ledger_may_say_yes_to_a_second_database() -> None:
    stage = Stage(ledger=lambda runtime, calls: StaticLedger(runtime, calls))
    stage.driver.data = "empty"
    for _ in range(2):
        record = stage.ledger.new_record()
        drive(stage.connector.connect(record))
        assert record._holds_data == "empty"
