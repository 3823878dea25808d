"""The ledgers of the other pools alone, each beside a model of a few lines."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import anypool
from anypool._ledgers.assertion import AssertionLedger
from anypool._ledgers.ledger import Ledger
from anypool._ledgers.null import NullLedger
from anypool._ledgers.singleton import SingletonLedger
from anypool._ledgers.snapshot import snapshot
from anypool._ledgers.static import StaticLedger

from ..support.bounds import rounds
from .surroundings import CALLS, Caller, Owner, Surroundings, connect

SIZE = 2


class Play:
    """Takes each step in a ledger, and says beforehand what comes of it.

    Attributes:
        home: what the pool keeps: for each key, a slot. The key is None, or the caller.
        users: how many have each slot.
    """

    def __init__(self, kind: str, number: Iterator[int]) -> None:
        self.kind = kind
        self.number = number
        self.ledger: Any = self.make(Surroundings(blocking=bool(self.pick(2))))
        self.callers = [Caller() for _ in range(4)]
        self.leases: dict[Any, Any] = {}
        self.home: dict[Any, Any] = {}
        self.users: dict[Any, int] = {}
        self.closing: list[Any] = []

    def make(self, around: Surroundings) -> Ledger[Any]:
        if self.kind == "Null":
            return NullLedger(around, CALLS)
        if self.kind == "Assertion":
            return AssertionLedger(around, CALLS)
        if self.kind == "Static":
            return StaticLedger(around, CALLS)
        return SingletonLedger(around, CALLS, size=SIZE, on_death=lambda _: None)

    def pick(self, choices: int) -> int:
        return next(self.number) % choices

    def key(self, caller: Caller) -> Any:
        return ref(caller) if self.kind == "Singleton" else None

    def check_out(self) -> None:
        ledger = self.ledger
        caller = self.callers[self.pick(4)]
        lease = ledger.leases.new(Owner, ref(caller))
        if ledger.closed:
            with pytest.raises(anypool.PoolClosedError):
                ledger.decide(ledger.admit, lease, True, False)
            return
        if self.kind == "Assertion" and (self.leases or self.closing):
            with pytest.raises(AssertionError, match="is out already"):
                ledger.decide(ledger.admit, lease, True, False)
            return
        assert ledger.decide(ledger.admit, lease, True, False) is None
        record = ledger.leases.out[lease._ref]
        if self.kind == "Null":
            assert record not in self.users
        else:
            self.make_room(self.key(caller))
            assert self.home.setdefault(self.key(caller), record) is record
        self.users[record] = self.users.get(record, 0) + 1
        self.leases[lease._ref] = lease
        if record.connection is None:
            connect(record, ledger.generation)

    def make_room(self, key: Any) -> None:
        """A new caller of a SingletonTaskPool may cost others what they don't use."""
        if self.kind != "Singleton" or key in self.home:
            return
        evicted = self.ledger.decide(self.ledger.take_evicted)
        for caller, record in list(self.home.items()):
            if len(self.home) >= SIZE and not self.users.get(record):
                assert record in evicted
                del self.home[caller]
                self.closing.append(record)

    def give_back(self) -> None:
        ledger = self.ledger
        if not self.leases:
            return
        key = list(self.leases)[self.pick(len(self.leases))]
        record = ledger.end(self.leases.pop(key))
        self.users[record] -= 1
        kept = record in self.home.values() and not ledger.closed
        if self.kind == "Assertion":
            kept = kept and record._generation == ledger.generation
        shared = self.users[record] > 0
        assert ledger.decide(ledger.take_back, record) == (kept or shared)
        if not (kept or shared):
            self.home = {k: each for k, each in self.home.items() if each is not record}
            self.closing.append(record)

    def finish(self) -> None:
        if self.closing:
            record = self.closing.pop(self.pick(len(self.closing)))
            record.connection = None
            self.ledger.decide(self.ledger.forget, record)

    def dispose(self) -> None:
        self.part_with(self.ledger.decide(self.ledger.empty))

    def drain(self) -> None:
        self.ledger.decide(self.ledger.age)

    def close(self) -> None:
        if self.pick(32) == 0:
            self.part_with(self.ledger.decide(self.ledger.close))

    def part_with(self, records: list[Any]) -> None:
        idle = {each for each in self.home.values() if not self.users.get(each)}
        # Those that nobody has used yet are not known here.
        assert idle <= set(records)
        assert not any(self.users.get(record) for record in records)
        self.home.clear()
        self.closing += records

    def compare(self) -> None:
        ledger = self.ledger
        out = ledger.leases.out
        assert set(out) == set(self.leases)
        count = dict.fromkeys(self.users, 0)
        for record in out.values():
            count[record] += 1
        assert count == self.users
        known = set(ledger.known_records())
        assert known >= {*out.values(), *self.home.values(), *self.closing}
        assert {each for each in known if each.connection is not None} == {
            each
            for each in {*out.values(), *self.home.values(), *self.closing}
            if each.connection is not None
        }
        if self.kind == "Assertion":
            assert len(out) <= 1
            assert sum(record.connection is not None for record in known) <= 1
        assert snapshot(ledger).checked_out == len(out)


STEPS = (
    *[Play.check_out] * 5,
    *[Play.give_back] * 5,
    *[Play.finish] * 3,
    *(Play.dispose, Play.drain, Play.close),
)


@pytest.mark.parametrize("kind", ["Null", "Assertion", "Static", "Singleton"])
@settings(max_examples=rounds(50, 1000), deadline=None)
@given(st.binary(min_size=2000, max_size=2000), st.integers(20, 2000))
def test_ledger_does_what_was_said_before(kind: str, script: bytes, length: int) -> None:
    numbers = iter(script[:length])
    try:
        play = Play(kind, numbers)
        while True:
            STEPS[play.pick(len(STEPS))](play)
            play.compare()
    except StopIteration:
        return


def test_caller_who_has_died_leaves_its_slot() -> None:
    died: list[Any] = []
    ledger: Any = SingletonLedger(Surroundings(), CALLS, size=SIZE, on_death=died.append)
    caller = Caller()
    lease = ledger.leases.new(Owner, ref(caller))
    ledger.claim(lease, True, False)
    record = ledger.leases.out[lease._ref]
    ledger.take_back(ledger.end(lease))
    del caller
    gc.collect()
    assert ledger.forget_caller(died[0]) == [record]
    assert not ledger.kept
