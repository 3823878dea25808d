"""Witness: makes fake connections, and sees whatever a pool may never do to them."""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anypool import ConnectionState
from anypool._core.driver import CannotReset
from anypool._drivers.coroutine import CoroutineDriver
from anypool._drivers.dbapi import DBAPIDriver

LEFT = (
    "transaction",
    "changed",
    "changed transaction",
    "two-phase",
    "busy",
    "busy changed",
    "busy two-phase",
    "refuses",
    "stays",
    "prepared",
)
"""What a caller may leave behind, for Witnessed.leave()."""

STUCK = ("refuses", "stays")
"""What is under way and can't be stopped: an interrupt raises, or is of no avail."""

LOST = (*STUCK, "prepared")
"""What can't be undone; a reset doesn't even say that a prepared transaction stays."""


class Witness:
    """Makes connections; notes every violation of the invariants that it sees.

    A violation is noted and not raised, since the pool might swallow it.

    Attributes:
        connections: all that were made, in order; they are numbered from 1.
        violations: what should not have happened.
        capacity: how many connections may exist at a time.
        keep: of so many connections none may be closed that is quiet, or can be made so,
            unless there is a reason: see excuse().
        resets: whether the pool resets what comes back.
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
        self.keep = 0
        self.resets = True
        self.shared = shared
        self.connections: list[Witnessed] = []
        self.violations: list[str] = []
        self.events: list[tuple[str, int]] = []
        self.before: Callable[[str, Witnessed | None], Awaitable[None] | None] = _nothing
        self._opening = 0
        self._failed = 0
        self._excusing = 0
        self._excused = 0
        self._stops = False
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
        self._stops = True
        return (AsyncWitnessDriver if self.coroutine else WitnessDriver)(**options)

    def _connect(self) -> Witnessed:
        excused = self._begin_connect()
        try:
            self.before("connect", None)
            return self._register(Witnessed, excused)
        except BaseException:
            with self._lock:
                self._opening -= 1
                self._failed += 1
            raise

    async def _connect_async(self) -> Witnessed:
        excused = self._begin_connect()
        try:
            pause = self.before("connect", None)
            if pause is not None:
                await pause
            return self._register(AsyncWitnessed, excused)
        except BaseException:
            with self._lock:
                self._opening -= 1
                self._failed += 1
            raise

    def _begin_connect(self) -> int:
        with self._lock:
            self._opening += 1
            self.events.append(("connect", 0))
            count = self._opening + sum(
                not (each.gone or each.detached) for each in self.connections
            )
            if count > self.capacity:
                self.blame(f"{count} connections, of {self.capacity}")
            return self._excused

    def _register(self, kind: type[Witnessed], excused: int) -> Witnessed:
        with self._lock:
            connection = kind(self, len(self.connections) + 1)
            connection.excused = excused != self._excused
            self.connections.append(connection)
            self._opening -= 1
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
        if not self.shared:
            self.assess(connection)
        connection.holders.append(caller)

    def assess(self, connection: Any) -> None:
        """A caller was given this connection, which nobody else has: is it quiet?"""
        left = connection.left if self.resets else {connection.under_way} - {""}
        if left:
            self.blame(f"connection {connection.number} was handed out {sorted(left)}")

    def given_back(self, connection: Any, caller: object) -> None:
        """A caller is about to let go of this connection."""
        if caller in connection.holders:
            connection.holders.remove(caller)

    @contextmanager
    def excuse(self) -> Iterator[None]:
        """Something is done that closes what there is by now, quiet or not."""
        self._excusing += 1
        try:
            yield
        finally:
            self._excusing -= 1
            # Those included that are just being opened.
            self._excused += 1
            for connection in list(self.connections):
                connection.excused = True

    def look_at_close(self, connection: Witnessed) -> None:
        """A pool begins to close this connection: is there a reason?"""
        # Each slot that has lost its connection may have been kept as it is.
        empty = self._failed + sum(
            each.detached or (each.closed and each.is_lost) for each in self.connections
        )
        if (
            not (connection.is_lost or self._excusing)
            and len(self.open) + empty <= self.keep
        ):
            what = sorted(connection.left) or "quiet"
            self.blame(f"connection {connection.number} was closed, but it was {what}")


class Witnessed:
    """A blocking connection.

    Attributes:
        closed: whether somebody has begun to close it.
        gone: whether its close has ended, in whatever way.
        detached: whether it has left the pool.
        excused: whether there is a reason to close it.
        transaction: whether it has an open transaction.
        two_phase: whether that is one in two phases.
        prepared: whether it is prepared, which no reset ends.
        setting: what is set on the client's side; 0 when it is new.
        under_way: "busy" if something is that an interrupt ends; "refuses" or "stays" if
            it does not end.
        session: what is set in its session.
        holders: who has it.
    """

    def __init__(self, witness: Witness, number: int) -> None:
        self.witness = witness
        self.number = number
        self.closed = False
        self.gone = False
        self.detached = False
        self.excused = False
        self.transaction = False
        self.two_phase = False
        self.prepared = False
        self.setting = 0
        self.under_way = ""
        self.session: set[str] = set()
        self.holders: list[object] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number}>"

    @property
    def left(self) -> set[str]:
        """What would have to be undone before another caller gets it."""
        left = {
            "transaction": self.transaction,
            "two-phase": self.two_phase,
            "prepared": self.prepared,
            "changed": self.setting != 0,
        }
        return {what for what, so in left.items() if so} | ({self.under_way} - {""})

    @property
    def is_lost(self) -> bool:
        """Whether there is a reason to close it."""
        return self.excused or self.detached or bool(self.left & {*LOST})

    def leave(self, what: str) -> None:
        """Be a caller who leaves something behind, one of LEFT."""
        for word in what.split():
            if word == "transaction":
                self.transaction = True
            elif word == "two-phase":
                self.two_phase = True
            elif word == "prepared":
                self.prepared = True
            elif word == "changed":
                self.setting += 1
            elif self.under_way not in STUCK:
                self.under_way = word

    def execute(self, statement: str) -> Any:
        self._do("execute")
        self.transaction = True

    def cursor(self) -> Any:
        self._do("cursor")
        return object()

    def ping(self) -> Any:
        self._do("ping")

    def rollback(self) -> Any:
        self._do("rollback")
        self._ended()

    def commit(self) -> Any:
        self._do("commit")
        self._ended()

    def reset_session(self) -> Any:
        self._do("rollback")
        self._ended()
        self.session.clear()

    def restore(self, setting: int) -> Any:
        self._do("restore")
        self.setting = setting

    def interrupt(self) -> Any:
        self._do("interrupt")
        self._interrupted()

    def close(self) -> Any:
        self._begin("close")
        try:
            self.witness.before("close", self)
        finally:
            self.gone = True

    def _do(self, what: str) -> None:
        self._begin(what)
        try:
            self.witness.before(what, self)
        except BaseException:
            self.excused = True
            raise

    def _ended(self) -> None:
        self.transaction = self.two_phase = False

    def _interrupted(self) -> None:
        if self.under_way == "refuses":
            raise CannotReset
        if self.under_way == "busy":
            self.under_way = ""

    def _begin(self, what: str) -> None:
        witness = self.witness
        witness.events.append((what, self.number))
        # A caller's own doing, where callers share a connection that one of them closes.
        if self.closed and not (witness.shared and what == "execute"):
            witness.blame(f"{what} on connection {self.number}, which was closed before")
        if not witness.shared:  # where others may come and go in the middle of a return
            if self.under_way and what in ("ping", "rollback", "commit", "restore"):
                witness.blame(f"{what} on connection {self.number}, which was busy")
            if what == "interrupt" and self.holders:
                witness.blame(f"{what} on connection {self.number}: {self.holders} has it")
        if what == "close" and not self.closed:
            witness.look_at_close(self)
            self.closed = True


class AsyncWitnessed(Witnessed):
    """The same with coroutine methods."""

    async def execute(self, statement: str) -> Any:
        try:
            await self._async("execute")
        except Exception:
            raise
        except BaseException:
            if self.witness._stops:
                self.leave("busy")
            raise
        self.transaction = True

    async def cursor(self) -> Any:
        await self._async("cursor")
        return object()

    async def ping(self) -> None:
        await self._async("ping")

    async def rollback(self) -> None:
        await self._async("rollback")
        self._ended()

    async def commit(self) -> None:
        await self._async("commit")
        self._ended()

    async def reset_session(self) -> None:
        await self._async("rollback")
        self._ended()
        self.session.clear()

    async def restore(self, setting: int) -> None:
        await self._async("restore")
        self.setting = setting

    async def interrupt(self) -> None:
        await self._async("interrupt")
        self._interrupted()

    async def close(self) -> None:
        try:
            await self._async("close")
        finally:
            self.gone = True

    async def _async(self, what: str) -> None:
        self._begin(what)
        try:
            pause = self.witness.before(what, self)
            if pause is not None:
                await pause
        except BaseException as error:
            # What was cancelled may be gone on with; what has failed may be given up.
            cut_short = not isinstance(error, Exception) and what != "ping"
            self.excused = self.excused or not (cut_short and self.witness._stops)
            raise


class _Telling:
    """What witnesses' drivers have in common: they know the connections' state, as drivers
    of real databases do.

    Args:
        tells: whether the driver can say that no transaction is open.
        interrupts: whether statements can be stopped.
        resets: whether sessions can be reset to what they were at first.
    """

    def __init__(self, *, tells: bool = True, interrupts: bool = True, resets: bool = True):
        self._tells, self._interrupts, self._resets = tells, interrupts, resets

    def baseline(self, connection: Any, /) -> int:
        setting: int = connection.setting
        return setting

    def state(self, connection: Any, baseline: Any, /) -> ConnectionState:
        if connection.closed:
            return ConnectionState.CLOSED
        if connection.under_way:
            return ConnectionState.BUSY
        if connection.setting != baseline:
            return ConnectionState.CHANGED
        if connection.two_phase or connection.prepared:
            return ConnectionState.TWO_PHASE
        in_doubt = not self._tells or connection.transaction
        return ConnectionState.OPEN if in_doubt else ConnectionState.CLEAN

    def reset(self, connection: Any, mode: Any, /) -> Any:
        if mode != "full":
            return getattr(connection, mode)()
        if not self._resets:
            connection.excused = True
            raise CannotReset
        return connection.reset_session()

    def restore(self, connection: Any, baseline: Any, /) -> Any:
        return connection.restore(baseline)

    def interrupt(self, connection: Any, /) -> Any:
        if not self._interrupts:
            connection.under_way = "refuses"
        return connection.interrupt()


class WitnessDriver(_Telling, DBAPIDriver):
    """For blocking connections; see _Telling."""


class AsyncWitnessDriver(_Telling, CoroutineDriver):
    """For connections with coroutine methods; see _Telling.

    Args:
        terminates: whether connections can be closed without waiting.
        options: see _Telling.
    """

    def __init__(self, *, terminates: bool = False, **options: bool):
        super().__init__(**options)
        self._terminates = terminates

    async def ping(self, connection: Any, /) -> None:
        await connection.ping()

    def terminate(self, connection: Any, /) -> bool:
        if self._terminates:
            connection._begin("close")
            connection.gone = True
        return self._terminates


def _nothing(what: str, connection: Witnessed | None) -> None:
    pass
