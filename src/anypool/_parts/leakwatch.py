"""LeakWatch: complains of whoever has a connection for too long."""

from __future__ import annotations

import math
import weakref
from typing import Any

from .._core.log import PoolLog
from .._ledgers.guard import listed
from .._ledgers.ledger import Ledger
from .diagnosis import Diagnosis


class LeakWatch:
    """Looks at the oldest leases when one of them may be too old.

    No timer is set for a checkout: whoever uses the pool looks here, when it is time. On
    asyncio one timer for all of the pool does, so that a pool which nobody uses any more
    complains, too; in an opened pool its keeper does.

    Attributes:
        due: when to look again.
    """

    def __init__(
        self,
        ledger: Ledger[Any],
        runtime: Any,
        log: PoolLog,
        diagnosis: Diagnosis,
        after: float | None,
    ) -> None:
        """Make one for a pool.

        Args:
            ledger: knows what is out; counts leaks.
            runtime: the clock, and timers where there is an event loop.
            log: gets the complaints.
            diagnosis: tells who it is.
            after: seconds that are too long; None: none are.
        """
        self._ledger = ledger
        self._runtime = runtime
        self._log = log
        self._diagnosis = diagnosis
        self._after = math.inf if after is None else after
        self._told: set[Any] = set()
        self._timer = False
        self._turns = [None]
        self.due = math.inf if after is None else -math.inf

    def look(self) -> None:
        """Complain of each that is out for too long, once."""
        if self._after == math.inf:
            return
        try:
            turn = self._turns.pop()  # one thread at a time, or a signal handler
        except IndexError:
            return
        try:
            self._look(self._runtime.now())
        finally:
            self._turns.append(turn)

    def _look(self, now: float) -> None:
        self.due = now + self._after
        out = listed(self._ledger.leases.out.items())
        self._told &= {key for key, _ in out}
        for key, record in out:
            if key in self._told:
                continue
            left = record._since + self._after - now
            if left > 0:
                self.due = min(self.due, now + left)
                continue
            holder = self._diagnosis.holder_of(key, record)
            if holder is not None:
                self._told.add(key)
                self._ledger.statistics.leaks += 1
                self._log.warning("Connection held for too long: %s", holder)
        if not self._timer and self._runtime.can_watch:
            self._timer = True
            ring = weakref.WeakMethod(self._ring)
            self._runtime.later(self.due - now, lambda: _call(ring))

    def _ring(self) -> None:
        self._timer = False
        if self._ledger.leases.out:
            self.look()
        else:
            self.due = -math.inf  # the next checkout looks, and sets a timer

    def start_anew(self) -> None:
        """The place where the pool lived is gone."""
        self._timer = False
        self._told.clear()


def _call(ring: weakref.WeakMethod[Any]) -> None:
    method = ring()
    if method is not None:
        method()
