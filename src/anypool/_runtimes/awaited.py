"""Which tasks a task is waiting for, as far as event loops tell; and names of callers."""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Iterator
from types import FrameType
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
    if not _tells(code):
        return True
    ident = getattr(caller, "ident", None)
    if ident is not None:
        return code in _codes(sys._current_frames().get(ident))
    coroutine = _coroutine(caller)
    if coroutine is None:
        return True
    if getattr(coroutine, "cr_running", False):  # as when it asks itself
        own = getattr(coroutine, "cr_frame", None)
        stacks = (list(_codes(frame)) for frame in sys._current_frames().values())
        return any(code in stack for stack in stacks if own and own.f_code in stack)
    frames, complete = _suspended(coroutine)
    return not complete or any(frame.f_code is code for frame in frames)


_GENERATORS = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def _tells(code: Any) -> bool:
    """Tell whether code that has been left has left its connection behind.

    Generators, and with them context managers, go on later; ``__enter__()`` and the like
    take something that another method gives back.
    """
    if code.co_flags & _GENERATORS:
        return False
    name = code.co_name
    return not name.startswith("__") and name not in _ENTERING


_ENTERING = {"enter_context", "enter_async_context"}


def _codes(frame: FrameType | None) -> Iterator[Any]:
    """Yield what a stack is in, the innermost first."""
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back


def awaited_tasks(task: Any) -> list[Any]:
    """Return the tasks that have to end before this one can go on."""
    nurseries = getattr(task, "child_nurseries", None)  # trio's
    if nurseries is not None:
        ended = [n for n in nurseries if getattr(n, "_parent_waiting_in_aexit", True)]
        return [child for nursery in ended for child in nursery.child_tasks]
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
        if frame.f_code.co_name in _WAITING and not _races(frame):
            for value in frame.f_locals.values():
                found += _tasks_in(value)
    return [each for each in found if not each.done()]


def _races(frame: Any) -> bool:
    """Tell whether it is enough that one of the tasks ends, as in wait()."""
    return bool(frame.f_locals.get("return_when") == "FIRST_COMPLETED")


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
    return _suspended(coroutine)[0]


def _suspended(awaited: Any) -> tuple[list[Any], bool]:
    """Return the frames of what is suspended, and whether these are all.

    What asynchronous generators give to await names them to the garbage collector only;
    other C code may not tell at all what it awaits.
    """
    frames: list[Any] = []
    while awaited is not None:
        kind = _kind(awaited)
        if kind is None:
            if type(awaited).__name__ == "FutureIter":
                return frames, True
            awaited = next(filter(_kind, gc.get_referents(awaited)), None)
            if awaited is None:
                return frames, False
            continue
        frame = getattr(awaited, f"{kind}_frame")
        if frame is not None:
            frames.append(frame)
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return frames, True


def _kind(awaited: Any) -> str | None:
    """Return how its attributes begin, if it is a coroutine or a generator."""
    for kind in ("cr", "gi", "ag"):
        if hasattr(awaited, f"{kind}_frame"):
            return kind
    return None
