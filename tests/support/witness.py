"""Witness: makes fake connections, and sees whatever a pool may never do to them."""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from anypool import ConnectionState
from anypool._core.driver import CannotReset
from anypool._drivers.coroutine import CoroutineDriver
from anypool._drivers.dbapi import DBAPIDriver


class Witness:
    """Makes connections; notes every violation of the invariants that it sees.

    A violation is noted and not raised, since the pool might swallow it.

    Attributes:
        connections: all that were made, in order; they are numbered from 1.
        violations: what should not have happened.
        capacity: how many connections may exist at a time.
        shared: whether callers may share a connection.
        before: called before each operation with its name and its connection, None for
            "connect"; may block or raise. In a witness of coroutines its result is awaited.
        events: (what, number of the connection), in order.
    """

    def __init__(
        self, *, coroutine: bool, capacity: float = math.inf, shared: bool = False
    ) -> None:
        self.coroutine = coroutine
        self.capacity = capacity
        self.shared = shared
        self.connections: list[Witnessed] = []
        self.violations: list[str] = []
        self.events: list[tuple[str, int]] = []
        self.before: Callable[[str, Witnessed | None], Awaitable[None] | None] = _nothing
        self._opening = 0
        self._lock = threading.Lock()

    def connect(self) -> Any:
        """Connect: a creator for pools; a coroutine in a witness of coroutines."""
        return self._connect_async() if self.coroutine else self._connect()

    @property
    def creator(self) -> Callable[[], Any]:
        """The same, as a coroutine function where it makes coroutines."""
        return self._connect_async if self.coroutine else self._connect

    def driver(self, **options: bool) -> Any:
        """Return a driver that can look at a connection's state; see WitnessDriver."""
        return (AsyncWitnessDriver if self.coroutine else WitnessDriver)(**options)

    def _connect(self) -> Witnessed:
        self._begin_connect()
        try:
            self.before("connect", None)
            return self._register(Witnessed)
        finally:
            self._end_connect()

    async def _connect_async(self) -> Witnessed:
        self._begin_connect()
        try:
            pause = self.before("connect", None)
            if pause is not None:
                await pause
            return self._register(AsyncWitnessed)
        finally:
            self._end_connect()

    def _begin_connect(self) -> None:
        with self._lock:
            self._opening += 1
            self.events.append(("connect", 0))
            count = self._opening + sum(
                not (each.gone or each.detached) for each in self.connections
            )
            if count > self.capacity:
                self.blame(f"{count} connections, of {self.capacity}")

    def _end_connect(self) -> None:
        with self._lock:
            self._opening -= 1

    def _register(self, kind: type[Witnessed]) -> Witnessed:
        connection = kind(self, len(self.connections) + 1)
        self.connections.append(connection)
        return connection

    def blame(self, what: str) -> None:
        self.violations.append(what)

    @property
    def open(self) -> list[int]:
        """The numbers of the connections that nobody has begun to close."""
        return [each.number for each in self.connections if not each.closed]

    # What harnesses say of their callers.

    def handed_out(self, connection: Any, caller: object) -> None:
        """A caller was given this connection."""
        number = connection.number
        if connection.closed and not self.shared:
            self.blame(f"connection {number} was handed out closed")
        if connection.holders and not self.shared:
            self.blame(f"connection {number} is {connection.holders}'s and {caller}'s")
        if connection.transaction and not self.shared:
            self.blame(f"connection {number} was handed out in a transaction")
        connection.holders.append(caller)

    def given_back(self, connection: Any, caller: object) -> None:
        """A caller is about to let go of this connection."""
        if caller in connection.holders:
            connection.holders.remove(caller)


class Witnessed:
    """A blocking connection.

    Attributes:
        closed: whether somebody has begun to close it.
        gone: whether its close has ended, in whatever way.
        detached: whether it has left the pool.
        transaction: whether it has an open transaction.
        session: what is set in its session.
        holders: who has it.
    """

    def __init__(self, witness: Witness, number: int) -> None:
        self.witness = witness
        self.number = number
        self.closed = False
        self.gone = False
        self.detached = False
        self.transaction = False
        self.session: set[str] = set()
        self.holders: list[object] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number}>"

    def execute(self, statement: str) -> Any:
        self._begin("execute")
        self.witness.before("execute", self)
        self.transaction = True

    def cursor(self) -> Any:
        self._begin("cursor")
        self.witness.before("cursor", self)
        return object()

    def ping(self) -> Any:
        self._begin("ping")
        self.witness.before("ping", self)

    def rollback(self) -> Any:
        self._begin("rollback")
        self.witness.before("rollback", self)
        self.transaction = False

    def commit(self) -> Any:
        self._begin("commit")
        self.witness.before("commit", self)
        self.transaction = False

    def reset_session(self) -> Any:
        self._begin("rollback")
        self.witness.before("rollback", self)
        self.transaction = False
        self.session.clear()

    def close(self) -> Any:
        self._begin("close")
        try:
            self.witness.before("close", self)
        finally:
            self.gone = True

    def _begin(self, what: str) -> None:
        witness = self.witness
        witness.events.append((what, self.number))
        # A caller's own doing, where callers share a connection that one of them closes.
        if self.closed and not (witness.shared and what == "execute"):
            witness.blame(f"{what} on connection {self.number}, which was closed before")
        if what == "close":
            self.closed = True


class AsyncWitnessed(Witnessed):
    """The same with coroutine methods."""

    async def execute(self, statement: str) -> Any:
        await self._async("execute")
        self.transaction = True

    async def cursor(self) -> Any:
        await self._async("cursor")
        return object()

    async def ping(self) -> None:
        await self._async("ping")

    async def rollback(self) -> None:
        await self._async("rollback")
        self.transaction = False

    async def commit(self) -> None:
        await self._async("commit")
        self.transaction = False

    async def reset_session(self) -> None:
        await self._async("rollback")
        self.transaction = False
        self.session.clear()

    async def close(self) -> None:
        try:
            await self._async("close")
        finally:
            self.gone = True

    async def _async(self, what: str) -> None:
        self._begin(what)
        pause = self.witness.before(what, self)
        if pause is not None:
            await pause


class WitnessDriver(DBAPIDriver):
    """Knows the connections' state, as drivers of real databases do.

    Args:
        tells: whether the driver can say that no transaction is open.
        interrupts: whether statements can be stopped.
        resets: whether sessions can be reset to what they were at first.
    """

    def __init__(self, *, tells: bool = True, interrupts: bool = True, resets: bool = True):
        self._tells, self._interrupts, self._resets = tells, interrupts, resets

    def state(self, connection: Any, baseline: Any, /) -> ConnectionState:
        if not self.is_open(connection):
            return ConnectionState.CLOSED
        in_doubt = not self._tells or connection.transaction
        return ConnectionState.OPEN if in_doubt else ConnectionState.CLEAN

    def reset(self, connection: Any, mode: Any, /) -> Any:
        if mode != "full":
            return getattr(connection, mode)()
        if not self._resets:
            raise CannotReset
        return connection.reset_session()

    def interrupt(self, connection: Any, /) -> None:
        connection.witness.events.append(("interrupt", connection.number))
        if not self._interrupts:
            raise CannotReset


class AsyncWitnessDriver(CoroutineDriver):
    """The same for connections with coroutine methods.

    Args:
        tells, interrupts, resets: see WitnessDriver.
        terminates: whether connections can be closed without waiting.
    """

    def __init__(
        self,
        *,
        tells: bool = True,
        interrupts: bool = True,
        resets: bool = True,
        terminates: bool = False,
    ):
        self._tells, self._interrupts, self._resets = tells, interrupts, resets
        self._terminates = terminates

    def state(self, connection: Any, baseline: Any, /) -> ConnectionState:
        if not self.is_open(connection):
            return ConnectionState.CLOSED
        in_doubt = not self._tells or connection.transaction
        return ConnectionState.OPEN if in_doubt else ConnectionState.CLEAN

    def reset(self, connection: Any, mode: Any, /) -> Any:
        if mode != "full":
            return getattr(connection, mode)()
        if not self._resets:
            raise CannotReset
        return connection.reset_session()

    async def interrupt(self, connection: Any, /) -> None:
        connection.witness.events.append(("interrupt", connection.number))
        if not self._interrupts:
            raise CannotReset

    async def ping(self, connection: Any, /) -> None:
        await connection.ping()
        await connection.rollback()

    def terminate(self, connection: Any, /) -> bool:
        if self._terminates:
            connection._begin("close")
            connection.gone = True
        return self._terminates


def _nothing(what: str, connection: Witnessed | None) -> None:
    pass
