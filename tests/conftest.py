"""The modes that tests run in, and what is checked after each of them."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator
from typing import Any

import hypothesis  # noqa: F401  # looks at who refers to trio's random numbers
import pytest

from .support.modes import Mode

MODES = ["blocking", "asyncio", "uvloop", "trio", "portal", "threads"]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Iterator[Mode]:
    """Each way to run a pool: threads or event loop, over either kind of driver."""
    current = Mode(request.param)
    yield current
    current.world.on.clear()
    current.world.assert_sound()


@pytest.fixture
def pool_kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function in its mode."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {
        name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames
    }
    mode: Any = arguments["mode"]
    gc.freeze()  # all there is by now needn't be looked at: that makes collecting quick
    try:
        mode.run(lambda: pyfuncitem.obj(**arguments))
        # What a test left behind is found now, and not in the middle of the next one.
        gc.collect()
    finally:
        gc.unfreeze()
    return True
