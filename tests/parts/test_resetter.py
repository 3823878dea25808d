"""The resetter alone: every state that a connection can be in, in every mode."""

from __future__ import annotations

from typing import Any
from weakref import ref

import pytest

from anypool._core.driver import (
    BUSY,
    CHANGED,
    CLEAN,
    CLOSED,
    OPEN,
    TWO_PHASE,
    CannotReset,
)
from anypool._ledgers.static import StaticLedger
from anypool._parts.resetter import Resetter
from anypool._parts.sharing import SharedCloser, SharedResetter

from .stage import ConnectTold, Driver, Fault, Interrupt, Stage, drive
from .surroundings import Caller, Owner

GONE = ["close"]
STUCK = ["interrupt", "close"]
TOLD = "connect listener"

# What it was in, and after it was interrupted; whether its caller was cut short; what is
# done to it without a reset, in "rollback", and in "full".
TABLE: list[tuple[list[Any], bool, list[str], list[str], list[str]]] = [
    ([CLEAN], False, [], [], ["reset full", "restore", TOLD]),
    ([OPEN], False, [], ["reset rollback"], ["reset full", "restore", TOLD]),
    ([TWO_PHASE], False, [], ["reset rollback"], ["reset full", "restore", TOLD]),
    (
        [CHANGED],
        False,
        [],
        ["reset rollback", "restore"],
        ["reset full", "restore", TOLD],
    ),
    ([CLOSED], False, GONE, GONE, GONE),
    (
        [BUSY, OPEN],
        False,
        ["interrupt"],
        ["interrupt", "reset rollback"],
        ["interrupt", "reset full", "restore", TOLD],
    ),
    (
        [BUSY, CHANGED],
        False,
        ["interrupt"],
        ["interrupt", "reset rollback", "restore"],
        ["interrupt", "reset full", "restore", TOLD],
    ),
    (
        [BUSY, CLEAN],
        False,
        ["interrupt"],
        ["interrupt"],
        ["interrupt", "reset full", "restore", TOLD],
    ),
    ([BUSY, BUSY], False, STUCK, STUCK, STUCK),
    ([BUSY, CLOSED], False, STUCK, STUCK, STUCK),
    # Whose caller was cut short is never taken for clean; without a reset, only what is
    # seen to be under way counts.
    (
        [CLEAN, CLEAN],
        True,
        [],
        ["interrupt", "reset rollback"],
        ["interrupt", "reset full", "restore", TOLD],
    ),
    (
        [OPEN, OPEN],
        True,
        [],
        ["interrupt", "reset rollback"],
        ["interrupt", "reset full", "restore", TOLD],
    ),
    ([CLOSED], True, GONE, GONE, GONE),
]


def _made(mode: Any, driver: Driver) -> tuple[Stage, Any, Any]:
    stage = Stage(driver=driver, listeners=[ConnectTold(driver.steps)])
    resetter: Any = Resetter(stage.runtime, stage.announcer, stage.closer, mode)
    record = stage.slot()
    driver.steps.clear()
    stage.runtime.in_threads.clear()
    return stage, resetter, record


@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("row", range(len(TABLE)))
@pytest.mark.parametrize("mode", [None, "rollback", "commit", "full"])
def test_what_is_done(mode: Any, row: int, blocking: bool) -> None:
    states, hurried, untouched, rolled_back, full = TABLE[row]
    driver = Driver(blocking=blocking)
    stage, resetter, record = _made(mode, driver)
    driver.states.extend(states)
    drive(resetter.make_quiet(record, hurried))
    committed = [step.replace("rollback", "commit") for step in rolled_back]
    expected = {None: untouched, "rollback": rolled_back, "commit": committed, "full": full}
    assert driver.steps == expected[mode]
    gone = "close" in driver.steps
    assert (record.connection is None) == gone
    assert stage.closed == ({"reset": 1} if gone else {})
    # Whatever may wait is done in a thread, where the driver blocks.
    assert len(stage.runtime.in_threads) == blocking * len(driver.steps)


@pytest.mark.parametrize("fault", [Fault(), CannotReset()])
@pytest.mark.parametrize(
    ("step", "states"),
    [
        ("interrupt", [BUSY]),
        ("reset full", [OPEN]),
        ("restore", [CHANGED]),
        (TOLD, [CLEAN]),
    ],
)
def test_what_can_not_be_made_quiet_is_closed(
    step: str, states: list[Any], fault: Exception
) -> None:
    driver = Driver()
    stage, resetter, record = _made("full", driver)
    driver.states.extend(states)
    if step == TOLD:
        stage.announcer.listeners.on_connect[0].fail[TOLD] = fault  # type: ignore[attr-defined]
    driver.fail[step] = fault
    drive(resetter.make_quiet(record, False))
    assert driver.steps[-2:] == [step, "close"]
    assert record.connection is None
    assert stage.closed == {"reset": 1}


def test_an_interrupt_is_not_the_resetters_business() -> None:
    driver = Driver()
    stage, resetter, record = _made("rollback", driver)
    driver.states.append(OPEN)
    driver.fail["reset rollback"] = Interrupt()
    with pytest.raises(Interrupt):
        drive(resetter.make_quiet(record, False))
    assert record.connection is not None
    assert stage.closed == {}


@pytest.mark.parametrize("after", [BUSY, CHANGED, CLOSED, TWO_PHASE])
def test_a_reset_that_leaves_something_behind_was_none(after: Any) -> None:
    driver = Driver()
    stage, resetter, record = _made("rollback", driver)
    driver.states.extend([OPEN, after])
    drive(resetter.make_quiet(record, False))
    assert driver.steps == ["reset rollback", "close"]
    assert stage.closed == {"reset": 1}


def test_what_its_caller_has_closed_is_not_reset() -> None:
    driver = Driver()
    _, resetter, record = _made("rollback", driver)
    driver.states.append(OPEN)
    driver.opened = False
    drive(resetter.make_quiet(record, False))
    assert driver.steps == ["close"]


def test_an_empty_slot_is_quiet() -> None:
    driver = Driver()
    stage, resetter, _ = _made("full", driver)
    drive(resetter.make_quiet(stage.slot(connected=False), True))
    assert driver.steps == []


@pytest.mark.parametrize(
    ("others", "state", "left"),
    [
        ("have it", BUSY, True),
        ("are just coming", BUSY, False),
        ("none", BUSY, False),
        ("have it", OPEN, False),
    ],
)
def test_nothing_of_another_caller_is_interrupted(
    others: str, state: Any, left: bool
) -> None:
    driver = Driver()
    stage = Stage(driver=driver, closer=SharedCloser, ledger=StaticLedger)
    resetter: Any = SharedResetter(stage.runtime, stage.announcer, stage.closer, "rollback")
    record = stage.ledger.new_record()
    drive(stage.connector.connect(record))
    record._users = 1  # who returns it
    lease = stage.ledger.leases.new(Owner(), ref(Caller()))
    if others != "none":
        stage.ledger.share(lease, record)
    if others == "have it":
        stage.ledger.leases.hand_over(lease, record, False)
    driver.states.extend([state] * (1 + (record._users > 1)))
    drive(resetter.make_quiet(record, False))
    assert (driver.steps == []) == left
