"""Background: work beside the callers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from weakref import ref

from .finalizers import run_first_step


class Background:
    """Begins work that no caller waits for.

    The work keeps its pool alive, whose parts it uses.

    Attributes:
        runtime: where it is done.
        pool: refers to the pool, if that is still there.
    """

    __slots__ = ("pool", "runtime")

    def __init__(self, runtime: Any, pool: ref[Any]) -> None:
        self.runtime = runtime
        self.pool = pool

    def start(self, work: Coroutine[Any, Any, None], *, vital: bool = False) -> None:
        """Begin work in a task or thread; do it here where no thread can be had for it.

        Args:
            work: what to do.
            vital: whether it has to get to its end even if the pool closes.
        """
        if not self.runtime.start(work, vital=vital, keep=self.pool()):
            self.spawn(work)

    def post(self, callback: Callable[[], object]) -> bool:
        """From any thread: have `callback` run soon where the pool lives.

        Returns:
            False if that place is gone. Then the callback will not run.
        """
        posted: bool = self.runtime.post(partial(_call, callback, self.pool()))
        return posted

    def spawn(
        self, work: Coroutine[Any, Any, None], done: Callable[[], object] | None = None
    ) -> None:
        """Begin work where the pool lives: in a task, or right here where threads use it;
        do as much of it as can be done without a loop, if that is gone.

        Args:
            work: what to do.
            done: called when it has ended, even if it was cancelled before it began.
        """
        if not self.runtime.spawn(work, done, keep=self.pool()):
            run_first_step(work)


def _call(callback: Callable[[], object], _: object) -> None:
    callback()
