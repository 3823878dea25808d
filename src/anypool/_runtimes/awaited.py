"""Which tasks a task is waiting for, as far as event loops tell; and names of callers."""

from __future__ import annotations

import sys
from typing import Any


def name_of(caller: Any) -> str:
    """Return the name of a task, or of the thread that stands for a caller.

    Args:
        caller: what a Caller refers to; None if that is no more.
    """
    if caller is None:
        return "a caller that has ended"
    if is_over(caller):
        return f"{_name(caller)} (ended)"
    return _name(caller)


def _name(caller: Any) -> str:
    get_name = getattr(caller, "get_name", None)  # asyncio's
    return str(get_name() if get_name is not None else getattr(caller, "name", caller))


def is_over(caller: Any) -> bool:
    """Tell whether a task or thread has ended."""
    if caller is None:
        return True
    done = getattr(caller, "done", None)
    if done is not None:
        return bool(done())
    ident = getattr(caller, "ident", None)
    if ident is not None:
        return ident not in sys._current_frames()
    coroutine = getattr(caller, "coro", None)  # trio's
    return coroutine is not None and getattr(coroutine, "cr_frame", None) is None


def runs(caller: Any, code: Any) -> bool:
    """Tell whether a task or thread is still in some code; True if it can't be seen."""
    ident = getattr(caller, "ident", None)
    if ident is not None:
        frame = sys._current_frames().get(ident)
        while frame is not None:
            if frame.f_code is code:
                return True
            frame = frame.f_back
        return False
    coroutine = _coroutine(caller)
    if coroutine is None:
        return True
    return any(frame.f_code is code for frame in _frames(coroutine))


def awaited_tasks(task: Any) -> list[Any]:
    """Return the tasks that have to end before this one can go on."""
    nurseries = getattr(task, "child_nurseries", None)  # trio's
    if nurseries is not None:
        return [child for nursery in nurseries for child in nursery.child_tasks]
    future = getattr(task, "_fut_waiter", None)
    if future is None:
        return []
    if _is_task(future):
        return [future]
    children = getattr(future, "_children", None)  # of gather()
    if children is not None:
        return [child for child in children if _is_task(child)]
    # wait_for(), wait() and task groups await a future of their own; the tasks are in their
    # variables.
    found: list[Any] = []
    coroutine = _coroutine(task)
    for frame in _frames(coroutine) if coroutine is not None else ():
        if frame.f_code.co_name in _WAITING:
            for value in frame.f_locals.values():
                found += _tasks_in(value)
    return [each for each in found if not each.done()]


_WAITING = {"wait_for", "wait", "_wait", "__aexit__", "_aexit"}


def _tasks_in(value: Any) -> list[Any]:
    if _is_task(value):
        return [value]
    tasks = getattr(value, "_tasks", None) if not isinstance(value, (set, list)) else value
    if isinstance(tasks, (set, list, tuple)):
        return [each for each in tasks if _is_task(each)]
    return []


def _is_task(value: Any) -> bool:
    return hasattr(value, "get_coro") and hasattr(value, "done")


def _coroutine(task: Any) -> Any:
    get = getattr(task, "get_coro", None)
    return get() if get is not None else getattr(task, "coro", None)


def _frames(coroutine: Any) -> list[Any]:
    """Return the frames of a coroutine that is suspended, the outermost first."""
    frames = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is not None:
            frames.append(frame)
        following = getattr(coroutine, "cr_await", None)
        if following is None and frame is None:
            inner = getattr(coroutine, "ag_frame", None)
            if inner is not None:
                frames.append(inner)
            following = getattr(coroutine, "ag_await", None)
        coroutine = following
    return frames
