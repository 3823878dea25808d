"""Modes: one test body for threads and for event loops.

Tests are coroutines. In the blocking modes they run on a trampoline, and whatever they
await blocks the thread; ``await mode.go(pool.connect())`` then just passes the lease on.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any

import anyio
import anyio.lowlevel

import anypool
from anypool import sync

from .fakes import World

PATIENCE = 10.0
"""Seconds after which a test gives up waiting for what should have happened."""


class Mode:
    """A way to run: what is blocking, which connections the fakes are.

    Attributes:
        pools: the module with the pools of this mode.
        world: makes the fake connections.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.blocking = name in ("blocking", "portal")
        self.pools: Any = sync if self.blocking else anypool
        # Four combinations: either pool over either kind of driver.
        self.world = World(coroutine=name not in ("blocking", "threads"))

    def __repr__(self) -> str:
        return self.name

    # Pools.

    def pool(self, kind: str = "QueuePool", /, **options: Any) -> Any:
        """Make a pool of fake connections."""
        if kind == "Singleton":
            kind = "SingletonThreadPool" if self.blocking else "SingletonTaskPool"
        return getattr(self.pools, kind)(
            options.pop("creator", self.world.connect), **options
        )

    async def go(self, result: Any) -> Any:
        """Await what has to be awaited in this mode."""
        return await result if isawaitable(result) else result

    @asynccontextmanager
    async def block(self, checkout: Any) -> AsyncIterator[Any]:
        """Enter ``pool.connect()`` as users of this mode do."""
        if self.blocking:
            with checkout as connection:
                yield connection
        else:
            async with checkout as connection:
                yield connection

    async def settle(self) -> None:
        """Let the event loop finish what a finalizer left to it."""
        gc.collect()
        if self.blocking:
            if self.name == "portal":
                deadline = threading.Event()
                deadline.wait(0.05)
            return
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        if self.name == "threads":
            await anyio.sleep(0.05)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds, for as long as patience lasts."""
        pause = threading.Event()
        for _ in range(int(PATIENCE / 0.002)):
            if condition():
                return
            if self.blocking:
                pause.wait(0.002)
            else:
                await anyio.sleep(0.002)
        raise AssertionError("what was waited for did not happen")

    # Running.

    def run(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self.blocking:
            run_blocking(function())
            return
        options: dict[str, Any] = {"backend": "asyncio"}
        if self.name == "uvloop":
            options["backend_options"] = {"use_uvloop": True}
        elif self.name == "trio":
            options["backend"] = "trio"
        anyio.run(self._bounded, function, **options)

    async def _bounded(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with anyio.fail_after(6 * PATIENCE):
            await function()

    # Concurrency.

    def event(self) -> Any:
        return ThreadEvent() if self.blocking else LoopEvent()

    @asynccontextmanager
    async def group(self) -> AsyncIterator[Callable[..., None]]:
        """Give a function that starts another caller; wait for all at the end."""
        if self.blocking:
            threads = Threads()
            try:
                yield threads.start
            finally:
                threads.join()
        else:
            async with anyio.create_task_group() as tasks:

                def start(function: Callable[..., Any], *args: Any) -> None:
                    tasks.start_soon(function, *args)

                yield start


class ThreadEvent:
    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self._event.set

    async def wait(self) -> None:
        assert self._event.wait(PATIENCE), "an event did not come"


class LoopEvent:
    def __init__(self) -> None:
        self._event = anyio.Event()
        self.set = self._event.set

    async def wait(self) -> None:
        with anyio.fail_after(PATIENCE):
            await self._event.wait()


class Threads:
    """A task group of threads: waits for all, raises their first error."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def start(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        def run() -> None:
            try:
                run_blocking(function(*args))
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(6 * PATIENCE)
            assert not thread.is_alive(), "a thread did not end"
        if self._errors:
            raise self._errors[0]


def run_blocking(work: Any) -> Any:
    """Run a coroutine in which nothing suspends."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise AssertionError("a blocking test suspended")
