"""Compares two results, so that no slowdown goes unseen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from .result import Result, Row

NOTABLE = 0.10
"""A change below this share is noise on any machine."""


@dataclass(frozen=True)
class Change:
    """What became of one of our figures.

    Attributes:
        before: The row in the earlier result.
        after: The row in the later one.
        share: How much slower it became: 0.1 is 10 %.
        noise: The share up to which that means nothing.
    """

    before: Row
    after: Row
    share: float
    noise: float

    @property
    def slower(self) -> bool:
        """Whether it became slower by more than noise explains."""
        return self.share > self.noise

    def __str__(self) -> str:
        row = self.after
        mark = "SLOWER" if self.slower else "faster" if self.share < -self.noise else ""
        return (
            f"{self.share:+8.1%}  {self.before.median:10.2f} -> {row.median:10.2f} "
            f"{row.unit:<5} {row.case} ({row.where}), {row.peer}  {mark}"
        ).rstrip()


def changes(before: Result, after: Result) -> list[Change]:
    """Compare what both results have of anypool's figures; the worst first."""
    found = []
    for old in before.rows:
        new = after.find(*old.key)
        if old.ours and new is not None:
            share = new.median / old.median / _mood(old, before, after) - 1
            noise = NOTABLE + _spread(old) + _spread(new)
            found.append(Change(old, new, share, noise))
    return sorted(found, key=lambda change: change.share, reverse=True)


def lines(before: Result, after: Result) -> Iterator[str]:
    """Yield the comparison as text."""
    yield f"before: {before.machine['interpreter']}, after: {after.machine['interpreter']}"
    for change in changes(before, after):
        yield str(change)
    for old in before.rows:
        if old.ours and after.find(*old.key) is None:
            yield f"    gone  {old.case} ({old.where}), {old.peer}"


def _mood(row: Row, before: Result, after: Result) -> float:
    """Return how much slower the machine was: by the peers that ran in the same case."""
    factors = []
    for old in before.rows:
        new = after.find(*old.key)
        if (old.case, old.where) == (row.case, row.where) and not old.ours and new:
            factors.append(new.median / old.median)
    return median(factors) if factors else 1.0


def _spread(row: Row) -> float:
    return (row.high - row.low) / row.median / 2
