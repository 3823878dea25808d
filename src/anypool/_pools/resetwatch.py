"""ResetWatch: no return of an async pool goes on for ever."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .quickpath import QuickPath

OVERDUE: Final = object()
"""Takes the place of a record's reset that is being given up."""


class ResetWatch:
    """Has resets given up that go on for longer than a return may take.

    A deadline for each reset costs 8 to 10 µs (anyio.move_on_after, CPython 3.11), where
    the whole cycle takes 3. So the quick path only leaves the reset in its record. While
    there are any, a timer looks every few seconds: what it sees for the second time is
    overdue. So a reset is given up after one to two times RETURN_TIMEOUT.
    """

    def __init__(self, pool: QuickPath[Any], seconds: float) -> None:
        self._pool = weakref.ref(pool)
        self._seconds = seconds
        self._seen: set[Any] = set()

    def begin(self) -> None:
        """Look from now on, until there is nothing to be seen."""
        pool = self._pool()
        if pool is not None:
            pool._watches_resets = True
            pool._runtime.later(self._seconds, self._look)

    def _look(self) -> None:
        pool = self._pool()
        if pool is None:
            return
        under_way = set()
        for record in pool._known_records():
            reset = record._resetting
            if reset in self._seen:
                record._resetting = OVERDUE
                pool._runtime.cancel_waiter(reset)
            elif reset is not None:
                under_way.add(reset)
        self._seen = under_way
        if under_way:
            pool._runtime.later(self._seconds, self._look)
        else:
            pool._watches_resets = False
