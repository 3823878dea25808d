"""Nobody's context: what a pool runs for all, it runs without anyone's context variables.

A connection outlives the request that happened to open it, and what asyncio makes for it (a
transport, a timer) keeps the context it was made in for as long.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from contextvars import Context
from types import TracebackType
from typing import Any, Generic

from anyio import CancelScope
from typing_extensions import TypeVar

T = TypeVar("T")


class Contextless:
    """Enters a scope whose timer keeps no context: asyncio forgets a cancelled timer only
    when its time has come."""

    def __init__(self, scope: CancelScope) -> None:
        self._scope = scope

    def __enter__(self) -> CancelScope:
        return Context().run(self._scope.__enter__)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return self._scope.__exit__(exc_type, exc, traceback)


class InContext(Generic[T]):
    """Awaits something in a context of its own: each of its steps runs there."""

    def __init__(self, context: Context, awaitable: Awaitable[T]) -> None:
        self._context = context
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, T]:
        run = self._context.run
        steps: Any = run(self._awaitable.__await__)
        try:
            step = run(next, steps)
            while True:
                try:
                    answer = yield step
                except GeneratorExit:
                    run(steps.close)
                    raise
                except BaseException as error:
                    step = run(steps.throw, error)
                else:
                    step = run(next, steps) if answer is None else run(steps.send, answer)
        except StopIteration as end:
            result: T = end.value
            return result
