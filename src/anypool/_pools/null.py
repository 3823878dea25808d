"""NullPool: no pooling."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypeVar

from .._ledgers.ledger import Ledger
from .._ledgers.null import NullLedger
from .._ledgers.surroundings import Calls
from .base import Pool

ConnT = TypeVar("ConnT")


class NullPool(Pool[ConnT]):
    """Opens a connection for every checkout, and closes it on return.

    For when the pooling is done elsewhere, and for tests.
    """

    __slots__ = ()

    def _new_ledger(self, runtime: Any, calls: Calls, timed: bool) -> Ledger[ConnT]:
        return NullLedger(runtime, calls, name=type(self).__name__, timed=timed)
