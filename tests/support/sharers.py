"""A reference model of the pools whose connections several callers may have at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

from .callers import Lease, Model, Slot


@dataclass
class SharedModel(Model):
    """StaticPool, or with a limit SingletonTaskPool.

    What one caller does to a connection that others have as well is not modelled: it ends
    a lease only when it is the last.

    Attributes:
        limit: how many callers' connections are kept; None: there is one for all.
        kept: the pool's slots, by their callers.
    """

    limit: int | None = None
    kept: dict[int, Slot] = field(default_factory=dict)

    def dispose(self) -> None:
        if self.limit is None:
            self.epoch += 1
        kept, self.kept = self.kept, {}
        for slot in kept.values():
            if not slot.users:
                self._close(slot, "dispose")

    def size(self) -> int:
        return len({*self._slots(), *(lease.slot for lease in self.out)})

    def spare(self) -> int:
        return sum(not slot.users for slot in self._slots())

    def _admit(self, lease: Lease, patience: bool) -> None:
        self._prepare(lease, self._slot_of(lease.caller))

    def _slots(self) -> list[Slot]:
        return [slot for slot in self.kept.values() if slot.connection is not None]

    def _slot_of(self, caller: int) -> Slot:
        key = 0 if self.limit is None else caller
        if key not in self.kept:
            if self.limit is not None:
                self._make_room(self.limit)
            self.kept[key] = Slot(self.epoch)
        return self.kept[key]

    def _make_room(self, limit: int) -> None:
        for caller, slot in list(self.kept.items()):
            if len(self.kept) >= limit and not slot.users:
                del self.kept[caller]
                self._close(slot, "overflow")

    def _prepare(self, lease: Lease, slot: Slot) -> None:
        slot.users += 1
        if slot.users == 1:
            self._part_with_unfit(slot)
        self._equip(lease, slot)

    def _discard(self, slot: Slot, reason: str) -> None:
        self._close(slot, reason)  # slots are not counted here, and nobody waits for one

    def _release(self, slot: Slot) -> None:
        slot.users -= 1
        if not slot.users and (self.closed or slot not in self.kept.values()):
            self._close(slot, "overflow" if slot.epoch == self.epoch else "dispose")
