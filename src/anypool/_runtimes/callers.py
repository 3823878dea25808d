"""Whose call a blocking one is: that of a thread, in a context.

A plain thread has one context for all of its life, and is one caller. Whoever runs in a
worker thread for somebody else (asyncio.to_thread, anyio.to_thread, a framework's plain
endpoints, dependencies and generators) runs in a copy of that one's context, and is another
caller than whoever used the thread before.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from .._core.waiter import Caller


class _Marker:
    """Stands for a thread in one context; dies with the context."""

    __slots__ = ("__weakref__", "caller", "thread")

    def __init__(self, thread: object) -> None:
        self.thread = thread
        self.caller: Caller = weakref.ref(self)


class _ThisThread(threading.local):
    """What belongs to each thread.

    Attributes:
        token: stands for the thread. Unlike thread idents, it is never used again.
        caller: the one that called last in this thread. Only weakly, so that a caller ends
            with its context.
    """

    def __init__(self) -> None:
        self.token = object()
        self.caller: Caller | None = None


this_thread = _ThisThread()

# Who calls in this context; and what keeps that one alive.
_caller: ContextVar[Caller | None] = ContextVar("anypool_caller", default=None)
_marker: ContextVar[_Marker | None] = ContextVar("anypool_marker", default=None)

caller_here = _caller.get
"""Returns the caller that was noted in this context: the current one, if it is also that of
this thread, and no event loop runs here, whose tasks inherit contexts."""


def _no_loop() -> Any:
    """Where nobody has imported asyncio, which takes long, there is no loop of its."""
    global running_loop
    ask = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    if ask is None:
        return None
    running_loop = ask
    return ask()


running_loop: Callable[[], Any] = _no_loop
"""Returns the loop of asyncio's that runs in this thread. To be looked up at each call."""


def current_caller() -> Caller:
    """Return the identity of the current thread and context; of the task, in asyncio."""
    # Facades look at these by themselves first, which takes 0.05 µs.
    caller = this_thread.caller
    if caller is not None and caller_here() is caller and running_loop() is None:
        return caller
    return find_caller()


def find_caller() -> Caller:
    """The same, where it isn't the one that called last in this thread."""
    loop = running_loop()
    if loop is not None:
        task = sys.modules["asyncio"].current_task(loop)
        if task is not None:
            this_thread.caller = caller = weakref.ref(task)
            return caller
    marker = _marker.get()
    # A context's copy has its marker, too: in another thread, that isn't the caller.
    if marker is None or marker.thread is not this_thread.token:
        marker = _Marker(this_thread.token)
        _marker.set(marker)
        _caller.set(marker.caller)
    this_thread.caller = marker.caller
    return marker.caller
