"""Tally: what one teller has done."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

from .fate import Fate


def _seconds() -> array[float]:
    return array("d")


@dataclass
class Tally:
    """What one teller has done. Nobody else writes to it, so it needs no lock."""

    fates: Counter[Fate] = field(default_factory=Counter)
    """How many transfers ended how."""
    waits: array[float] = field(default_factory=_seconds)
    """Seconds that each checkout took."""
    transfers: array[float] = field(default_factory=_seconds)
    """Seconds that each completed transfer took, its checkout included."""

    @property
    def completed(self) -> int:
        """How many transfers were completed."""
        return self.fates[Fate.COMPLETED]

    def note(self, fate: Fate, seconds: float) -> None:
        """Note how a transfer ended, and how many seconds it took."""
        self.fates[fate] += 1
        if fate is Fate.COMPLETED:
            self.transfers.append(seconds)
