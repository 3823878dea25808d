"""Trial: one pool in one mode, in which a caller leaves something and another comes."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from anypool import ConnectionRecord, ConnectionState, Driver, ResetMode

from ._endings import Ending, endings_of
from ._hooks import Hooks
from ._reach import async_pool, chosen_driver
from ._stage import Stage

_marks = itertools.count(int.from_bytes(os.urandom(3), "big") * 64 + 1)


def new_mark() -> int:
    """Return a number that no row has yet; it fits 31 bits."""
    return next(_marks)


class Trial:
    """A pool of one connection.

    As an async context manager it is closed in the end, which must leave nothing behind.

    Attributes:
        pool: the pool.
        seen: the connections that it has opened.
        kept: what callers still refer to.
    """

    def __init__(
        self, hooks: Hooks[Any], stage: Stage, reset: ResetMode | None, **options: Any
    ) -> None:
        self._hooks, self._stage = hooks, stage
        self._reset = reset
        self._where = f"{stage.mode}, reset_on_return={reset!r}"
        self.seen: list[Any] = []
        self.kept: list[Any] = []
        self._made: object = None
        self._baselines: dict[int, Any] = {}
        self.pool = stage.pool(
            self._creator(),
            reset_on_return=reset,
            driver=hooks.driver,
            listeners=[self],
            timeout=hooks.bound,
            **({"pool_size": 1, "max_overflow": 0} | options),
        )

    def _creator(self) -> Callable[[], Any]:
        connect = self._hooks.connect
        if iscoroutinefunction(connect):
            # Pools tell an async driver by that.
            async def create_async() -> Any:
                making: Any = connect()
                connection = await making
                self._made = making
                return connection

            return create_async

        def create() -> Any:
            self._made = made = connect()
            return made

        return create

    def connect(self, connection: Any, record: ConnectionRecord[Any]) -> None:
        """Be told of a new connection, or of one that was reset in full."""
        if not any(each is connection for each in self.seen):
            self.seen.append(connection)
            self._baselines[id(connection)] = self.driver(connection).baseline(connection)

    def driver(self, connection: object) -> Driver[Any]:
        return self._hooks.driver or chosen_driver(connection, self._made)

    def state(self, connection: object) -> ConnectionState:
        return self.driver(connection).state(connection, self._baselines[id(connection)])

    async def call(self, hook: Callable[..., Any], *args: Any) -> Any:
        """Call a hook where the connection may be used."""
        return await self._stage.go(self.pool.call(hook, *args))

    async def __aenter__(self) -> Trial:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self._stage.go(self.pool.close(self._hooks.bound if kind is None else 0))
        if kind is None:
            await self._check_end()

    async def _check_end(self) -> None:
        stats = self.pool.stats()
        assert stats.size == stats.checked_out == 0, f"{self._where}: slots left: {stats}"
        closed = sum(stats.closed.values())
        assert stats.opened == closed, (
            f"{self._where}: {stats.opened} connections were opened, {closed} closed"
        )
        for each in self.seen:
            await self._stage.until(partial(self._is_closed, each), self._bound)

    @property
    def _bound(self) -> float:
        return self._hooks.bound

    def _is_closed(self, connection: Any) -> bool:
        return self._hooks.is_closed(connection, self.driver(connection))

    def endings(self, *names: str) -> dict[str, Ending]:
        """Return the endings of these names, or all that there are here."""
        there = endings_of(self._stage)
        return {name: there[name] for name in names or there if name in there}

    async def leave(
        self, name: str, ending: Ending, make: Callable[..., Any] | None, *args: Any
    ) -> Any:
        """Be a caller who leaves a connection in some state; return the connection.

        Args:
            name: of the ending.
            ending: in which way.
            make: a hook, or None to use the connection and leave it clean.
            args: of the hook, after the connection.
        """
        left: list[Any] = []

        async def use(connection: Any) -> None:
            left.append(connection)
            if make is not None:
                self.kept.append(await self.call(make, connection, *args))

        start = await ending(self._stage, self.pool, use)
        await self._stage.until(self._is_free, self._bound)
        lasted = time.monotonic() - start
        assert lasted < self._bound, (
            f"{self._where}, {name}: the return took {lasted:.1f} s"
        )
        return left[0]

    def _is_free(self) -> bool:
        return bool(async_pool(self.pool).stats().checked_out == 0)

    @asynccontextmanager
    async def next(self, name: str, *, as_left: bool = False) -> AsyncIterator[Any]:
        """Be the next caller, who must find a quiet connection.

        Args:
            name: how the one before has ended.
            as_left: whether a transaction may be open, which the caller before has left.
        """
        where = f"{self._where}, {name}"
        lease = await self._stage.go(self.pool.connect())
        try:
            connection = lease.connection
            state = self.state(connection)
            quiet = [ConnectionState.CLEAN]
            if as_left:
                quiet = [*ConnectionState]
                quiet.remove(ConnectionState.BUSY)
                quiet.remove(ConnectionState.CLOSED)
            elif not self._hooks.tells_open:
                quiet.append(ConnectionState.OPEN)
            assert state in quiet, f"{where}: the next caller's connection is {state.value}"
            yield connection
            try:
                await self.call(self._hooks.use, connection)
            except Exception as error:
                raise AssertionError(
                    f"{where}: the next caller's connection does not work"
                ) from error
        finally:
            # With None, what this caller has begun would be the next one's, too.
            if as_left or self._reset is None:
                await self._stage.go(lease.invalidate())
            else:
                await self._stage.go(lease.close())

    def check(self, condition: object, name: str, what: str) -> None:
        """Raise an AssertionError that says where, unless the condition holds."""
        assert condition, f"{self._where}, {name}: {what}"


async def settled(result: Awaitable[Any] | Any) -> Any:
    """Await what can be awaited."""
    return await result if hasattr(result, "__await__") else result
