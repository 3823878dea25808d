"""Creators that first return what an earlier call has already begun.

A blocking pool finds out that its driver is an async one by what its creator returns; its
successor, in an event loop, makes use of that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from types import CoroutineType
from typing import Any


class Begun:
    """Returns what has been begun, and from then on what the creator returns."""

    def __init__(self, first: Awaitable[Any] | None, function: Callable[..., Any]) -> None:
        self.function = function
        self._first = [] if first is None else [first]

    def __call__(self, *args: Any, **parameters: Any) -> Any:
        try:
            return self._first.pop()
        except IndexError:
            return self.function(*args, **parameters)

    def __del__(self) -> None:
        # Nobody has come for it: no reason for Python to complain.
        for first in self._first:
            if isinstance(first, CoroutineType):
                first.close()


def first_then(
    first: Awaitable[Any] | None, creator: Callable[[], Any]
) -> Callable[[], Any]:
    """Make a creator that first returns what has already been begun, if anything has."""
    # A partial's arguments stay visible, for listeners that change them.
    whole: Any = creator if isinstance(creator, partial) else partial(creator)
    return partial(Begun(first, whole.func), *whole.args, **whole.keywords)


def without_first(creator: Callable[[], Any]) -> Callable[[], Any]:
    """Return the creator that a pool was made with."""
    if isinstance(creator, partial) and isinstance(creator.func, Begun):
        return partial(creator.func.function, *creator.args, **creator.keywords)
    return creator
