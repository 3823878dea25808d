"""The ledger of QueuePool alone, beside a model: no runtime, no driver, no connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import anypool
from anypool._ledgers.queue import QueueLedger
from anypool._ledgers.snapshot import snapshot

from ..support.bounds import rounds
from .queue_model import QueueModel
from .surroundings import CALLS, Caller, Owner, Surroundings, connect


class Slot:
    """What the model knows of a slot."""

    def __init__(self, record: Any, generation: int) -> None:
        self.record = record
        self.generation = generation
        self.connecting = False

    @property
    def connected(self) -> bool:
        return self.record.connection is not None


class Play:
    """Takes each step in the ledger and in the model, and compares them."""

    def __init__(self, number: Iterator[int]) -> None:
        self.number = number
        size, overflow = self.pick(5), self.pick(4) - 1
        waiting = None if self.pick(2) else self.pick(4)
        lifo = bool(self.pick(2))
        self.around = Surroundings(blocking=bool(self.pick(2)))
        self.ledger: Any = QueueLedger(
            self.around, CALLS, min_size=0, max_waiting=waiting, use_lifo=lifo
        )
        self.ledger.set_size(size, overflow)
        self.ledger.decide(self.ledger.set_plain, True, True)
        self.model = QueueModel(size, overflow, waiting, lifo)
        self.slots: dict[Any, Slot] = {}
        self.callers = [Caller() for _ in range(4)]
        self.leases: dict[Any, Any] = {}
        self.gates: dict[Any, Any] = {}
        self.steps = 0

    def pick(self, choices: int) -> int:
        return next(self.number) % choices

    def decide(self, decision: Any, *args: Any) -> Any:
        """Have the ledger decide, and take note of the connects that it begins."""
        result = self.ledger.decide(decision, *args)
        while self.ledger.unstarted:
            slot = self.adopt(self.ledger.unstarted.popleft())
            slot.connecting = True
            self.model.elsewhere.append(slot)
        self.ledger.wants_look = False
        return result

    def adopt(self, record: Any) -> Slot:
        slot = self.slots[record] = Slot(record, self.model.generation)
        return slot

    def connect(self, slot: Slot) -> None:
        connect(slot.record, self.ledger.generation)
        slot.generation = self.model.generation

    # The steps.

    def check_out(self) -> None:
        ledger, model = self.ledger, self.model
        may_wait = self.pick(4) > 0
        lease = ledger.leases.new(Owner, ref(self.callers[self.pick(4)]))
        key = lease._ref
        expected = model.answer(may_wait)
        if expected == "closed":
            with pytest.raises(anypool.PoolClosedError):
                self.decide(ledger.admit, lease, may_wait, False)
            return
        if expected == "refused":
            with pytest.raises(anypool.TooManyWaitersError):
                self.decide(ledger.admit, lease, may_wait, False)
            return
        if expected == "idle" and ledger.simple_checkout and self.pick(2):
            ledger.leases.out[key] = ledger.idle.popleft()  # as the quick path does
            waiter: Any = None
        else:
            waiter = self.decide(ledger.admit, lease, may_wait, False)
        if expected == "idle":
            assert waiter is None
            model.out[key] = model.idle.pop(0)
        elif expected == "new":
            assert waiter is None
            model.out[key] = self.adopt(ledger.leases.out[key])
        elif expected == "wait":
            assert waiter is not None
            assert waiter.record is None
            model.waiting.append(key)
            self.gates[key] = waiter.gate
        else:
            assert waiter.record is None
            assert key not in ledger.waiters
            return
        self.leases[key] = lease
        if key in model.out and not model.out[key].connected and self.pick(4):
            self.connect(model.out[key])

    def take_another(self) -> None:
        """A caller found its connection dead, and goes before all others."""
        key = self.one_of(self.model.out)
        if key is None:
            return
        lease, slot = self.leases[key], self.model.out.pop(key)
        del self.ledger.leases.out[key]
        slot.record.connection = None
        self.return_slot(slot)
        model = self.model
        if model.closed:
            return
        waiter = self.decide(self.ledger.claim, lease, True, True)
        if not model.suspended and model.idle:
            assert waiter is None
            model.out[key] = model.idle.pop(0)
        elif not (model.suspended or model.opened) and model.total < model.capacity:
            assert waiter is None
            model.out[key] = self.adopt(self.ledger.leases.out[key])
        else:
            model.waiting.insert(0, key)
            self.gates[key] = waiter.gate

    def give_back(self) -> None:
        key = self.one_of(self.model.out)
        if key is None:
            return
        lease, slot = self.leases.pop(key), self.model.out.pop(key)
        quick = self.ledger.simple_checkin and slot.generation == self.model.generation
        assert self.ledger.end(lease) is slot.record
        how = self.pick(6)
        if how == 0:
            slot.record.connection = None  # invalidated
        elif how > 3 and quick and slot.connected:
            self.ledger.put_idle(slot.record)  # as the quick path does
            self.model.put(slot)
            return
        self.return_slot(slot)

    def return_slot(self, slot: Slot) -> None:
        model, ledger = self.model, self.ledger
        model.elsewhere.append(slot)
        wanted = model.wants(slot)
        assert self.decide(ledger.take_back, slot.record) == wanted
        model.elsewhere.remove(slot)
        if wanted:
            model.put(slot)
            self.serve()
        else:
            model.elsewhere.append(slot)  # it is being closed
            slot.connecting = False

    def detach(self) -> None:
        key = self.one_of(self.model.out)
        if key is None or not self.model.out[key].connected:
            return
        slot = self.model.out.pop(key)
        lease = self.leases.pop(key)
        self.ledger.leases.hand_over(lease, slot.record, False)
        assert self.ledger.leases.detach(lease) is slot.record
        detached = self.ledger.leases.detached[key]
        assert (detached.connection is None, slot.connected) == (False, False)
        assert self.ledger.end(lease) is detached
        detached.connection = None  # closed
        self.return_slot(slot)

    def finish(self) -> None:
        """A connect ends well or badly, or a close does."""
        slots = self.model.elsewhere
        if not slots:
            return
        slot = slots[self.pick(len(slots))]
        growth = self.ledger.growth
        if slot.connecting:
            slots.remove(slot)
            failure = None if self.pick(4) else OSError()
            if failure is None:
                self.connect(slot)
            slot.connecting = False
            slots.append(slot)
            self.decide(growth.connected, self.ledger, slot.record, failure)
            slots.remove(slot)
            self.return_slot(slot)
            self.decide(growth.grow, self.ledger)  # the keeper looks after each connect
        else:
            slot.record.connection = None
            slots.remove(slot)
            del self.slots[slot.record]
            self.decide(self.ledger.forget, slot.record)
            self.serve()

    def leave(self) -> None:
        key = self.one_of(self.model.waiting)
        if key is not None:
            self.model.waiting.remove(key)
            self.decide(self.ledger.withdraw, key)
            assert not self.gates.pop(key).released
            del self.leases[key]

    def suspend(self) -> None:
        self.model.suspended = self.pick(4) == 0
        self.decide(self.ledger.suspend, self.model.suspended)
        self.serve()

    def resize(self) -> None:
        size, overflow = self.pick(5), self.pick(4) - 1
        self.model.set_size(size, overflow)
        self.part_with(self.decide(self.ledger.resize, size, overflow), served=True)

    def tidy(self) -> None:
        self.part_with(self.decide(self.ledger.surplus), served=True)

    def dispose(self) -> None:
        self.model.generation += 1
        self.part_with(self.decide(self.ledger.empty))
        assert not self.model.idle

    def drain(self) -> None:
        self.model.generation += 1
        self.decide(self.ledger.age)

    def open(self) -> None:
        if not self.model.closed:
            self.model.opened = True
            empty = [slot for slot in self.model.idle if not slot.connected]
            self.decide(self.ledger.open)
            for slot in empty:
                self.model.idle.remove(slot)
                del self.slots[slot.record]

    def close(self) -> None:
        if self.pick(128):
            return
        model = self.model
        model.closed, model.opened = True, False
        model.generation += 1
        self.part_with(self.decide(self.ledger.close))
        for key in model.waiting:
            assert self.gates.pop(key).released == 1
            del self.leases[key]
        model.waiting.clear()

    def wait(self) -> None:
        self.around.time += self.pick(100) / 10

    # What comes of them.

    def one_of(self, keys: Any) -> Any:
        return list(keys)[self.pick(len(keys))] if keys else None

    def part_with(self, records: list[Any], served: bool = False) -> None:
        """These are to be closed now."""
        model = self.model
        if served:
            self.serve()
        for record in records:
            slot = self.slots[record]
            model.idle.remove(slot)
            model.elsewhere.append(slot)
        if served:
            assert all(slot.generation == model.generation for slot in model.idle)
            assert len(model.idle) <= model.keep
            kept = model.total - len(records)
            assert kept <= model.capacity or not model.idle
            needless = len(records) and not any(
                slot.generation != model.generation for slot in model.elsewhere
            )
            if needless:
                assert len(model.idle) == model.keep or kept >= model.capacity

    def serve(self) -> None:
        """See who of those who waited has got a slot."""
        before = list(self.model.waiting)
        for key in self.model.serve():
            self.model.out[key] = self.adopt(self.ledger.leases.out[key])
        for key in before:
            if key not in self.model.waiting:
                assert self.gates.pop(key).released == 1

    def compare(self) -> None:
        ledger, model = self.ledger, self.model
        assert list(ledger.idle) == [slot.record for slot in model.idle]
        assert list(ledger.waiters) == model.waiting
        assert ledger.leases.out == {k: slot.record for k, slot in model.out.items()}
        assert ledger.total == model.total, "total"
        assert {reference() for reference in ledger.known} == set(self.slots)
        assert len(ledger.connecting) == sum(s.connecting for s in model.elsewhere)
        calm = not (model.waiting or model.suspended or model.closed)
        assert ledger.simple_checkout == calm
        assert ledger.simple_checkin <= calm
        if ledger.simple_checkin:
            assert model.total <= model.keep
        if model.waiting and not model.suspended:
            assert not model.idle, "somebody waits beside an idle slot"
            if (
                model.opened
                and model.total < model.capacity
                and not (ledger.growth.backoff.error)
            ):
                assert ledger.connecting, "somebody waits, and nothing is begun"
        stats = snapshot(ledger)
        assert (stats.idle, stats.waiting) == (len(model.idle), len(model.waiting))


STEPS = (
    *[Play.check_out] * 12,
    *[Play.give_back] * 10,
    *[Play.finish] * 8,
    *[Play.leave, Play.take_another] * 2,
    *(Play.detach, Play.suspend, Play.resize, Play.tidy, Play.dispose, Play.drain),
    *(Play.open, Play.close, Play.wait),
)


@settings(max_examples=rounds(100, 3000), deadline=None)
@given(st.binary(min_size=2000, max_size=2000), st.integers(20, 2000))
def test_ledger_does_what_the_model_does(script: bytes, length: int) -> None:
    """Each two or three bytes are a step: tens of thousands of steps a second."""
    numbers = iter(script[:length])
    try:
        play = Play(numbers)
        while True:
            STEPS[play.pick(len(STEPS))](play)
            play.compare()
    except StopIteration:
        return
