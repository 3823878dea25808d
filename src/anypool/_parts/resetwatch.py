"""ResetWatch: no return of an async pool goes on for ever."""

from __future__ import annotations

import weakref
from typing import Any, Final, Protocol

from .._core.record import ConnectionRecord
from .._ledgers.ledger import Ledger

OVERDUE: Final = object()
"""Takes the place of a record's task whose reset is being given up."""


class Watched(Protocol):
    """Whose resets are watched."""

    watches_resets: bool

    @property
    def ledger(self) -> Ledger[Any]: ...


class ResetWatch:
    """Has resets given up that go on for longer than a return may take.

    A deadline for each reset costs 8 to 10 µs (anyio.move_on_after, CPython 3.11), where
    the whole cycle takes 3. So the quick path only leaves its task in the record. While
    there are any, a timer looks every few seconds: what it sees for the second time is
    overdue. So a reset is given up after one to two times RETURN_TIMEOUT.
    """

    def __init__(self, path: Watched, runtime: Any, seconds: float) -> None:
        self._path = weakref.ref(path)
        self._runtime = runtime
        self._seconds = seconds
        # With each slot how often it had been checked out by then.
        self._seen: dict[ConnectionRecord[Any], int] = {}

    def begin(self) -> None:
        """Look from now on, until there is nothing to be seen."""
        path = self._path()
        if path is not None:
            path.watches_resets = True
            self._runtime.later(self._seconds, self._look)

    def _look(self) -> None:
        path = self._path()
        if path is None:
            return
        under_way: dict[ConnectionRecord[Any], int] = {}
        for record in path.ledger.known_records():
            caller = record._resetting
            if caller is None or caller is OVERDUE:
                continue
            under_way[record] = record._checkouts
            if self._seen.get(record) == record._checkouts:
                record._resetting = OVERDUE
                self._runtime.cancel(caller)
        self._seen = under_way
        if under_way:
            self._runtime.later(self._seconds, self._look)
        else:
            path.watches_resets = False
