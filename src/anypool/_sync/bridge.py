"""Bridges: how the facade gets a pool's coroutines run, from a plain thread."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.from_thread
from anyio.from_thread import BlockingPortal
from typing_extensions import TypeVar

from .._core.errors import InvalidRequestError
from .._runtimes.thread import run

if TYPE_CHECKING:
    from .._pools.base import Pool

T = TypeVar("T")


class Bridge(Protocol):
    """Runs a coroutine of the pool and waits for its result."""

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T: ...


class Trampoline:
    """For blocking drivers: right here, in one step. No event loop, no other thread."""

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        return run(function(*args))


class LoopThread:
    """For async drivers: in an event loop of the pool's own, in a background thread.

    The thread is a daemon, ends when the facade is garbage collected, and at the latest
    when the main thread ends.
    """

    def __init__(self) -> None:
        self._portal: BlockingPortal | None = None
        ready = threading.Event()
        thread = threading.Thread(
            target=anyio.run,
            args=(_serve, weakref.ref(self), ready),
            daemon=True,
            name="anypool event loop",
        )
        thread.start()
        ready.wait()
        # Python joins all threads that are no daemons before it calls atexit functions.
        # Drivers with such threads (aiosqlite) have to be told of the end before that.
        stop = weakref.WeakMethod(self.stop)
        threading.Thread(
            target=_stop_after_main_thread, args=(stop,), daemon=True, name="anypool exit"
        ).start()
        atexit.register(_stop_and_join, stop, weakref.ref(thread))

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        assert self._portal is not None
        future: Future[T] = self._portal.start_task_soon(function, *args)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Have the loop end; its pool closes its connections."""
        portal, self._portal = self._portal, None
        if portal is not None:
            try:
                portal.start_task_soon(portal.stop)
            except RuntimeError:
                return  # it has ended already

    def __del__(self) -> None:
        self.stop()


async def _serve(weak_bridge: weakref.ref[LoopThread], ready: threading.Event) -> None:
    async with BlockingPortal() as portal:
        bridge = weak_bridge()
        if bridge is not None:
            bridge._portal = portal
        del bridge
        ready.set()
        await portal.sleep_until_stopped()


def _stop_after_main_thread(weak_stop: weakref.WeakMethod[Callable[[], None]]) -> None:
    threading.main_thread().join()
    stop = weak_stop()
    if stop is not None:
        stop()


def _stop_and_join(
    weak_stop: weakref.WeakMethod[Callable[[], None]],
    weak_thread: weakref.ref[threading.Thread],
) -> None:
    stop, thread = weak_stop(), weak_thread()
    if stop is not None:
        stop()
    if thread is not None:
        thread.join(timeout=5)


class Visit:
    """For the threads of a program whose event loop the pool lives in."""

    def __init__(self, pool: Pool[Any]) -> None:
        self._pool = pool

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        runtime = self._pool._runtime
        if runtime.in_home_thread():
            raise InvalidRequestError(
                "a blocking call in the event loop's own thread would wait for itself: "
                "use the async pool there, and the facade in worker threads"
            )
        try:
            return anyio.from_thread.run(function, *args, token=runtime.token)
        except (anyio.NoEventLoopError, anyio.RunFinishedError):
            raise InvalidRequestError(
                "the async pool has no running event loop: call sync.over(pool) inside the "
                "loop, or use the pool there first"
            ) from None
