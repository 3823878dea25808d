"""Nobody's context: a pool keeps no request's variables, and shows them to no creator."""

from __future__ import annotations

import contextvars
import gc
import weakref
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from .support.modes import Mode

request_variable: contextvars.ContextVar[Any] = contextvars.ContextVar("request")


class Request:
    """What a request's context refers to."""


def seen() -> Any:
    return request_variable.get(None)


async def in_a_request(mode: Mode, work: Callable[[], Any]) -> weakref.ref[Request]:
    """Run work as a request with a variable of its own; return a reference to that."""
    request = Request()
    reference = weakref.ref(request)
    context = contextvars.Context()
    context.run(request_variable.set, request)
    del request
    if mode.blocking:
        lease = context.run(work)
        context.run(lease.close)
        del lease
    else:

        async def task() -> None:
            request_variable.set(reference())
            await work()

        async with anyio.create_task_group() as group:
            group.start_soon(task)
    del context
    return reference


async def is_gone(mode: Mode, reference: weakref.ref[Any]) -> None:
    await mode.settle()

    def gone() -> bool:
        gc.collect()
        return reference() is None

    await mode.until(gone)


@pytest.mark.parametrize("opened", [False, True])
async def test_request_that_makes_the_pool_connect(mode: Mode, opened: bool) -> None:
    found: list[Any] = []
    create = mode.world.connect

    def creator() -> Any:
        found.append(seen())
        return awaited() if mode.world.coroutine else create()

    async def awaited() -> Any:
        await anyio.lowlevel.checkpoint()
        found.append(seen())
        return await create()

    pool = mode.pool(creator=creator, pool_size=2)
    if opened:
        await mode.go(pool.open())

    async def checkout() -> None:
        async with pool.connect():
            pass

    reference = await in_a_request(mode, pool.connect if mode.blocking else checkout)
    await is_gone(mode, reference)
    assert found
    assert set(found) == {None}
    await mode.go(pool.close())


async def test_listeners_see_their_callers_context(mode: Mode) -> None:
    """Those who are told what happens to whom; connects may be for anyone."""
    if mode.name in ("portal", "threads"):
        pytest.skip("one mode of each kind is enough")
    found: list[Any] = []

    class Listener:
        def checkout(self, connection: Any, record: Any, lease: Any) -> None:
            found.append(seen())

    pool = mode.pool(listeners=[Listener()])

    async def checkout() -> None:
        async with pool.connect():
            pass

    await in_a_request(mode, pool.connect if mode.blocking else checkout)
    assert [type(each) for each in found] == [Request]
    found.clear()
    await mode.go(pool.close())


async def test_request_that_waits(mode: Mode) -> None:
    """A timer that it starts serves others as well, and may outlive it."""
    if mode.blocking:
        pytest.skip("timers of event loops")
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=60)
    lease = await pool.connect()
    reference: list[Any] = []

    async def waits() -> None:
        async def checkout() -> None:
            async with pool.connect():
                pass

        reference.append(await in_a_request(mode, checkout))

    async def waits_longer() -> None:
        async with pool.connect():
            await mode.until(lambda: reference)
            await is_gone(mode, reference[0])

    async with anyio.create_task_group() as group:
        group.start_soon(waits)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(waits_longer)
        await anyio.wait_all_tasks_blocked()
        await lease.close()
    await pool.close()


async def test_request_whose_lease_is_lost(mode: Mode) -> None:
    if mode.blocking:
        pytest.skip("its connection is returned there and then")
    pool = mode.pool()
    found: list[Any] = []
    mode.world.on["rollback"] = lambda: found.append(seen())

    async def lose() -> None:
        with pytest.warns(ResourceWarning):
            await pool.connect()
            gc.collect()

    reference = await in_a_request(mode, lose)
    await mode.until(lambda: found)
    assert found == [None]
    await is_gone(mode, reference)
    await pool.close()
