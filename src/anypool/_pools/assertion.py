"""AssertionPool: one connection, and at most one caller at a time."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypeVar

from .._ledgers.assertion import AssertionLedger
from .._ledgers.ledger import Ledger
from .._ledgers.surroundings import Calls
from .base import Pool

ConnT = TypeVar("ConnT")


class AssertionPool(Pool[ConnT]):
    """Allows one checked out connection at a time, and says who broke that.

    For finding code that uses more connections than it should. A second checkout raises an
    AssertionError that names the file and line of the first.
    """

    __slots__ = ()

    def _new_ledger(self, runtime: Any, calls: Calls, timed: bool) -> Ledger[ConnT]:
        return AssertionLedger(runtime, calls, name=type(self).__name__, timed=timed)
