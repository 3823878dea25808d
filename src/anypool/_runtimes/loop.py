"""AnyioRuntime: pool code in an event loop, asyncio's or trio's."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from contextvars import Context, copy_context
from functools import partial
from inspect import isawaitable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from .._core import bounds
from .._core.contexts import Contextless, InContext
from .._core.errors import InvalidRequestError
from .._core.options import check_made
from .._core.record import ConnectionRecord
from .._core.waiter import Caller, Gate
from .delivery import Delivery, outcome
from .home import Home, current_backend, home_class
from .thread import needs_loop

_ELSEWHERE = (
    "this pool belongs to another event loop, which is still alive: make one pool for each "
    "loop; from other threads use anypool.sync.over(pool)"
)


class AnyioRuntime:
    """Runs on anyio's semaphores, scopes and worker threads.

    It belongs to the event loop that first used it, its home. When that loop has ended, it
    moves to the next that uses it, without its connections.

    Args:
        on_end: closes all connections; called in the home while it shuts down.
        on_move: forgets all connections; called when a new home is found.
        on_settle: is told the quickest way to ask for the current caller.
    """

    blocking = False

    def __init__(
        self,
        on_end: Callable[[], Coroutine[Any, Any, None]],
        on_move: Callable[[], None],
        on_settle: Callable[[Callable[[], Caller]], None],
    ) -> None:
        self.lock = nullcontext()
        self.now: Callable[[], float] = time.monotonic
        self._home: Home | None = None
        self._on_end = on_end
        self._on_move = on_move
        self._on_settle = on_settle
        self._limiter: anyio.CapacityLimiter | None = None
        self.token: anyio.lowlevel.EventLoopToken | None = None
        self.settled = False

    def caller(self) -> Caller:
        return self._settle_in() if self._home is None else self._home.caller()

    def _settle_in(self) -> Caller:
        backend = current_backend()
        if self._home is not None and self._home.alive():
            if not self._home.elsewhere():
                raise InvalidRequestError(
                    "an async pool was used in its event loop, but outside of any task"
                )
            raise InvalidRequestError(_ELSEWHERE)
        if backend is None:
            raise InvalidRequestError(
                "an async pool was used where no event loop runs: use it from a coroutine, "
                "or use anypool.sync"
            )
        if self._home is not None:
            self._on_move()
        self._home = home_class(backend)(self._on_end, self._settle_in)
        self._on_settle(self._home.caller)
        self.now = self._home.now
        self._limiter = anyio.CapacityLimiter(math.inf)
        self.token = anyio.lowlevel.current_token()
        self.settled = True
        return self._home.caller()

    def try_settle_in(self) -> None:
        """Make the loop that runs here the home, if there is none yet."""
        if self._home is None and current_backend() is not None:
            self._settle_in()

    def refuse_strangers(self) -> None:
        home = self._home
        if home is not None and home.alive() and not self.in_home_thread():
            raise InvalidRequestError(_ELSEWHERE)

    def in_home_thread(self) -> bool:
        return self._home is not None and self._home.thread == threading.get_ident()

    def depart(self) -> None:
        """The home has ended: settle anew at the next use."""
        self.settled = False
        if self._home is not None:
            self._home.leave()
            self._home = None
            self._on_settle(self.caller)

    def after_fork(self) -> None:
        # The parent's loop may look alive here, but it runs no more.
        self._home = self.token = None
        self.settled = False
        self._on_settle(self.caller)

    def gate(self) -> Gate:
        assert self._home is not None
        return self._home.gate()

    def wait(self, gate: Any, timeout: float | None) -> Coroutine[Any, Any, None]:
        assert self._home is not None
        return self._home.wait(gate, timeout)

    def mutex(self) -> anyio.Lock:
        return anyio.Lock(fast_acquire=True)

    async def open(
        self,
        record: ConnectionRecord[Any],
        creator: Callable[[], Any],
        *,
        inline: bool,
        start: Callable[[Any], object],
        discard: Callable[[Any], object],
    ) -> bool:
        context = Context()
        if inline:
            connection = context.run(creator)
        else:
            delivery = Delivery(partial(context.run, creator), discard)
            try:
                await self._in_thread(delivery.make)
                connection = delivery.connection
            except BaseException as error:
                delivery.refuse()
                if not needs_loop(error):
                    raise
                connection = context.run(creator)
        awaited = isawaitable(connection)
        if awaited:
            start(connection)
            connection = await InContext(context, connection)
        check_made(connection)
        record.connection = connection
        return awaited

    async def within(
        self, seconds: float | None, work: Coroutine[Any, Any, object]
    ) -> bool:
        if seconds is None:
            await work
            return True
        with Contextless(
            anyio.CancelScope(deadline=anyio.current_time() + seconds)
        ) as scope:
            await work
        # Not "cancelled_caught": a call in a thread can't be cut short. It ends late, and
        # is told so, as in a blocking pool.
        return not scope.cancel_called

    async def complete(self, work: Coroutine[Any, Any, None]) -> None:
        end = anyio.current_time() + bounds.RETURN_TIMEOUT
        with Contextless(anyio.CancelScope(shield=True, deadline=end)):
            await work

    async def call(self, blocking: bool, function: Callable[..., Any], *args: Any) -> Any:
        result = await self._in_thread(function, *args) if blocking else function(*args)
        return await result if isawaitable(result) else result

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        # A limiter of its own: callers that wait for a connection in anyio's shared worker
        # threads must not keep the pool from taking connections back.
        # The function sees its caller's context; anyio's worker thread, which may be begun
        # here, keeps one for longer.
        run = copy_context().run
        in_thread = anyio.to_thread.run_sync(
            outcome, run, (function, *args), limiter=self._limiter
        )
        result, error = await InContext(Context(), in_thread)
        if error is not None:
            try:
                raise error
            finally:
                del error  # or else it and its traceback would hold each other
        return result

    @property
    def can_watch(self) -> bool:
        return self._home is not None and self._home.can_watch

    def later(self, seconds: float, callback: Callable[[], object]) -> None:
        if self._home is not None:
            self._home.later(seconds, callback)

    def cancel(self, caller: Caller) -> None:
        if self._home is not None:
            self._home.cancel(caller)

    def uncancel(self) -> bool:
        return self._home is not None and self._home.uncancel()

    def post(self, callback: Callable[[], object]) -> bool:
        return self._home is not None and self._home.post(callback)

    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        done: Callable[[], object] | None = None,
        keep: object = None,
    ) -> bool:
        return self._home is not None and self._home.spawn(work, done, keep=keep)

    def start(
        self, work: Coroutine[Any, Any, None], *, vital: bool = False, keep: object = None
    ) -> bool:
        if self._home is None or not self._home.spawn(work, vital=vital, keep=keep):
            work.close()
        return True

    async def settle(self, timeout: float, *, for_good: bool = False) -> None:
        home = self._home
        if home is not None:
            await home.settle(timeout)
            if for_good:
                await home.retire()
