"""Waits: how long callers waited for a connection, and who overtook whom."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import count
from time import perf_counter

from .measure import percentile


class Waits:
    """Notes every checkout's beginning and end.

    Args:
        tolerance: how many later callers may be served first before that counts as
            overtaking. In an event loop 0; with threads as many as run at a time, since a
            thread that was served may be slow to notice.
    """

    def __init__(self, tolerance: int = 0) -> None:
        self._tolerance = tolerance
        self._arrivals = count()
        self._served: list[int] = []
        self._seconds: list[float] = []

    def arrive(self) -> tuple[int, float]:
        """Note that a caller asks for a connection now."""
        return next(self._arrivals), perf_counter()

    def served(self, arrival: tuple[int, float]) -> None:
        """Note that it has one now."""
        self._seconds.append(perf_counter() - arrival[1])
        self._served.append(arrival[0])

    def details(self) -> dict[str, float]:
        """Return the figures: waits in µs, the share of overtaken callers in per cent."""
        return {
            "wait p50 µs": percentile(self._seconds, 0.5) * 1e6,
            "wait p99 µs": percentile(self._seconds, 0.99) * 1e6,
            "overtaken %": 100 * self._overtaken() / max(1, len(self._served)),
        }

    def _overtaken(self) -> int:
        before: list[int] = []
        overtaken = 0
        for arrival in self._served:
            later_ones_first = len(before) - bisect_left(before, arrival)
            overtaken += later_ones_first > self._tolerance
            insort(before, arrival)
        return overtaken
