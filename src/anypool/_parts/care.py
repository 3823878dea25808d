"""Care: what looks after an opened pool, beside its callers."""

from __future__ import annotations

import math
import weakref
from contextlib import suppress
from typing import Any, Protocol

from .._core.log import PoolLog
from .background import Background


class Tending(Protocol):
    """A keeper."""

    def tend(self) -> float:
        """See what is due; return the seconds until there may be something again."""
        ...


class Care:
    """A task, or in a blocking pool a thread, that has the keeper look at the pool.

    It never waits for anything else, and keeps neither of them alive but during a look.

    Attributes:
        at_work: whether it has begun, and not ended.
        ended: whether it has to end.
    """

    def __init__(
        self, keeper: weakref.ref[Tending], background: Background, log: PoolLog
    ) -> None:
        """Make one that does nothing yet.

        Args:
            keeper: has a look.
            background: knows where it runs, and the pool.
            log: is told of what goes wrong.
        """
        self._keeper = keeper
        self._background = background
        self._runtime = background.runtime
        self._log = log
        self._gate: Any = None
        self.ended = False
        self._unclaimed = [None]
        self.at_work = False

    def start(self) -> None:
        """Begin, unless it has begun; it may be called again where it is not known."""
        work = self._run()
        if not self._runtime.start(work):
            work.close()  # at the next occasion

    def is_over(self) -> bool:
        return self.ended or not (self.at_work or self._unclaimed)

    def kick(self) -> None:
        """Have it look at once."""
        gate = self._gate  # which stays, so that an interrupted kick can be given again
        if gate is not None:
            with suppress(RuntimeError):  # it was given one already
                gate.release()

    def end(self) -> None:
        """Have it end soon."""
        self.ended = True
        self.kick()

    async def _run(self) -> None:
        try:
            self._unclaimed.pop()
        except IndexError:
            return
        self.at_work = True
        try:
            await self._look_again_and_again()
        finally:
            self.at_work = False

    async def _look_again_and_again(self) -> None:
        while True:
            pool, keeper = self._background.pool(), self._keeper()
            if pool is None or keeper is None:
                return
            # Before the look, so that a kick from now on is not missed.
            self._gate = gate = self._runtime.gate()
            if self.ended:
                return
            delay = self._look(keeper)
            waiting = self._runtime.wait(gate, None if math.isinf(delay) else delay)
            # Perhaps the last references, with which the runtime goes out of use.
            del pool, keeper
            await waiting

    def _look(self, keeper: Tending) -> float:
        try:
            return keeper.tend()
        except Exception as error:
            self._log.exception("The pool could not be looked after", error)
            return 1.0
