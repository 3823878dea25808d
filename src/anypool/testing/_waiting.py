"""Waiting for what a pool does beside its callers: bounded, and no longer than it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import anyio

_STEP = 0.002


def wait_until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Block this thread until a condition holds.

    Args:
        condition: called again and again, some hundred times a second.
        timeout: seconds after which to give up.

    Raises:
        AssertionError: it did not come to hold.
    """
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while not condition():
        _check(deadline, timeout)
        pause.wait(_STEP)


async def wait_until_async(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Let the event loop run until a condition holds.

    Args:
        condition: called again and again, some hundred times a second.
        timeout: seconds after which to give up.

    Raises:
        AssertionError: it did not come to hold.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        _check(deadline, timeout)
        await anyio.sleep(_STEP)


def _check(deadline: float, timeout: float) -> None:
    assert time.monotonic() < deadline, (
        f"what was waited for did not happen within {timeout:g} s"
    )
