"""Deadlines: the timeouts of many waits, with few timers of the event loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextvars import Context
from typing import Final, Protocol

FEW: Final = 10
"""So many different timeouts keep their timers; of more, those in use."""


class Released(Protocol):
    """What is to be released when its time is over: a gate."""

    def release(self) -> None: ...


class Deadlines:
    """Releases what has waited too long.

    Waits with the same timeout end in the order in which they began, so one timer does for
    all of them. Measured on CPython 3.11 with 36 tasks waiting: a timer for each wait takes
    5.5 µs, most of it in the loop's heap; an entry here 1 µs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._now = loop.time
        self._ends: dict[float, OrderedDict[Released, float]] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}

    def add(self, gate: Released, timeout: float) -> None:
        """Release this gate when so many seconds have passed."""
        ends = self._ends.get(timeout)
        if ends is None:
            ends = self._ends[timeout] = OrderedDict()
            self._set_timer(timeout, timeout)
        ends[gate] = self._now() + timeout

    def remove(self, gate: Released, timeout: float) -> None:
        """Its wait, which had this timeout, is over."""
        ends = self._ends.get(timeout)
        if ends is not None:
            ends.pop(gate, None)
            if not ends and len(self._ends) > FEW:
                del self._ends[timeout]
                self._timers.pop(timeout).cancel()

    def _set_timer(self, timeout: float, seconds: float) -> None:
        self._timers[timeout] = self._loop.call_later(
            seconds, self._ring, timeout, context=Context()
        )

    def _ring(self, timeout: float) -> None:
        # The timer was for the first wait; it may be over, and a later one the first now.
        ends, now = self._ends[timeout], self._now()
        while ends:
            gate, end = next(iter(ends.items()))
            if end > now:
                self._set_timer(timeout, end - now)
                return
            del ends[gate]
            gate.release()
        del self._ends[timeout], self._timers[timeout]
