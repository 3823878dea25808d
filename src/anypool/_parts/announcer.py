"""Announcer: tells the listeners what happens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, Generic

from typing_extensions import TypeVar

from .._core.listeners import FirstConnectListener, Listeners
from .._core.log import PoolLog
from .._core.record import ConnectionRecord
from .._core.waiter import Caller

ConnT = TypeVar("ConnT")


class Label:
    """Names a record's connection in a log line, if that is written at all."""

    def __init__(self, record: ConnectionRecord[Any]) -> None:
        self._record = record

    def __str__(self) -> str:
        return self._record._label()


class Announcer(Generic[ConnT]):
    """Calls listeners where they may be called.

    Attributes:
        listeners: those of the pool.
        log: where what they raise is told.
        chatty: whether every checkout and return is logged.
    """

    __slots__ = (
        "_first_mutex",
        "_first_teller",
        "_runtime",
        "_untold",
        "chatty",
        "listeners",
        "log",
    )

    def __init__(self, runtime: Any, listeners: Any, log: PoolLog) -> None:
        self._runtime = runtime
        self.log = log
        self.chatty = log.enabled(10)
        self.listeners: Listeners[ConnT, Any] = Listeners(listeners)
        # Who has not been told of the first connection; who may tell them, and who does.
        self._untold: deque[FirstConnectListener[ConnT]] = deque(
            self.listeners.on_first_connect
        )
        self.clear()

    def clear(self) -> None:
        """The runtime is a new one."""
        self._first_teller: Caller | None = None
        # In an event loop it is made by need, since it belongs to that.
        self._first_mutex: Any = self._runtime.mutex() if self._runtime.blocking else None

    def add(self, listener: Any) -> None:
        """Add a listener.

        Raises:
            TypeError: it has none of the methods of a listener.
        """
        told = len(self.listeners.on_first_connect)
        self.listeners.add(listener)
        self._untold.extend(self.listeners.on_first_connect[told:])

    async def tell(
        self, record: ConnectionRecord[ConnT], method: Callable[..., Any], *args: Any
    ) -> None:
        """Call one listener's method; what it raises is raised."""
        in_thread = record._driver.blocking and not iscoroutinefunction(method)
        await self._runtime.call(in_thread, method, *args)

    async def hear_out(self, answer: Any) -> None:
        """Await what a listener has returned that was called already."""
        await self._runtime.call(False, lambda: answer)

    async def tell_of_end(
        self, record: ConnectionRecord[ConnT], method: Callable[..., Any], *args: Any
    ) -> None:
        """Tell a listener of what can't be changed any more: its errors are logged."""
        try:
            await self.tell(record, method, *args)
        except Exception as error:
            complain = self.log.exception
            complain("A listener's %s() failed", error, method.__name__)

    async def tell_connect(self, record: ConnectionRecord[ConnT]) -> None:
        for listener in self.listeners.on_connect:
            await self.tell(record, listener.connect, record.connection, record)

    async def tell_first_connect(self, record: ConnectionRecord[ConnT]) -> None:
        """Tell those who have not been told; other connects wait for that."""
        if not self._untold or self._first_teller == self._runtime.caller():
            return  # or such a listener has come for another connection itself
        if self._runtime.blocking:
            with self._first_mutex:
                await self._tell_untold(record)
        else:
            self._first_mutex = self._first_mutex or self._runtime.mutex()
            async with self._first_mutex:
                await self._tell_untold(record)

    async def _tell_untold(self, record: ConnectionRecord[ConnT]) -> None:
        self._first_teller = self._runtime.caller()
        try:
            while self._untold:
                listener = self._untold[0]
                await self.tell(record, listener.first_connect, record.connection, record)
                self._untold.popleft()
        finally:
            self._first_teller = None
