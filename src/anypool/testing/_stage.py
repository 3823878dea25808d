"""Stages: where the body of a contract's test runs, and what its pools are there."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any
from unittest import SkipTest

import anyio
import anyio.from_thread
import anyio.to_thread

import anypool
from anypool import sync

from ._waiting import wait_until, wait_until_async

LIMIT = 60.0
"""Seconds after which a test is given up, since something waits for ever."""


class Stage:
    """Runs coroutines: in an event loop, or in a thread, where nothing in them suspends.

    Args:
        mode: "asyncio" or "trio": async pools in that event loop. "blocking": blocking
            pools. "over": a blocking facade over an async pool, in a worker thread.
        backend: the event loop under "over".
    """

    def __init__(self, mode: str, backend: str = "asyncio") -> None:
        self.mode = mode
        self.blocking = mode in ("blocking", "over")
        self._backend = backend if self.blocking else mode

    def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a test's body to its end; raise what it raises.

        Raises:
            AssertionError: it has not ended within LIMIT.
            SkipTest: there is no such event loop here.
        """
        if self._backend == "trio" and find_spec("trio") is None:
            raise SkipTest("trio is not installed")
        errors: list[BaseException] = []

        def work() -> None:
            try:
                self._run(body)
            except BaseException as error:
                errors.append(error)

        # In a thread of its own, since a blocking call that never ends can't be stopped.
        thread = threading.Thread(target=work, daemon=True, name="anypool contract")
        thread.start()
        thread.join(LIMIT)
        assert not thread.is_alive(), f"{self.mode}: not over after {LIMIT:g} s"
        if errors:
            raise errors.pop()

    def _run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self.mode == "blocking":
            _run_blocking(body)
        elif self.mode == "over":
            anyio.run(anyio.to_thread.run_sync, _run_blocking, body, backend=self._backend)
        else:
            anyio.run(body, backend=self._backend)

    def pool(self, creator: Callable[[], Any], **options: Any) -> Any:
        """Make a QueuePool of this mode."""
        if self.mode == "blocking":
            return sync.QueuePool(creator, **options)
        if self.mode == "over":
            return anyio.from_thread.run(_make_over, creator, options)
        return anypool.QueuePool(creator, **options)

    async def go(self, result: Any) -> Any:
        """Await what has to be awaited in this mode."""
        return result if self.blocking else await result

    @asynccontextmanager
    async def block(self, pool: Any) -> AsyncIterator[Any]:
        """Enter ``pool.connect()`` as users of this mode do."""
        if self.blocking:
            with pool.connect() as connection:
                yield connection
        else:
            async with pool.connect() as connection:
                yield connection

    async def until(self, condition: Callable[[], object], timeout: float) -> None:
        if self.blocking:
            wait_until(condition, timeout)
        else:
            await wait_until_async(condition, timeout)


async def _make_over(creator: Callable[[], Any], options: dict[str, Any]) -> Any:
    return sync.over(anypool.QueuePool(creator, **options))


def _run_blocking(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    steps = body()
    try:
        steps.send(None)
    except StopIteration:
        return
    steps.close()
    raise AssertionError("a blocking pool suspended")
