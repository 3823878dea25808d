"""Care: what looks after an opened pool, beside its callers."""

from __future__ import annotations

import math
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Pool


class Care:
    """A task, or in a blocking pool a thread, that looks at the pool when something is due.

    It never waits for anything else, and doesn't keep the pool alive.
    """

    def __init__(self, pool: Pool[Any]) -> None:
        self._pool = weakref.ref(pool)
        self._runtime = pool._runtime
        self._log = pool._log
        self._gate: Any = None
        self._ended = False

    def start(self) -> None:
        self._runtime.start(self._run())

    def kick(self) -> None:
        """Have it look at once."""
        gate, self._gate = self._gate, None
        if gate is not None:
            with suppress(RuntimeError):  # another thread was quicker
                gate.release()

    def end(self) -> None:
        """Have it end soon."""
        self._ended = True
        self.kick()

    async def _run(self) -> None:
        while True:
            # Before the look, so that a kick from now on is not missed.
            self._gate = gate = self._runtime.gate()
            pool = self._pool()
            if pool is None or self._ended:
                return
            delay = self._look(pool)
            del pool
            await self._runtime.wait(gate, None if math.isinf(delay) else delay)

    def _look(self, pool: Pool[Any]) -> float:
        try:
            return pool._tend()
        except Exception as error:
            self._log.exception("The pool could not be looked after", error)
            return 1.0
