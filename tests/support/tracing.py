"""Doing something at each line of the pool's own code in turn, by way of sys.settrace."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import anypool

_SOURCE = os.path.dirname(anypool.__file__) + os.sep


class AtLine:
    """As a context manager, calls `act` when the pool's code reaches its nth line.

    Lines are counted as they are run. Nothing is counted in finalizers, whose exceptions
    Python swallows, nor in what they call.

    Attributes:
        where: the line that was reached, or None if there were fewer.
    """

    def __init__(self, number: int, act: Callable[[], Any]) -> None:
        self.where: str | None = None
        self.count = 0
        self._number = number
        self._act = act
        self._raised: tuple[FrameType, int] | None = None

    def __enter__(self) -> AtLine:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        if event == "call":
            if not code.co_filename.startswith(_SOURCE) or in_finalizer(frame):
                return None
        elif event == "exception":
            self._raised = frame, frame.f_lineno
        elif event == "line":
            raised, self._raised = self._raised, None
            if raised == (frame, frame.f_lineno):
                # Python 3.12 is on its way to a with block's __exit__(), which is on the
                # same line. No interrupt can strike there, and without a tracer none does.
                return self._trace
            self.count += 1
            if self.count == self._number:
                self.where = f"{code.co_filename[len(_SOURCE) :]}:{frame.f_lineno}"
                sys.settrace(None)
                self._act()
        return self._trace


def in_finalizer(frame: FrameType) -> bool:
    """Tell whether a frame is a finalizer's, or of what one calls."""
    above: FrameType | None = frame
    while above is not None:
        if above.f_code.co_name in _FINALIZERS:
            return True
        above = above.f_back
    return False


_FINALIZERS = {"__del__", "dropped", "lost", "died"}
