"""StaticPool: one connection for all."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypeVar

from .._ledgers.ledger import Ledger
from .._ledgers.static import StaticLedger
from .._ledgers.surroundings import Calls
from .base import Pool
from .parts import SHARED

ConnT = TypeVar("ConnT")


class StaticPool(Pool[ConnT]):
    """Gives all callers one and the same connection, opened at the first checkout.

    Several callers may have it at a time, so the driver must allow that. It is reset
    whenever one of them returns it.
    """

    __slots__ = ()

    _kinds = SHARED

    def _new_ledger(self, runtime: Any, calls: Calls, timed: bool) -> Ledger[ConnT]:
        return StaticLedger(runtime, calls, name=type(self).__name__, timed=timed)
