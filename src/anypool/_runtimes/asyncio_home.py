"""AsyncioHome: an asyncio event loop (uvloop's included) as the home of a pool."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from inspect import CORO_CREATED, getcoroutinestate
from threading import get_ident
from traceback import clear_frames
from typing import Any, TypeAlias
from weakref import ref

from .._core.waiter import Caller
from .deadlines import Deadlines

_TaskOf: TypeAlias = Callable[[asyncio.AbstractEventLoop], asyncio.Task[Any] | None]


def _quickest_current_task() -> _TaskOf:
    """Return what says which task of a loop is running.

    Measured on CPython 3.11, all of caller(): 0.25 µs, with asyncio.current_task() 0.36 µs.
    That is a Python function there, which looks into a dict; from 3.12 on it is in C.
    """
    tasks = getattr(asyncio.tasks, "_current_tasks", None)
    if sys.version_info < (3, 12) and isinstance(tasks, dict):
        return tasks.get  # pragma: no cover  # Python 3.11
    return asyncio.current_task


_current_task = _quickest_current_task()


class AsyncioGate:
    """One future for each wait.

    Not an anyio.Semaphore, not even one that is kept and used again. Measured on CPython
    3.11, from making the gate until its waiter has passed it, the task switch included:
    4.7 µs with this, 5.0 with a kept semaphore, 7.8 with a new one. And who waits has one
    for as long as that: 190 bytes with its future, where a semaphore takes 840 before
    anybody waits at it, as it holds a deque. All that a waiter takes is to be less.
    """

    __slots__ = ("future", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        self.future: asyncio.Future[None] | None = None

    def release(self) -> None:
        self.is_open = True
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class AsyncioHome:
    """One asyncio event loop."""

    can_watch = True

    def __init__(
        self,
        on_end: Callable[[], Coroutine[Any, Any, None]],
        elsewhere: Callable[[], Caller],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(self._loop)
        self.thread = get_ident()
        self._last: ref[Any] = ref(self)
        # What runs beside the callers: whether it has to be run to its end; the work, where
        # that is so even if the task is cancelled before it begins; and what it keeps.
        self._tasks: dict[
            asyncio.Task[None], tuple[bool, Coroutine[Any, Any, None] | None, object]
        ] = {}
        # uvloop's own clock stands still for as long as a step of the loop takes. asyncio's
        # is this one, but by a call more, of 0.05 µs.
        own = getattr(type(self._loop), "time", None)
        plain = own is asyncio.BaseEventLoop.time
        still = not isinstance(self._loop, asyncio.BaseEventLoop)
        self.now = time.monotonic if plain or still else self._loop.time
        # A loop that shuts down closes the async generators that still wait in it
        # (loop.shutdown_asyncgens, which asyncio.run calls). One that waits for nothing
        # else is told of the end while connections can still be closed in an orderly way.
        self._elsewhere = elsewhere
        self._watch: AsyncGenerator[None, None] | None = _end_of_loop(on_end)
        _take_first_step(self._watch)

    def caller(self) -> Caller:
        # If the loop has a current task, it is running; in its own thread that can only
        # mean that the caller is in that task.
        if get_ident() == self.thread:
            task = _current_task(self._loop)
            if task is not None:
                # Kept for the next time: asking it takes a third of making one, and while
                # it lives, ref() gives the same again.
                last = self._last
                if last() is not task:
                    self._last = last = ref(task)
                return last
        return self._elsewhere()

    def elsewhere(self) -> bool:
        try:
            return asyncio.get_running_loop() is not self._loop
        except RuntimeError:
            return True

    def alive(self) -> bool:
        return not self._loop.is_closed()

    def gate(self) -> AsyncioGate:
        return AsyncioGate()

    async def wait(self, gate: AsyncioGate, timeout: float | None) -> None:
        if gate.is_open:
            return
        gate.future = future = self._loop.create_future()
        if timeout is None:
            await future
            return
        # When the time is over, that opens the gate, too: a tenth of what anyio.fail_after
        # costs. The waiter sees from what it was given which of the two it was.
        self._deadlines.add(gate, timeout)
        try:
            await future
        finally:
            self._deadlines.remove(gate, timeout)

    def later(self, seconds: float, callback: Callable[[], object]) -> None:
        self._loop.call_later(seconds, callback, context=Context())

    def cancel(self, caller: Caller) -> None:
        task = caller()
        if task is not None:
            task.cancel()

    def uncancel(self) -> bool:
        task = asyncio.current_task()
        return task is not None and not task.uncancel()

    def post(self, callback: Callable[[], object]) -> bool:
        try:
            self._loop.call_soon_threadsafe(callback, context=Context())
        except RuntimeError:  # the loop is closed
            return False
        return True

    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        done: Callable[[], object] | None = None,
        vital: bool = True,
        keep: object = None,
    ) -> bool:
        if self._loop.is_closed():
            return False
        assured, context = vital and done is None, Context()
        work_or_run = _run(work) if assured else work
        task: Any = self._loop.create_task(work_or_run, context=context)
        # Whoever closes the loop under a pool has nothing to hear of the pool's own tasks.
        task._log_destroy_pending = False
        self._tasks[task] = vital, work if assured else None, keep
        task.add_done_callback(self._ended, context=context)
        if done is not None:
            task.add_done_callback(lambda _: done(), context=context)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        _, work, keep = self._tasks.pop(task)
        if task.cancelled():
            if work is not None and getcoroutinestate(work) == CORO_CREATED:
                # asyncio.run() cancels all tasks in the end, and some before they begin.
                self.spawn(work, keep=keep)
            # If that was before its first step, the error has its arguments (from Python
            # 3.12 on), in a cycle. A slot that is lost must not have to wait for the
            # garbage collector, least of all at the end of the program.
            try:
                task.result()
            except asyncio.CancelledError as error:
                clear_frames(error.__traceback__)

    async def settle(self, timeout: float) -> None:
        for task, (vital, *_) in list(self._tasks.items()):
            if not vital:
                task.cancel()
        me, deadline = asyncio.current_task(), self._loop.time() + timeout
        while late := self._tasks.keys() - {me}:
            left = deadline - self._loop.time()
            if left <= 0:
                break
            await asyncio.wait(late, timeout=left)
        for task in late:
            task.cancel()

    async def retire(self) -> None:
        return  # no task watches

    def leave(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            _take_last_steps(watch)


async def _run(work: Coroutine[Any, Any, None]) -> None:
    await work


async def _end_of_loop(
    on_end: Callable[[], Coroutine[Any, Any, None]],
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await asyncio.sleep(0)
        await on_end()


def _take_last_steps(generator: AsyncGenerator[None, None]) -> None:
    """Close it by hand: its loop, maybe at its own end, would begin a task for that."""
    closing = generator.aclose()
    with suppress(StopIteration, RuntimeError):  # or it is running just now
        for _ in range(2):
            closing.send(None)


def _take_first_step(generator: AsyncGenerator[None, None]) -> None:
    try:
        generator.asend(None).send(None)
    except StopIteration:
        return
