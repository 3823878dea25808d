"""TrioHome: a trio run as the home of a pool."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context
from threading import get_ident
from typing import Any

import anyio
import trio

from .._core import bounds
from .._core.waiter import Caller


class TrioHome:
    """One run of trio."""

    # A deadline costs little here.
    can_watch = False

    def __init__(
        self,
        on_end: Callable[[], Coroutine[Any, Any, None]],
        elsewhere: Callable[[], Caller],
    ) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self.thread = get_ident()
        self._elsewhere = elsewhere
        self._left = trio.Event()
        self._ending, self._ended = trio.Event(), trio.Event()
        self._works: set[_Work] = set()
        self.now = trio.lowlevel.current_clock().current_time
        # System tasks are cancelled when the main task has ended.
        trio.lowlevel.spawn_system_task(
            _end_of_run, self._left, self._ending, self._ended, on_end, context=Context()
        )

    def caller(self) -> Caller:
        if not self.elsewhere():
            return weakref.ref(trio.lowlevel.current_task())
        return self._elsewhere()

    def elsewhere(self) -> bool:
        try:
            return trio.lowlevel.current_trio_token() is not self._token
        except RuntimeError:
            return True

    def alive(self) -> bool:
        return self.post(_nothing)

    def gate(self) -> anyio.Semaphore:
        return anyio.Semaphore(0)

    async def wait(self, gate: anyio.Semaphore, timeout: float | None) -> None:
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            await gate.acquire()

    def later(self, seconds: float, callback: Callable[[], object]) -> None:
        raise NotImplementedError

    def cancel(self, caller: Caller) -> None:
        raise NotImplementedError

    def uncancel(self) -> bool:
        return False

    def post(self, callback: Callable[[], object]) -> bool:
        try:
            self._token.run_sync_soon(callback)
        except trio.RunFinishedError:
            return False
        return True

    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        done: Callable[[], object] | None = None,
        vital: bool = True,
        keep: object = None,
    ) -> bool:
        if not self.alive():
            return False
        new = _Work(work, done, vital, self._ending.is_set() and vital, keep)
        self._works.add(new)
        trio.lowlevel.spawn_system_task(new.run, self._works, context=Context())
        return True

    async def settle(self, timeout: float) -> None:
        for work in self._works:
            if not work.vital:
                work.scope.cancel()
        with trio.move_on_after(timeout):
            while self._works:
                await next(iter(self._works)).ended.wait()
        for work in self._works:
            work.scope.cancel()

    async def retire(self) -> None:
        self._left.set()
        await self._ended.wait()

    def leave(self) -> None:
        self.post(self._left.set)


async def _end_of_run(
    left: trio.Event,
    ending: trio.Event,
    ended: trio.Event,
    on_end: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    try:
        await left.wait()
    except trio.Cancelled:
        ending.set()
        with trio.CancelScope(shield=True):
            await on_end()
        raise
    finally:
        ended.set()


class _Work:
    """What runs beside the callers, and whether it has to be run to its end.

    When the run ends, it is cancelled, with all system tasks; not so what is begun then,
    such as the close of a connection whose return was cancelled.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, None],
        done: Callable[[], object] | None,
        vital: bool,
        at_the_end: bool,
        keep: object,
    ) -> None:
        self.vital = vital
        deadline = trio.current_time() + bounds.END_TIMEOUT if at_the_end else math.inf
        self.scope = trio.CancelScope(shield=at_the_end, deadline=deadline)
        self.ended = trio.Event()
        self._work = work
        self._done = done
        self._keep = keep

    async def run(self, works: set[_Work]) -> None:
        try:
            with self.scope:
                await self._work
        finally:
            works.discard(self)
            self.ended.set()
            if self._done is not None:
                self._done()


def _nothing() -> None:
    pass
