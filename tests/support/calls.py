"""Doing something in each call in turn that a blocking pool makes of what is around it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from .tracing import in_finalizer


class AtCall:
    """As a context manager, calls `act` at the nth call of its runtime or of a connection.

    That is twice for each call: just before it, and just after. Not counted are calls of
    other threads, and those in finalizers, whose exceptions Python swallows. Unlike AtLine
    it needs no tracer, so that coverage can be measured.

    Attributes:
        where: the call that was reached, or None if there were fewer.
        count: how many there were up to now.
    """

    def __init__(
        self, runtime: Any, world: Any, number: int, act: Callable[[], Any]
    ) -> None:
        self.where: str | None = None
        self.count = 0
        self._runtime = runtime
        self._world = world
        self._number = number
        self._act = act
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> AtCall:
        self._thread = threading.get_ident()
        for each, name in (
            (self._runtime, "now"),
            (self._runtime, "gate"),
            (self._runtime, "block"),
            (self._world, "step"),
        ):
            self._patch.setattr(each, name, self._watched(name, getattr(each, name)))
        self._patch.setattr(self._runtime, "lock", _Lock(self._runtime.lock, self.reach))
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            self.reach(f"before {name}{args}")
            result = function(*args)
            self.reach(f"after {name}{args}")
            return result

        return call

    def reach(self, where: str) -> None:
        """Note that the pool is here."""
        if threading.get_ident() == self._thread and not in_finalizer(sys._getframe()):
            self.count += 1
            if self.count == self._number:
                self.where = where
                self._act()


class _Lock:
    """Stands in for the lock of the books. What has taken a lock can't be interrupted
    before it is in charge of it."""

    def __init__(self, lock: threading.Lock, reach: Callable[[str], None]) -> None:
        self._lock = lock
        self._reach = reach
        self.locked = lock.locked

    def __enter__(self) -> None:
        self._reach("before the lock")
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
