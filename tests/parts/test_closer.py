"""The closer alone: a driver that fails, a runtime that does nothing by itself."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from anypool._core.driver import CLEAN
from anypool._core.errors import DisconnectionError

from .stage import (
    Cancelled,
    CloseTold,
    Driver,
    Fault,
    Interrupt,
    InvalidateTold,
    Never,
    Stage,
    begin,
    cut_short,
    drive,
)


def test_a_connection_is_closed_in_good_order_and_counted() -> None:
    driver = Driver()
    stage = Stage(driver=driver, listeners=[CloseTold(driver.steps)])
    record = stage.slot()
    drive(stage.closer.close(record, "recycle"))
    assert driver.steps == ["close listener", "close"]
    assert record.connection is None
    assert stage.closed == {"recycle": 1}
    # Once more: there is nothing left.
    drive(stage.closer.close(record, "recycle"))
    assert driver.steps == ["close listener", "close"]
    assert stage.closed == {"recycle": 1}


def test_what_is_no_longer_the_pools_is_closed_without_being_counted_or_told() -> None:
    driver = Driver()
    stage = Stage(driver=driver, listeners=[CloseTold(driver.steps)])
    drive(stage.closer.close(stage.slot(), None))
    assert driver.steps == ["close"]
    assert stage.closed == {}


@pytest.mark.parametrize("step", ["close", "close listener"])
def test_a_close_that_fails_is_a_close(step: str) -> None:
    driver = Driver()
    listener = CloseTold(driver.steps, fail={"close listener": Fault()})
    stage = Stage(driver=driver, listeners=[listener] if "listener" in step else [])
    driver.fail["close"] = Fault()
    record = stage.slot()
    drive(stage.closer.close(record, "idle"))
    assert record.connection is None
    assert driver.steps[-1] == "close"
    assert stage.closed == {"idle": 1}


@pytest.mark.parametrize("opened", [True, False])
def test_a_close_that_is_interrupted_is_ended_by_force(opened: bool) -> None:
    stage = Stage()
    record, driver = stage.slot(), stage.driver
    driver.fail["close"], driver.opened = Interrupt(), opened
    with pytest.raises(Interrupt):
        drive(stage.closer.close(record, "idle"))
    assert record.connection is None
    # What looks closed is left as it is: twice would be once too often.
    assert driver.steps == ["close", "terminate"][: 1 + opened]
    assert stage.closed == {"idle": 1}
    assert not stage.runtime.begun


def test_a_close_that_is_interrupted_is_done_anew_where_force_is_refused() -> None:
    stage = Stage()
    record, driver = stage.slot(), stage.driver
    driver.fail["close"], driver.abrupt = Never(), False
    work = stage.closer.close(record, "idle")
    begin(work)
    cut_short(work)
    assert record.connection is None  # nobody may get it
    driver.fail.clear()
    assert stage.runtime.run_all() == 1
    assert driver.steps == ["close", "terminate", "close"]
    assert stage.closed == {"idle": 1}


def test_a_thread_that_closes_is_left_to_it() -> None:
    stage = Stage(driver=Driver(blocking=True))
    record, driver = stage.slot(), stage.driver
    driver.fail["close"] = Never()
    work = stage.closer.close(record, "idle")
    begin(work)
    cut_short(work)
    assert record.connection is None
    assert driver.steps == ["close"]
    assert not stage.runtime.begun


def test_an_invalidated_connection_is_told_of_first() -> None:
    driver = Driver()
    listeners = [
        InvalidateTold(driver.steps, fail={"invalidate listener": Fault()}),
        CloseTold(driver.steps),
    ]
    stage = Stage(driver=driver, listeners=listeners)
    record = stage.slot()
    drive(stage.closer.invalidate(record, Fault()))
    assert driver.steps == ["invalidate listener", "close listener", "close"]
    assert stage.closed == {"invalid": 1}
    drive(stage.closer.invalidate(record, None))  # nothing left
    assert stage.closed == {"invalid": 1}


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (ConnectionError(), True),
        (DisconnectionError(), True),
        (ExceptionGroup("", [Fault(), ConnectionError()]), True),
        (Fault(), False),
        (None, False),
    ],
)
def test_a_lost_connection_ends_all_that_are_not_newer(error: Any, ended: bool) -> None:
    stage = Stage(lose_all=True)
    record, idle = stage.slot(), stage.slot(out=False)
    drive(stage.closer.invalidate(record, error))
    assert stage.ledger.generation == ended
    assert (idle.connection is None) == ended
    if ended:
        # A second one of the same age is no news.
        younger = stage.slot(out=False)
        other = stage.slot()
        other._generation = 0
        drive(stage.closer.invalidate(other, error))
        assert stage.ledger.generation == 1
        assert younger.connection is not None


def test_only_where_it_is_wanted_does_one_lost_connection_end_others() -> None:
    stage = Stage(lose_all=False)
    drive(stage.closer.invalidate(stage.slot(), ConnectionError()))
    assert stage.ledger.generation == 0


# By force.


def test_terminate_closes_and_counts_what_is_the_pools() -> None:
    stage = Stage()
    record, detached = stage.slot(), stage.slot()
    assert stage.closer.terminate(record)
    assert record.connection is None
    assert stage.closed == {"lost": 1}
    stage.ledger.decide(stage.ledger.forget, detached)
    assert stage.closer.terminate(detached)
    assert stage.closed == {"lost": 1}
    assert stage.closer.terminate(record)  # it has none
    assert stage.driver.steps == ["terminate", "terminate"]


def test_terminate_never_blocks_an_event_loop() -> None:
    stage = Stage(driver=Driver(blocking=True))
    record = stage.slot()
    assert not stage.closer.terminate(record)
    assert stage.driver.steps == []
    stage = Stage(driver=Driver(blocking=True), blocking=True)
    assert stage.closer.terminate(stage.slot())


def test_a_terminate_that_fails_is_one() -> None:
    stage = Stage()
    stage.driver.fail["terminate"] = Fault()
    record = stage.slot()
    assert stage.closer.terminate(record)
    assert record.connection is None


@pytest.mark.parametrize("opened", [True, False])
def test_a_terminate_that_is_interrupted_loses_no_slot(opened: bool) -> None:
    stage = Stage()
    record, driver = stage.slot(), stage.driver
    driver.fail_once["terminate"], driver.opened = Interrupt(), opened
    with pytest.raises(Interrupt):
        stage.closer.terminate(record)
    assert record.connection is None
    assert list(stage.ledger.idle) == [record]
    assert stage.closed == {"lost": 1}
    # What still looks open is tried once more, by its finalizer.
    gc.collect()  # the error's traceback holds it
    assert driver.steps.count("terminate") == 1 + opened


# A slot.


def test_drop_frees_the_slot() -> None:
    stage = Stage()
    record = stage.slot()
    stage.closer.drop(record)
    assert stage.driver.steps == ["terminate"]
    assert list(stage.ledger.idle) == [record]
    assert record.connection is None


def test_drop_leaves_the_slot_taken_until_it_is_closed_where_force_is_refused() -> None:
    stage = Stage()
    record = stage.slot()
    stage.driver.abrupt = False
    stage.driver.fail["close"] = Never()  # and is given up
    stage.closer.drop(record)
    assert not stage.ledger.idle
    assert stage.runtime.run_all() == 1
    assert stage.driver.steps == ["terminate", "close"]
    assert list(stage.ledger.idle) == [record]
    assert stage.closed == {"lost": 1}


def test_drop_of_what_is_no_slot_any_more_gives_nothing_back() -> None:
    stage = Stage()
    record = stage.slot()
    stage.ledger.decide(stage.ledger.forget, record)
    stage.closer.drop(record)
    assert stage.driver.steps == ["terminate"]
    assert not stage.ledger.idle


@pytest.mark.parametrize("where", ["idle", "out"])
def test_drop_leaves_a_slot_alone_that_is_home_or_somebody_elses(where: str) -> None:
    stage = Stage()
    record = stage.slot(out=where == "out")
    if where == "out":
        stage.ledger.leases.out["somebody"] = record
    stage.closer.drop(record)
    assert record.connection is not None
    assert stage.driver.steps == []
    assert stage.closed == {}


def test_drop_of_a_slot_that_is_home_makes_up_for_what_was_missed() -> None:
    stage = Stage()
    record = stage.slot(out=False)
    stage.ledger.generation += 1  # a dispose() that did not see it
    stage.closer.drop(record)
    assert record.connection is None
    assert not stage.ledger.idle
    assert stage.ledger.total == 0


def test_tidy_closes_in_the_background_where_force_is_refused() -> None:
    stage = Stage()
    record = stage.slot(out=False)
    stage.ledger.generation += 1
    stage.driver.abrupt = False
    stage.closer.tidy()
    assert stage.ledger.total == 1
    assert stage.runtime.run_all() == 1
    assert record.connection is None
    assert stage.ledger.total == 0
    assert stage.closed == {"dispose": 1}


@pytest.mark.parametrize(("older", "reason"), [(True, "dispose"), (False, "overflow")])
def test_put_back_closes_what_is_not_wanted(older: bool, reason: str) -> None:
    stage = Stage(pool_size=1, max_overflow=1)
    if older:
        record = stage.slot()
        stage.ledger.generation += 1
    else:
        stage.slot(out=False)
        record = stage.ledger.decide(stage.ledger.new_slot)
        drive(stage.connector.connect(record))
    total = stage.ledger.total
    stage.closer.put_back(record)
    assert stage.ledger.total == total  # it counts until it is closed
    assert stage.runtime.run_all() == 1
    assert record.connection is None
    assert stage.ledger.total == total - 1
    assert stage.closed == {reason: 1}


def test_put_back_of_an_empty_slot_that_is_not_wanted_forgets_it() -> None:
    stage = Stage()
    record = stage.slot(connected=False)
    stage.ledger.generation += 1
    stage.closer.put_back(record)
    assert stage.ledger.total == 0
    assert not stage.runtime.begun


def test_put_back_of_what_is_wanted_does_nothing_else() -> None:
    stage = Stage()
    record = stage.slot()
    stage.closer.put_back(record)
    assert list(stage.ledger.idle) == [record]
    assert stage.driver.state(None, None) is CLEAN
    assert stage.driver.steps == []


# Several slots.


def test_close_slots_that_is_cancelled_goes_on_beside_its_caller() -> None:
    stage = Stage()
    records = [stage.slot() for _ in range(3)]
    stage.driver.fail["close"] = Never()
    work = stage.closer.close_slots(records, "overflow")
    begin(work)
    cut_short(work)
    assert [record.connection is None for record in records] == [True, False, False]
    assert stage.ledger.total == 2
    stage.driver.fail.clear()
    assert stage.runtime.run_all() == 2
    assert stage.ledger.total == 0
    assert all(record.connection is None for record in records)
    assert stage.closed == {"overflow": 3}


def test_close_slot_frees_the_slot_even_if_it_is_interrupted() -> None:
    stage = Stage()
    record = stage.slot()
    stage.driver.fail["close"] = Interrupt()
    with pytest.raises(Interrupt):
        drive(stage.closer.close_slot(record, "idle"))
    assert record.connection is None
    assert stage.ledger.total == 0


def test_many_are_closed_some_at_a_time_and_one_that_fails_stops_no_other() -> None:
    stage = Stage(pool_size=40)
    records = [stage.slot() for _ in range(40)]
    stage.driver.fail["close"] = Fault()
    drive(stage.closer.close_at_once(records))
    assert len(stage.runtime.begun) == 16
    assert all(record._ending for record in records)
    stage.runtime.run_all()
    assert all(record.connection is None for record in records)
    assert stage.closed == {"dispose": 40}
    assert stage.ledger.total == 0


def test_one_alone_is_closed_at_once() -> None:
    stage = Stage()
    record = stage.slot()
    drive(stage.closer.close_at_once([record]))
    assert record.connection is None
    assert not stage.runtime.begun


# What a caller leaves.


def test_a_return_goes_on_in_its_thread_and_is_cut_off_when_its_time_is_up() -> None:
    class HangsUp(Driver):
        def terminate(self, connection: Any) -> bool:
            self.steps.append("hang up")
            return True

    stage = Stage(driver=HangsUp(blocking=True))
    record = stage.slot()

    async def work() -> None:
        ended.append(True)

    ended: list[bool] = []
    drive(stage.closer.complete(record, work()))  # the time is up before it has begun
    assert not ended
    begun, cut = stage.runtime.begun
    stage.runtime.begun.clear()
    drive(cut[0])
    assert stage.driver.steps == ["hang up"]
    drive(begun[0])
    assert ended


def test_a_blocking_pool_and_a_native_driver_complete_in_place() -> None:
    async def work() -> None:
        ended.append(True)

    ended: list[bool] = []
    for stage in (Stage(blocking=True, driver=Driver(blocking=True)), Stage()):
        drive(stage.closer.complete(stage.slot(), work()))
        assert ended.pop()
        assert not stage.runtime.begun


def test_the_fake_runtime_cuts_short_as_a_real_one() -> None:
    """A limit ends what never ends, and only that."""
    stage = Stage()

    async def never() -> None:
        try:
            await Never()
        except Cancelled:
            seen.append("cancelled")
            raise

    async def quick() -> None:
        pass

    seen: list[str] = []
    assert drive(stage.runtime.within(1.0, never())) is False
    assert drive(stage.runtime.within(1.0, quick())) is True
    assert seen == ["cancelled"]
