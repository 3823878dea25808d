"""Once: a call that is begun only once, whoever comes to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


class Once:
    """Calls a function, unless somebody has claimed that."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._unclaimed = [None]
        self._function = partial(function, *args)

    def claim(self) -> bool:
        """Tell whether nobody has begun; from now on somebody has."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return False
        return True

    def call(self) -> Any:
        return self._function() if self.claim() else None
