"""What a QueuePool's ledger has to decide, in the simplest words there are."""

from __future__ import annotations

import math
from typing import Any


class QueueModel:
    """Lists in place of deques, and nothing is summed up.

    Attributes:
        idle: the slots that the pool itself has; they go out from the left.
        out: which slot each lease has.
        waiting: the leases that wait, in turn.
        elsewhere: slots that are being connected or closed.
    """

    def __init__(
        self, size: int, overflow: int, max_waiting: int | None, lifo: bool
    ) -> None:
        self.set_size(size, overflow)
        self.max_waiting = max_waiting
        self.lifo = lifo
        self.opened = self.closed = self.suspended = False
        self.generation = 0
        self.idle: list[Any] = []
        self.out: dict[Any, Any] = {}
        self.waiting: list[Any] = []
        self.elsewhere: list[Any] = []

    def set_size(self, size: int, overflow: int) -> None:
        self.keep = size or math.inf
        self.capacity = math.inf if overflow < 0 else self.keep + overflow

    @property
    def total(self) -> int:
        return len(self.idle) + len(self.out) + len(self.elsewhere)

    def answer(self, may_wait: bool) -> str:
        """Tell what a newcomer gets: "idle", "new", "wait", "refused" or "nothing"."""
        if self.closed:
            return "closed"
        if not self.waiting and not self.suspended:
            if self.idle:
                return "idle"
            if self.total < self.capacity and not (self.opened and may_wait):
                return "new"
        if may_wait and self.max_waiting is not None:
            room = self.capacity - self.total if self.opened else 0
            coming = sum(slot.connecting for slot in self.elsewhere)
            if len(self.waiting) - coming - room >= self.max_waiting:
                return "refused"
        return "wait" if may_wait else "nothing"

    def wants(self, slot: Any) -> bool:
        """Tell whether a slot that comes back is kept, or handed on."""
        awaited = bool(self.waiting) and not self.suspended
        return (
            slot.generation == self.generation
            and not self.closed
            and self.total <= self.capacity
            and (awaited or len(self.idle) < self.keep)
            and (slot.connected or not self.opened)
        )

    def put(self, slot: Any) -> None:
        self.idle.insert(0 if self.lifo else len(self.idle), slot)

    def serve(self) -> list[Any]:
        """Give idle slots to those who wait; return who gets a slot yet to be made."""
        unmet: list[Any] = []
        while self.waiting and not self.suspended:
            if self.idle:
                self.out[self.waiting.pop(0)] = self.idle.pop(0)
            elif not self.opened and self.total + len(unmet) < self.capacity:
                unmet.append(self.waiting.pop(0))
            else:
                break
        return unmet
