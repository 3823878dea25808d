"""Clocks that run ahead: what takes hours passes at once, and nobody sleeps."""

from __future__ import annotations

import asyncio
import selectors
import time
from types import SimpleNamespace
from typing import Any

import trio.testing


class DrivenLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose clock jumps to the next timer when there is nothing to do."""

    def __init__(self) -> None:
        self._ahead = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return super().time() + self._ahead


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: DrivenLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(timeout if timeout is None else 0)
        if not ready and timeout:
            self._loop._ahead += timeout
        return ready


def driven(backend: str) -> dict[str, Any]:
    """Return options of anyio.run() for a backend whose clock runs ahead."""
    if backend == "trio":
        clock = trio.testing.MockClock(autojump_threshold=0)
        return {"backend": "trio", "backend_options": {"clock": clock}}
    return {"backend": "asyncio", "backend_options": {"loop_factory": DrivenLoop}}


class ThreadClock(SimpleNamespace):
    """Stands in for the module `time` where pool code reads it; goes on when told."""

    def __init__(self) -> None:
        super().__init__()
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now
