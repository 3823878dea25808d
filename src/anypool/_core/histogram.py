"""Histogram: how long things took, in fixed buckets."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

BOUNDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Seconds; each bucket holds what took at most so long, and longer than the one before."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """A snapshot. What took longer than the last of `bounds` is in one more bucket.

    Attributes:
        bounds: The buckets' upper bounds, in seconds.
        counts: How many there are in each; one more than bounds.
        total: Their sum, in seconds.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many there are in all."""
        return sum(self.counts)

    def percentile(self, percent: float) -> float | None:
        """Return the seconds that so many percent took at most, as far as buckets tell.

        Returns:
            The upper bound of a bucket; infinity beyond the last; None if there are none.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"percent: expected 0 to 100, not {percent}")
        if not self.count:
            return None
        rank = self.count * percent / 100
        for bound, below in zip(self.bounds, accumulate(self.counts), strict=False):
            if below and below >= rank:
                return bound
        return float("inf")

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values, for JSON."""
        return {
            "bounds": list(self.bounds),
            "counts": list(self.counts),
            "total": self.total,
        }


class Tally:
    """Counts times as they come."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def merge(self, other: Tally) -> None:
        """Add what another has counted."""
        for index, count in enumerate(other._counts):
            self._counts[index] += count
        self.total += other.total

    def snapshot(self) -> Histogram:
        return Histogram(BOUNDS, tuple(self._counts), self.total)
