"""ThreadRuntime: pool code in plain threads, without an event loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from inspect import isawaitable
from types import CoroutineType
from typing import Any

from typing_extensions import TypeVar

from .._core.errors import InvalidRequestError
from .._core.options import check_made
from .._core.record import ConnectionRecord
from .._core.waiter import Caller
from .callers import current_caller

T = TypeVar("T")


class AwaitableCreator(Exception):
    """Internal: the creator of a blocking pool returned an awaitable, which is attached.

    The facade answers by moving the pool to an event loop of its own.
    """

    def __init__(self, awaitable: Awaitable[Any] | None) -> None:
        super().__init__()
        self.awaitable = awaitable


def needs_loop(error: BaseException) -> bool:
    """Tell whether a creator failed because asyncio has no event loop in this thread.

    Some async drivers ask for it before they return anything that could be awaited.
    """
    text = str(error)
    return type(error) is RuntimeError and (
        text == "no running event loop" or text.startswith("There is no current event loop")
    )


async def create_later(creator: Callable[[], Any]) -> Any:
    """Call a creator in the event loop that it needs."""
    connection = creator()
    return await connection if isawaitable(connection) else connection


class ThreadRuntime:
    """Every awaitable returns without suspending: it blocks the calling thread instead.

    So the facade runs a coroutine of the pool to its end with one ``send(None)``.
    """

    blocking = True
    settled = True
    can_watch = False

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.door: Any = threading.RLock()  # knows which thread is inside
        self.now = time.monotonic
        self._threads: set[threading.Thread] = set()

    def caller(self) -> Caller:
        return current_caller()

    def refuse_strangers(self) -> None:
        pass

    def gate(self) -> threading.Lock:
        gate = threading.Lock()
        gate.acquire()
        return gate

    async def wait(self, gate: threading.Lock, timeout: float | None) -> None:
        self.block(gate, timeout)

    def block(self, gate: threading.Lock, timeout: float | None) -> None:
        """Do the same as ``wait()``, as a plain function."""
        if timeout is None:
            gate.acquire()
        else:
            gate.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))

    def mutex(self) -> threading.Lock:
        return threading.Lock()

    async def open(
        self,
        record: ConnectionRecord[Any],
        creator: Callable[[], Any],
        *,
        inline: bool,
        start: Callable[[Any], object],
        discard: Callable[[Any], object],
    ) -> bool:
        try:
            # On one line, so that no interrupt can strike between the two.
            record.connection = Context().run(creator)
        except RuntimeError as error:
            if not needs_loop(error):
                raise
            raise AwaitableCreator(create_later(creator)) from None
        if isawaitable(record.connection):
            awaitable, record.connection = record.connection, None
            raise AwaitableCreator(awaitable)
        check_made(record.connection)
        return False

    async def within(
        self, seconds: float | None, work: Coroutine[Any, Any, object]
    ) -> bool:
        # A blocking call can't be cut short from outside: it ends late, and is told so.
        start = time.monotonic()
        await work
        return seconds is None or time.monotonic() - start <= seconds

    async def complete(self, work: Coroutine[Any, Any, None]) -> None:
        await work

    async def call(self, blocking: bool, function: Callable[..., Any], *args: Any) -> Any:
        result = function(*args)
        return run(result) if isawaitable(result) else result

    def depart(self) -> None:
        pass

    def after_fork(self) -> None:
        self.lock = threading.Lock()
        self.door = threading.RLock()
        self._threads = set()

    def post(self, callback: Callable[[], object]) -> bool:
        callback()
        return True

    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        done: Callable[[], object] | None = None,
        keep: object = None,
    ) -> bool:
        run(work)
        if done is not None:
            done()
        return True

    def start(
        self, work: Coroutine[Any, Any, None], *, vital: bool = False, keep: object = None
    ) -> bool:
        # A daemon: the end of the program doesn't wait for it.
        thread = threading.Thread(
            target=self._work,
            args=(work, keep),
            daemon=True,
            name="anypool worker",
        )
        try:
            self._threads.add(thread)
            Context().run(thread.start)  # it may inherit that
        except BaseException as error:
            if thread.ident is None:
                self._threads.discard(thread)
            # There is none to be had: there are too many, or the interpreter is ending.
            if isinstance(error, RuntimeError):
                return False
            raise
        return True

    def _work(self, work: Coroutine[Any, Any, None], keep: object) -> None:
        try:
            run(work)
        finally:
            self._threads.discard(threading.current_thread())

    async def settle(self, timeout: float, *, for_good: bool = False) -> None:
        deadline = time.monotonic() + timeout
        for thread in self._threads - {threading.current_thread()}:
            while (left := deadline - time.monotonic()) > 0:
                try:
                    thread.join(left)
                except RuntimeError:  # somebody is just starting it
                    time.sleep(0.001)  # noqa: ASYNC251  # runs in a thread
                else:
                    break


def run(work: Awaitable[T]) -> T:
    """Run an awaitable that never suspends to its end.

    Raises:
        InvalidRequestError: it did suspend: it belongs in an event loop.
    """
    # The pool's own are all of this type; asking the ABC takes 0.3 µs (CPython 3.11).
    plain = type(work) is CoroutineType or isinstance(work, (Coroutine, Generator))
    steps: Any = work if plain else work.__await__()
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise InvalidRequestError(
        f"{getattr(steps, '__qualname__', type(steps).__qualname__)}() waited for an event "
        "loop, and a blocking pool has none: make it a plain function, or use "
        "anypool's async pools"
    )
