"""Life: a pool is opened, looked after, drained and closed, and tells how it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import Final, Self
from weakref import ref

from typing_extensions import TypeVar

from .._core.options import check_seconds
from .._core.record import ConnectionRecord
from .._core.stats import PoolStats
from .checkouts import Checkouts
from .closes import CLOSE_TIMEOUT
from .finalizers import terminate_connection

ConnT = TypeVar("ConnT")

CLOSE_AT_ONCE: Final = 16
"""How many connections are closed at a time."""


class Life(Checkouts[ConnT]):
    """What happens to a pool as a whole."""

    __slots__ = ()

    async def open(self) -> None:
        """Begin to look after the pool; the same as entering ``async with pool``.

        A pool that is never opened works, too. An opened one connects in the background, so
        that who waits gets the first connection that comes free, new or returned; it pings,
        renews and closes idle connections as the options say. Does nothing if it is open.

        Raises:
            PoolClosedError: the pool was closed.
        """
        self._runtime.caller()
        self._decide(self._begin_life)
        self._look_after()

    async def wait(self, timeout: float | None = 30.0) -> None:
        """Wait until an opened pool has the connections that it shall have at least.

        Args:
            timeout: seconds; None: no limit.

        Raises:
            PoolTimeoutError: they could not be opened in time; its cause is the driver's
                error, if there was one.
            PoolClosedError: the pool is closed.
        """
        check_seconds("timeout", timeout)
        self._decide(self._check_open)

    async def close(self, timeout: float | None = 10.0) -> None:
        """Close the pool for good, with all its connections.

        From now on checkouts, and those who wait, get a PoolClosedError. Idle connections
        are closed at once, and the others when they return. Those that are still out after
        the timeout are terminated. Detached connections aren't the pool's any more.

        Args:
            timeout: seconds to wait for what is out; None: no limit; 0: don't wait.
        """
        check_seconds("timeout", timeout)
        self._runtime.caller()
        deadline = None if timeout is None else self._runtime.now() + timeout
        idle = self._decide(self._begin_close)
        try:
            await self._close_at_once(idle)
            await self._wait_while(self._busy, deadline)
        finally:
            # Whatever came between: nothing survives.
            self._give_up()
            left = 0.0 if deadline is None else deadline - self._runtime.now()
            left = min(max(1.0, left), CLOSE_TIMEOUT)
            try:
                await self._runtime.complete(self._let_end(left))
            finally:
                self._give_up(in_the_end=True)
        self._log.info("Pool closed. %s", self.status())

    async def drain(self) -> None:
        """Have all connections replaced by and by: those that are out when they return,
        idle ones in the background, or in a pool that isn't open when they are next used.
        """
        self._runtime.caller()
        self._decide(self._age)
        self._kick()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None or isinstance(exc, Exception):
            await self.close()
        else:
            await self.close(timeout=0)

    def stats(self) -> PoolStats:
        """Return a snapshot of the pool, and of what it has done since it was made."""
        if self._is_deciding():
            return self._snapshot()  # from a signal handler: about right beats an error
        return self._decide(self._snapshot)

    def status(self) -> str:
        """Describe the pool in one line."""
        return type(self).__name__

    # Opening.

    def _begin_life(self) -> None:
        self._check_open()
        if not self._opened:
            self._opened = True
            if self._jitter is None and self._recycle > 0:
                self._jitter = self._recycle / 10

    def _time_from_now(self) -> None:
        self._keeps_time = True
        if not self._timed:
            now = self._runtime.now()
            for record in self._known_records():
                record._since = now
            self._timed = True

    def _look_after(self) -> None:
        """Have the pool looked after, if it is open and there is something to look for."""

    def _stop_looking_after(self) -> None:
        """Have nobody look after it any more, for now."""

    def _let_care_go(self) -> None:
        """The same, from a finalizer: in any thread, and without reviving the pool."""

    def _was_opened(self) -> bool:
        """Tell whether somebody wanted this pool to be open."""
        return self._opened

    def _is_misplaced(self) -> bool:
        """Tell whether the creator of this blocking pool is one for an event loop."""
        return False

    def _kick(self) -> None:
        """Have a look at the pool taken now."""

    def _tend(self) -> float:
        """See what is due in the background, and begin it.

        Returns:
            Seconds until there may be something again.
        """
        raise NotImplementedError

    # Closing.

    def _begin_close(self) -> list[ConnectionRecord[ConnT]]:
        self._closed, self._opened = True, False
        return self._empty()

    def _age(self) -> None:
        self._epoch += 1

    async def _close_at_once(self, records: Iterable[ConnectionRecord[ConnT]]) -> None:
        """Close several slots at a time."""
        left = deque(records)
        for record in left:
            record._ending = True
        if len(left) == 1:
            await self._close_slots(left)
            return
        for _ in range(min(len(left), CLOSE_AT_ONCE)):
            self._start(self._close_rest(left), vital=True)

    async def _close_rest(self, left: deque[ConnectionRecord[ConnT]]) -> None:
        with suppress(IndexError):
            while True:
                await self._close_slot(left.popleft(), "dispose")

    async def _let_end(self, seconds: float) -> None:
        """Wait for what goes on beside the callers, and what they are closing."""
        deadline = self._runtime.now() + seconds
        await self._runtime.settle(seconds, for_good=True)
        await self._wait_while(self._closing, deadline)

    async def _wait_while(
        self, condition: Callable[[], bool], deadline: float | None
    ) -> None:
        """Wait until no slot is in some state any more."""
        while True:
            gate = self._runtime.gate()
            self._closers.append(gate)
            left = None if deadline is None else deadline - self._runtime.now()
            if not condition() or (left is not None and left <= 0):
                return
            await self._runtime.wait(gate, left)

    def _busy(self) -> bool:
        return bool(self._out) or any(
            record.connection is not None for record in self._known_records()
        )

    def _closing(self) -> bool:
        return any(
            record._ending and record.connection is not None
            for record in self._known_records()
        )

    def _give_up(self, in_the_end: bool = False) -> None:
        """Part with all slots: those that are out, and those that somebody is returning.

        Those that somebody is closing get their time for that, but in the end.
        """
        known = self._known_records()
        connecting = set()
        for key in list(self._out):
            lease = key() if isinstance(key, ref) else None
            if lease is not None and not lease._count:
                # Its caller, who is still connecting, will see that the pool is closed.
                connecting.add(self._out.get(key))
                continue
            record = self._out.pop(key, None)
            if lease is not None:
                self._callers.pop(lease._caller, None)
                lease._clear()
            if record is not None and record.connection is not None:
                self._log.info("Connection %s was out for too long", record._label())
        for record in known:
            if record.connection is not None:
                if not record._ending:
                    self._decide(self._note_close, "lost")
                    self._abandon(record)
                elif not in_the_end:
                    continue
                elif not record._driver.blocking:
                    terminate_connection(record)
            elif record in connecting or ref(record) in self._connecting:
                continue  # who connects counts what arrives, and closes that
            self._decide(self._forget, record)

    # Statistics.

    def _snapshot(self) -> PoolStats:
        self._time_from_now()
        counts, known = self._counts, self._known_records()
        return PoolStats(
            size=self._slots(),
            idle=self._idle_slots(),
            checked_out=len(self._out),
            connecting=len(self._connecting),
            waiting=self._waiting(),
            oldest_wait=self._oldest_wait(),
            checkouts=counts.checkouts + sum(r._checkouts for r in known),
            waits=counts.waits,
            timeouts=counts.timeouts,
            cancelled=counts.cancelled,
            opened=counts.opened,
            failed=counts.failed,
            closed=MappingProxyType(dict(counts.closed)),
            wait_time=counts.wait_time,
            use_time=counts.use_time + sum(r._used for r in known),
            connect_time=counts.connect_time,
        )

    def _slots(self) -> int:
        out = self._out_now()
        return sum(
            record.connection is not None or record in out
            for record in self._known_records()
        )

    def _idle_slots(self) -> int:
        out = self._out_now()
        return sum(
            record.connection is not None and record not in out
            for record in self._known_records()
        )

    def _out_now(self) -> set[ConnectionRecord[ConnT]]:
        # In one step, since other threads go on.
        return set(self._out.values())

    def _waiting(self) -> int:
        return 0

    def _oldest_wait(self) -> float:
        return 0.0
