"""Hosts: callers of a pool that do what they are told, one thing at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from inspect import isawaitable
from typing import Any

import anyio
import anyio.lowlevel
from anyio.from_thread import BlockingPortal, start_blocking_portal

from .modes import PATIENCE

SETTLING = 2.0
"""Seconds that callers may take for what they should do at once."""


class Order:
    """Something that a caller is to do.

    Attributes:
        result, error: what came of it, when it is done.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work: Callable[[], Any] | None = work
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.cancel: Callable[[], object] | None = None


class ThreadHost:
    """Callers that are threads."""

    blocking = True

    def __init__(self) -> None:
        self._inboxes: dict[int, queue.SimpleQueue[Order | None]] = {}
        self._threads: list[threading.Thread] = []

    def order(self, caller: int, work: Callable[[], Any]) -> Order:
        """Have a caller do something; see settle()."""
        if caller not in self._inboxes:
            inbox = self._inboxes[caller] = queue.SimpleQueue()
            thread = threading.Thread(target=self._live, args=(inbox,), daemon=True)
            self._threads.append(thread)
            thread.start()
        order = Order(work)
        self._inboxes[caller].put(order)
        return order

    def _live(self, inbox: queue.SimpleQueue[Order | None]) -> None:
        while (order := inbox.get()) is not None:
            try:
                assert order.work is not None
                order.result = order.work()
            except BaseException as error:
                order.error = error.with_traceback(None)
            order.work = None
            order.done = True
            del order

    def settle(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        pause = threading.Event()
        for number in range(int(SETTLING / 0.002)):
            if condition():
                return
            pause.wait(0.0001 if number < 100 else 0.002)
        raise AssertionError("callers don't do what the model says")

    def close(self) -> None:
        for inbox in self._inboxes.values():
            inbox.put(None)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


class TaskHost:
    """Callers that are tasks, in an event loop of their own."""

    blocking = False

    def __init__(self, backend: str) -> None:
        self._manager: AbstractContextManager[BlockingPortal] = start_blocking_portal(
            backend
        )
        self._portal = self._manager.__enter__()
        self._inboxes: dict[int, Any] = {}

    def order(self, caller: int, work: Callable[[], Any]) -> Order:
        if caller not in self._inboxes:
            send, receive = anyio.create_memory_object_stream[Order](10)
            self._inboxes[caller] = send
            self._portal.start_task_soon(self._live, receive)
        order = Order(work)
        self._portal.call(self._inboxes[caller].send_nowait, order)
        return order

    async def _live(self, inbox: Any) -> None:
        with inbox:
            async for order in inbox:
                await _obey(order)
                del order

    def settle(self, condition: Callable[[], object]) -> None:
        for _ in range(50):
            self._portal.call(_let_go_on)
            if condition():
                return
        raise AssertionError("callers don't do what the model says")

    def in_loop(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the loop's thread."""
        return self._portal.call(function, *args)

    def close(self) -> None:
        for inbox in self._inboxes.values():
            self._portal.call(inbox.close)
        # After a failure, some may wait for what will never come.
        self._portal.call(self._portal.stop, True)
        self._manager.__exit__(None, None, None)


async def _obey(order: Order) -> None:
    with anyio.CancelScope() as scope:
        order.cancel = scope.cancel
        try:
            assert order.work is not None
            result = order.work()
            order.result = await result if isawaitable(result) else result
        except anyio.get_cancelled_exc_class() as error:
            order.error = error.with_traceback(None)
            raise
        except BaseException as error:
            order.error = error.with_traceback(None)
        finally:
            order.work = order.cancel = None
            order.done = True


async def _let_go_on() -> None:
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
