"""Whose call a blocking one is: that of a thread, in a context.

A plain thread has one context for all of its life, and is one caller. Whoever runs in a
worker thread for somebody else (asyncio.to_thread, anyio.to_thread, a framework's plain
endpoints, dependencies and generators) runs in a copy of that one's context, and is another
caller than whoever used the thread before. In event loops, each task is one; in threads
that asgiref lends, each call.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any

from .._core.waiter import Caller


class _Marker:
    """Stands for a thread in one context; dies with the first of them to end."""

    __slots__ = ("__weakref__", "caller", "ident", "name")

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        self.name = threading.current_thread().name
        self.caller: Caller = weakref.ref(self)


class _Holder:
    """Stands for a context, which has it, and for its copies.

    A context may outlive its thread: from Python 3.14 on, a thread object has one, and
    without the GIL the threads that it starts have copies.
    """

    __slots__ = ("__weakref__",)


class _ThisThread(threading.local):
    """What belongs to each thread.

    Attributes:
        markers: those of the contexts that called in this thread, as long as these live.
        caller: the one that called last in this thread. Only weakly, so that a caller ends
            with its context.
    """

    def __init__(self) -> None:
        self.markers: weakref.WeakKeyDictionary[_Holder, _Marker]
        self.markers = weakref.WeakKeyDictionary()
        self.caller: Caller | None = None


this_thread = _ThisThread()

# Who calls in this context; and what the thread keeps that one alive for.
_caller: ContextVar[Caller | None] = ContextVar("anypool_caller", default=None)
_holder: ContextVar[_Holder | None] = ContextVar("anypool_holder", default=None)

caller_here = _caller.get
"""Returns the caller that was noted in this context: the current one, if it is also that of
this thread, and no event loop runs here, whose tasks inherit contexts."""


def _nowhere() -> Any:
    """Where nobody has imported an event loop, which takes long, there is none."""
    if "asyncio" in sys.modules or "trio" in sys.modules:  # asgiref imports asyncio
        _notice()
        if running_loop is not _nowhere:
            return running_loop()
    return None


running_loop: Callable[[], Any] = _nowhere
"""Returns something true where a thread and its context don't tell who calls: where a loop
of asyncio's runs, or a task of trio's, or in a thread of asgiref's. To be looked up at each
call, since what it looks at depends on what is imported."""

_noticed: tuple[Any, ...] = ()


def _notice() -> None:
    """See what has been imported by now."""
    global running_loop, _noticed
    modules = sys.modules
    # A module that is just being imported may not have everything yet.
    loop_of_asyncio = getattr(modules.get("asyncio"), "_get_running_loop", None)
    in_trio = getattr(getattr(modules.get("trio"), "lowlevel", None), "in_trio_task", None)
    asgiref = getattr(modules.get("asgiref.sync"), "SyncToAsync", None)
    found = loop_of_asyncio, in_trio, asgiref
    if found == _noticed:
        return
    if in_trio is not None or asgiref is not None:
        running_loop = _anywhere(*found)
    elif loop_of_asyncio is not None:
        running_loop = loop_of_asyncio
    _noticed = found


def _anywhere(
    loop_of_asyncio: Callable[[], Any] | None,
    in_trio: Callable[[], bool] | None,
    asgiref: Any,
) -> Callable[[], Any]:
    """Make running_loop() where there is more than asyncio."""
    of_asyncio = loop_of_asyncio or _never
    # What in_trio_task() looks at, and what asgiref sets. hasattr() takes 0.2 µs for what
    # a thread doesn't have; to look into its dictionary takes 0.07.
    tasks = getattr(sys.modules.get("trio._core._run"), "GLOBAL_RUN_CONTEXT", None)
    threads = asgiref and asgiref.threadlocal
    if in_trio is None:
        return lambda: of_asyncio() or "main_event_loop" in threads.__dict__
    if not isinstance(tasks, threading.local):  # trio has it no longer
        return lambda: of_asyncio() or in_trio() or hasattr(threads, "main_event_loop")
    if asgiref is None:
        return lambda: of_asyncio() or "task" in tasks.__dict__
    return lambda: (
        of_asyncio() or "task" in tasks.__dict__ or "main_event_loop" in threads.__dict__
    )


def _never() -> bool:
    return False


def _current_task() -> Any:
    """Return the task that runs here, of asyncio or of trio, if any."""
    loop_of_asyncio, in_trio, _ = _noticed
    if loop_of_asyncio is not None and loop_of_asyncio() is not None:
        task = sys.modules["asyncio"].current_task()
        if task is not None:
            return task
    return sys.modules["trio"].lowlevel.current_task() if in_trio and in_trio() else None


def _call_of_asgiref() -> Any:
    """Return what stands for the call of sync_to_async() that this thread was lent for.

    Such a thread may serve everybody, and what is set in its context is handed back to the
    caller's, and from there on to whoever that starts: it doesn't tell them apart.
    """
    code = _noticed[2].thread_handler.__code__
    call: FrameType | None = None
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is code:
            call = frame  # of nested ones, the first
        elif frame.f_code.co_name == "run_until_future":
            call = None  # back in a thread that is somebody's already
        frame = frame.f_back
    return call.f_locals.get("func") if call is not None else None


def current_caller() -> Caller:
    """Return the identity of the thread and context; of the task, in event loops."""
    # Facades look at these by themselves first, which takes 0.05 µs.
    caller = this_thread.caller
    if caller is not None and caller_here() is caller and not running_loop():
        return caller
    return find_caller()


def find_caller() -> Caller:
    """The same, where it isn't the one that called last in this thread."""
    _notice()
    if running_loop():
        current = _current_task()
        asgiref = _noticed[2]
        if current is None and hasattr(asgiref and asgiref.threadlocal, "main_event_loop"):
            current = _call_of_asgiref()
        if current is not None:
            this_thread.caller = caller = weakref.ref(current)
            return caller
    holder = _holder.get()
    # A context's copy has its holder, too: in another thread, that isn't the caller.
    marker = None if holder is None else this_thread.markers.get(holder)
    if marker is None:
        holder, marker = _Holder(), _Marker()
        this_thread.markers[holder] = marker
        _holder.set(holder)
        _caller.set(marker.caller)
    this_thread.caller = marker.caller
    return marker.caller
