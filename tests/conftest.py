"""The modes that tests run in, and what is checked after each of them."""

from __future__ import annotations

import gc
import inspect
import signal
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis  # noqa: F401  # looks at who refers to trio's random numbers
import pytest

from anypool._parts.finalizers import lost_callback

from .support.modes import Mode

MODES = ["blocking", "asyncio", "uvloop", "trio", "portal", "threads"]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Iterator[Mode]:
    """Each way to run a pool: threads or event loop, over either kind of driver."""
    current = Mode(request.param)
    yield current
    current.world.on.clear()
    current.world.assert_sound()


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """Let Ctrl-C interrupt: what a shell starts in the background ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_garbage() -> Iterator[None]:
    """Let each test collect its own garbage, and only that.

    What was there before needn't be looked at, which makes collecting a hundred times as
    quick; and what a test leaves behind is found now, not in the middle of the next one.
    """
    gc.freeze()
    yield
    gc.collect()
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _no_slot_is_lost(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """See that no pool needs its last resort: the finalizer of a slot that was lost.

    It makes good for interrupts; and for mistakes, which would stay unseen.
    """
    if request.node.get_closest_marker("interrupts"):
        yield
        return
    lost: list[str] = []

    def watched(weak_pool: weakref.ref[Any]) -> Callable[[Any], None]:
        really = lost_callback(weak_pool)

        def callback(record: Any) -> None:
            if weak_pool() is not None:
                lost.append(repr(record))
            really(record)

        return callback

    monkeypatch.setattr("anypool._pools.assembly.lost_callback", watched)
    yield
    assert lost == []


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function in its mode."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {
        name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames
    }
    mode: Any = arguments["mode"]
    mode.run(lambda: pyfuncitem.obj(**arguments))
    return True
