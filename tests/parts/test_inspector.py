"""The inspector alone: age, generation and pings, on a clock that is driven."""

from __future__ import annotations

import gc
import math
from typing import Any
from weakref import ref

import anyio
import pytest

from anypool._parts.inspector import FRESH, Inspector, QueueInspector
from anypool._parts.sharing import SharedInspector

from .stage import (
    Cancelled,
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
def _own_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anyio, "get_cancelled_exc_class", lambda: Cancelled)


# What is wrong with it; whether it is ready, stale, and what close_unfit() does to it.
TABLE: dict[str, tuple[bool, bool, list[str]]] = {
    "nothing": (True, False, []),
    "empty": (False, False, []),
    "an older generation": (False, True, ["close"]),
    "too old": (False, True, ["close"]),
    "just old enough": (True, False, []),
    "has idled": (False, False, ["ping"]),
    "has idled, but was pinged": (False, False, []),
    "dead": (False, False, ["ping", "close"]),
}


def _spoil(stage: Stage, record: Any, how: str) -> None:
    now = stage.runtime.time = 1000.0
    record._since = record._pinged_at = now - 1.0
    record._expires_at = now + 1.0
    match how:
        case "empty":
            record.connection = None
        case "an older generation":
            record._generation -= 1
        case "too old":
            record._expires_at = now - 0.1
        case "just old enough":
            record._expires_at = now
        case "has idled" | "dead":
            record._since = record._pinged_at = now - 100.1
        case "has idled, but was pinged":
            record._since = now - 100.1
    if how == "dead":
        stage.driver.fail["ping"] = Fault()


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("kind", [Inspector, QueueInspector])
@pytest.mark.parametrize("how", TABLE)
def test_what_is_seen_and_done(how: str, kind: Any, blocking: bool) -> None:
    ready, stale, steps = TABLE[how]
    stage = Stage(inspector=kind, blocking=blocking, driver=Driver(blocking=blocking))
    record = stage.slot()
    record_since = record._since
    _spoil(stage, record, how)
    since, empty = record._since, record.connection is None
    assert stage.inspector.is_ready(record) == ready
    # Only where it is ready it is out from now on.
    assert record._since == (1000.0 if ready else since) != record_since
    record._since = since
    assert stage.inspector.is_stale(record) == stale
    drive(stage.inspector.close_unfit(record))
    assert stage.driver.steps == steps
    assert (record.connection is None) == ("close" in steps or empty)
    assert record._since == 1000.0
    reasons = {"dead": {"ping": 1}} | {
        why: {"recycle": 1} for why in ("an older generation", "too old")
    }
    assert stage.closed == reasons.get(how, {})
    if how == "has idled":
        assert record._pinged_at == 1000.0


def test_where_nothing_is_timed_only_the_generation_counts() -> None:
    stage = Stage(timed=False, ping_after=math.inf)
    record = stage.slot()
    record._since = -1.0
    stage.pass_time(1000.0)
    assert stage.inspector.is_ready(record)
    assert record._since == -1.0
    record._generation -= 1
    assert not stage.inspector.is_ready(record)


def test_a_new_connection_that_nobody_had_yet_is_fresh_for_a_moment() -> None:
    stage = Stage(ping_after=-1.0, pool_size=5)
    record = stage.slot()
    stage.pass_time(FRESH / 2)
    assert stage.inspector.is_fresh(record)
    assert record._since == stage.runtime.time  # it is out now
    assert not stage.inspector.is_fresh(record)  # and somebody has had it
    for spoil in ("late", "older", "empty"):
        record = stage.slot()
        if spoil == "late":
            stage.pass_time(FRESH)
        elif spoil == "older":
            record._generation -= 1
        else:
            record.connection = None
        assert not stage.inspector.is_fresh(record), spoil


# Pings.


@pytest.mark.parametrize("kind", [Inspector, QueueInspector])
def test_a_ping_without_an_answer_ends_the_connection(kind: Any) -> None:
    stage = Stage(inspector=kind)
    record = stage.slot()
    stage.driver.fail["ping"] = Never()
    drive(stage.inspector.keep_if_alive(record))
    assert stage.runtime.limits[0] == 5.0
    assert record.connection is None
    assert stage.closed == {"ping": 1}
    assert stage.driver.steps == ["ping", "close"]


def test_a_dead_connection_that_can_not_be_closed_either_is_given_up() -> None:
    stage = Stage()
    record = stage.slot()
    stage.driver.fail |= {"ping": Fault(), "close": Never()}
    drive(stage.inspector.keep_if_alive(record))
    assert record.connection is None
    assert stage.driver.steps == ["ping", "close", "terminate"]
    assert stage.closed == {"ping": 1}


@pytest.mark.parametrize("fault", [Interrupt(), Never()])
def test_who_is_cut_short_has_to_drop_the_slot(fault: Any) -> None:
    stage = Stage()
    record = stage.slot()
    stage.driver.fail["ping"] = fault
    before = record._pinged_at
    stage.pass_time(1.0)
    if isinstance(fault, Interrupt):
        with pytest.raises(Interrupt):
            drive(stage.inspector.keep_if_alive(record))
    else:
        work = stage.inspector._ping(record)
        # The fake's limit would cut it short by itself: here it is its caller who is.
        stage.runtime.within = lambda _, ping: ping  # type: ignore[method-assign, assignment]
        begin(work)
        cut_short(work)
    assert record.connection is not None
    assert record._pinged_at == before


@pytest.mark.parametrize("kind", [Inspector, QueueInspector])
def test_a_ping_that_is_stuck_in_a_thread_is_left_to_it(kind: Any) -> None:
    stage = Stage(inspector=kind, driver=Driver(blocking=True))
    record = stage.slot()
    out = stage.ledger.leases.out
    out["somebody"] = record
    drive(stage.inspector.keep_if_alive(record))  # the time is up before the thread is done
    assert stage.runtime.limits[0] == 5.0
    assert stage.driver.steps == []
    if kind is QueueInspector:
        # With the slot: as long as this connection is there, no other takes its place.
        assert stage.inspector.is_left(record)
        assert list(out.values()) == [record]
        assert "somebody" not in out
        assert stage.ledger.total == 1
    else:
        assert record.connection is None
        assert out == {"somebody": record}
    stage.runtime.run_all()
    assert stage.driver.steps == ["ping", "close"]
    assert stage.closed == {"ping": 1}
    assert record.connection is None
    assert stage.ledger.total == (kind is Inspector)
    assert ("somebody" in out) == (kind is Inspector)


def test_what_was_left_to_a_thread_is_freed_by_counting_references_alone() -> None:
    stage = Stage(driver=Driver(blocking=True))
    record = stage.slot()
    drive(stage.inspector.keep_if_alive(record))
    stage.runtime.run_all()
    look = ref(record)
    gc.disable()
    try:
        del record
        assert look() is None
    finally:
        gc.enable()


def test_a_ping_in_a_thread_that_is_answered_is_one() -> None:
    stage = Stage(driver=Driver(blocking=True))
    stage.runtime.within = lambda _, work: _true_after(work)  # type: ignore[method-assign, assignment]
    record = stage.slot()
    stage.pass_time(3.0)
    work = stage.inspector.keep_if_alive(record)
    begin(work)
    stage.runtime.run_all()
    drive(work)
    assert record._pinged_at == 3.0
    assert record.connection is not None
    assert stage.driver.steps == ["ping"]


async def _true_after(work: Any) -> bool:
    await work
    return True


# Shared slots.


@pytest.mark.parametrize("how", ["an older generation", "too old", "has idled"])
@pytest.mark.parametrize("users", [1, 2])
def test_what_somebody_else_has_is_left_alone(how: str, users: int) -> None:
    stage = Stage(inspector=SharedInspector)
    record = stage.slot()
    _spoil(stage, record, how)
    record._users = users
    drive(stage.inspector.close_unfit(record))
    assert stage.driver.steps == (TABLE[how][2] if users == 1 else [])
