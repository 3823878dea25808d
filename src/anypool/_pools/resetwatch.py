"""ResetWatch: no return of an async pool goes on for ever."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from .._core.record import ConnectionRecord

if TYPE_CHECKING:
    from .quickpath import QuickPath

OVERDUE: Final = object()
"""Takes the place of a record's task whose reset is being given up."""


class ResetWatch:
    """Has resets given up that go on for longer than a return may take.

    A deadline for each reset costs 8 to 10 µs (anyio.move_on_after, CPython 3.11), where
    the whole cycle takes 3. So the quick path only leaves its task in the record. While
    there are any, a timer looks every few seconds: what it sees for the second time is
    overdue. So a reset is given up after one to two times RETURN_TIMEOUT.
    """

    def __init__(self, pool: QuickPath[Any], seconds: float) -> None:
        self._pool = weakref.ref(pool)
        self._seconds = seconds
        # With each slot how often it had been checked out by then.
        self._seen: dict[ConnectionRecord[Any], int] = {}

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
        under_way: dict[ConnectionRecord[Any], int] = {}
        for record in pool._known_records():
            caller = record._resetting
            if caller is None or caller is OVERDUE:
                continue
            under_way[record] = record._checkouts
            if self._seen.get(record) == record._checkouts:
                record._resetting = OVERDUE
                pool._runtime.cancel(caller)
        self._seen = under_way
        if under_way:
            pool._runtime.later(self._seconds, self._look)
        else:
            pool._watches_resets = False
