"""The event loops that the suite runs on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any

import anyio
from typing_extensions import TypeVar

T = TypeVar("T")


def event_loops() -> list[str]:
    """Return the names of those that are installed."""
    return ["asyncio", *(name for name in ("uvloop", "trio") if find_spec(name))]


def run(loop: str, function: Callable[..., Coroutine[Any, Any, T]], *args: object) -> T:
    """Run a coroutine function in a new event loop of that kind."""
    if loop == "uvloop":
        return anyio.run(function, *args, backend_options={"use_uvloop": True})
    return anyio.run(function, *args, backend=loop)
