"""Homes of pools: the event loops of anyio's backends."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import anyio
import anyio.lowlevel

from .._core.waiter import Caller, Gate


class Home(Protocol):
    """One event loop, for as long as it runs; one class for each backend of anyio."""

    thread: int
    can_watch: bool
    """Whether resets may go without a deadline, since they can be given up later on."""

    def __init__(
        self,
        on_end: Callable[[], Coroutine[Any, Any, None]],
        elsewhere: Callable[[], Caller],
    ) -> None: ...
    def caller(self) -> Caller:
        """Return the identity of the current task; if it isn't in this loop, ask
        `elsewhere`, which finds the new home or raises."""
        ...

    def elsewhere(self) -> bool: ...
    def alive(self) -> bool: ...

    now: Callable[[], float]

    async def settle(self, timeout: float) -> None: ...
    def gate(self) -> Gate: ...
    async def wait(self, gate: Any, timeout: float | None) -> None: ...
    def later(self, seconds: float, callback: Callable[[], object]) -> None: ...
    def cancel(self, caller: Caller) -> None:
        """Cancel that task, once."""
        ...

    def uncancel(self) -> bool:
        """Take back one cancellation of this task; False if there are more."""
        ...

    def post(self, callback: Callable[[], object]) -> bool: ...
    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        done: Callable[[], object] | None = None,
        vital: bool = True,
        keep: object = None,
    ) -> bool:
        """Run `work` in a task of its own, `vital` if it must get to its end."""
        ...

    async def retire(self) -> None:
        """The pool is closed: watch no more for the end of the loop."""
        ...

    def leave(self) -> None:
        """The pool is gone, or goes elsewhere."""
        ...


def current_backend() -> str | None:
    try:
        token = anyio.lowlevel.current_token()
    except anyio.NoEventLoopError:
        return None
    return token.backend_class.__module__.rpartition(".")[2].lstrip("_")


def home_class(backend: str) -> type[Home]:
    # Imported by need: neither backend costs anything where it isn't used.
    if backend == "trio":
        from .trio_home import TrioHome

        return TrioHome
    from .asyncio_home import AsyncioHome

    return AsyncioHome
