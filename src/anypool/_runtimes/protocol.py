"""The Runtime protocol: all that pool code asks of the world around it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .._core.record import ConnectionRecord
from .._core.waiter import Caller, Gate


class Runtime(Protocol):
    """A place for a pool to run: an event loop (LoopRuntime) or threads (ThreadRuntime).

    Under ThreadRuntime no coroutine here ever suspends: it blocks the thread instead.

    Attributes:
        lock: Guards the pool's decisions, never any I/O. In an event loop a no-op.
        blocking: Whether awaiting blocks the thread.
        settled: Whether there is a place to begin work in that isn't about to end.
    """

    lock: AbstractContextManager[Any]
    blocking: bool
    settled: bool

    def caller(self) -> Caller:
        """Return the identity of the current task or thread.

        A weak reference to it, so that it is never mistaken for another that came to live
        at the same address.

        Raises:
            InvalidRequestError: the pool belongs to another event loop or thread.
        """
        ...

    @property
    def now(self) -> Callable[[], float]:
        """Read the monotonic clock, in seconds: that of the event loop, where one runs."""
        ...

    def refuse_strangers(self) -> None:
        """For what is no coroutine: raise InvalidRequestError in another thread than that
        of the pool's event loop."""
        ...

    def gate(self) -> Gate:
        """Make a closed gate."""
        ...

    def wait(self, gate: Any, timeout: float | None) -> Coroutine[Any, Any, None]:
        """Wait until the gate is released or `timeout` seconds have passed."""
        ...

    def mutex(self) -> Any:
        """Make a lock for work that may wait: ``with`` or ``async with``, by `blocking`."""
        ...

    async def open(
        self,
        record: ConnectionRecord[Any],
        creator: Callable[[], Any],
        *,
        inline: bool,
        start: Callable[[Any], object],
        discard: Callable[[Any], object],
    ) -> bool:
        """Have the creator make the record's connection; tell whether it was awaited.

        Args:
            record: gets the connection the moment it is there.
            creator: makes it, or an awaitable of it.
            inline: whether it is known not to block.
            start: is given what is about to be awaited.
            discard: is given a connection that came too late.
        """
        ...

    async def within(
        self, seconds: float | None, work: Coroutine[Any, Any, object]
    ) -> bool:
        """Run `work`; return False if it did not finish in time."""
        ...

    async def complete(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end in spite of a cancellation, within a bound."""
        ...

    async def call(self, blocking: bool, function: Callable[..., Any], *args: Any) -> Any:
        """Call a driver's or listener's function in the right place; await its result."""
        ...

    def depart(self) -> None:
        """The pool, or the place where it lives, is gone."""
        ...

    def after_fork(self) -> None:
        """In a forked child: start anew."""
        ...

    def post(self, callback: Callable[[], object]) -> bool:
        """From any thread: have `callback` run soon where the pool lives.

        Returns:
            False if that place is gone. Then the callback will not run.
        """
        ...

    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        done: Callable[[], object] | None = None,
        keep: object = None,
    ) -> bool:
        """Where the pool lives: run `work` beside the callers; False if that is gone.

        Without `done`, it is run even if its task is cancelled before its first step.

        Args:
            work: what to run.
            done: called when it has ended, even if it was cancelled before it began.
            keep: what is kept alive until then.
        """
        ...

    def start(
        self, work: Coroutine[Any, Any, None], *, vital: bool = False, keep: object = None
    ) -> bool:
        """Begin `work` beside the callers without waiting for it: in a task or thread.

        Args:
            work: what to run.
            vital: whether it has to get to its end even if the pool closes.
            keep: what is kept alive until it has ended.

        Returns:
            False if there is no thread to be had. Then the work has not begun.
        """
        ...

    async def settle(self, timeout: float, *, for_good: bool = False) -> None:
        """Wait for what runs beside the callers, and cancel what isn't vital.

        Args:
            timeout: seconds.
            for_good: whether the pool is closed, so that nothing is left to watch over.
        """
        ...
