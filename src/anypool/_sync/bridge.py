"""Bridges: how the facade gets a pool's coroutines run in an event loop.

For blocking drivers there is none: a trampoline runs them right there, see
_runtimes/thread.py.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
import anyio.from_thread
from anyio.from_thread import BlockingPortal
from typing_extensions import TypeVar

from .._core import bounds
from .._core.errors import InvalidRequestError, PoolClosedError

if TYPE_CHECKING:
    from .._pools.base import Pool

T = TypeVar("T")


class Bridge(Protocol):
    """Runs a coroutine of the pool and waits for its result."""

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T: ...


class LoopThread:
    """For async drivers: in an event loop of the pool's own, in a background thread.

    The thread is a daemon, ends when the facade is garbage collected, and at the latest
    when the main thread ends.
    """

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._calling: set[object] = set()  # a token for each thread that hands work over
        self._start()

    def _start(self) -> None:
        self._portal: BlockingPortal | None = None
        ready = threading.Event()
        thread = threading.Thread(
            target=anyio.run,
            args=(_serve, weakref.ref(self), ready, self._calling),
            daemon=True,
            name="anypool event loop",
        )
        # A free-threaded Python's threads inherit the context of who starts them.
        Context().run(thread.start)
        ready.wait()
        self.thread = thread
        self._pid = os.getpid()
        _loop_threads.add(self)
        _watch_for_exit(os.getpid())

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        if self._pid != os.getpid():
            # Forked: the thread has stayed with the parent. Others may come at this moment.
            with self._starting:
                if self._pid != os.getpid():
                    self._calling = set()
                    self._start()
        token = object()
        try:
            self._calling.add(token)
            portal = self._portal
            if portal is None:
                raise PoolClosedError(_LOOP_HAS_ENDED)
            future = portal.start_task_soon(_outcome, function, args)
        except RuntimeError:
            if self._portal is not None:
                raise
            raise PoolClosedError(_LOOP_HAS_ENDED) from None
        finally:
            self._calling.discard(token)
        try:
            answer = future.result()
        except BaseException:
            future.cancel()
            raise
        # Taken out, since the portal's frames keep the list, and a traceback keeps those.
        error = answer.pop()
        if error is not None:
            try:
                raise error
            finally:
                del error  # or else it and its traceback would hold each other
        return cast("T", answer.pop())

    def has_ended(self) -> bool:
        return self._portal is None and self._pid == os.getpid()

    def stop(self) -> None:
        """Have the loop end; its pool closes its connections."""
        portal, self._portal = self._portal, None
        if portal is not None and self._pid == os.getpid():
            try:
                portal.start_task_soon(portal.stop)
            except RuntimeError:
                return  # it has ended already

    def __del__(self) -> None:
        self.stop()


async def _outcome(
    function: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...]
) -> list[Any]:
    """Bring an error home as a value: a BaseException would end the portal."""
    try:
        return [await function(*args), None]
    except anyio.get_cancelled_exc_class():
        raise
    except BaseException as error:
        return [None, error]


_LOOP_HAS_ENDED = "this pool is closed, or its event loop has ended with the main thread"


async def _serve(
    weak_bridge: weakref.ref[LoopThread], ready: threading.Event, calling: set[object]
) -> None:
    async with BlockingPortal() as portal:
        bridge = weak_bridge()
        if bridge is None:
            return  # an interrupt came between, and nobody could ever stop it
        bridge._portal = portal
        del bridge
        ready.set()
        await portal.sleep_until_stopped()
    # Who was just handing work over when it stopped must not wait for a loop that runs no
    # more.
    with anyio.move_on_after(bounds.END_TIMEOUT):
        while calling:  # noqa: ASYNC110  # threads set no event of a loop
            await anyio.sleep(0.001)


_loop_threads: weakref.WeakSet[LoopThread] = weakref.WeakSet()


@cache
def _watch_for_exit(pid: int) -> None:
    """See to it, once a process, that all loop threads end in good order with it."""
    # Python joins all threads that are no daemons before it calls atexit functions.
    # Drivers with such threads (aiosqlite) have to be told of the end before that.
    thread = threading.Thread(
        target=_stop_after_main_thread, daemon=True, name="anypool exit"
    )
    Context().run(thread.start)
    atexit.register(_stop_all, wait=1.0)


def _stop_after_main_thread() -> None:
    threading.main_thread().join()
    for thread in threading.enumerate():
        if not thread.daemon and not _is_drivers_own(thread):
            thread.join()
    _stop_all(wait=0)


def _is_drivers_own(thread: threading.Thread) -> bool:
    """Tell whether it is an aiosqlite connection's thread, which waits for us."""
    return "_connection_worker_thread" in thread.name or (
        type(thread).__module__.partition(".")[0] == "aiosqlite"
    )


def _stop_all(wait: float) -> None:
    bridges = list(_loop_threads)
    for bridge in bridges:
        bridge.stop()
    for bridge in bridges:
        if bridge.thread.is_alive():
            bridge.thread.join(wait)


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
