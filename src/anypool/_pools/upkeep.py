"""Upkeep: what an opened QueuePool does in the background."""

from __future__ import annotations

import math
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from typing_extensions import TypeVar

from .._core.errors import PoolTimeoutError
from .._core.options import check_seconds
from .._core.record import ConnectionRecord
from .._runtimes.thread import AwaitableCreator
from .care import Care
from .closes import CLOSE_TIMEOUT
from .growth import Backoff, connects_wanted
from .job import Job
from .turns import Turns

if TYPE_CHECKING:
    from .._core.lease import Lease

ConnT = TypeVar("ConnT")

RENEW_AT_ONCE: Final = 2
"""How many connections are replaced at a time, so that the others can serve meanwhile."""

RUSH_WINDOW: Final = 0.5
"""Seconds after which it is counted anew how quickly those who wait are served."""

CONNECT_TIMEOUT: Final = 30.0
"""Seconds that a connect may take for which nobody in particular waits, at least."""

FRESH: Final = 0.25
"""Seconds for which a new connection that nobody has had yet needs no ping."""

LOOK_EVERY: Final = 1.0
"""Seconds between looks at idle connections: idle ones that come back tell nobody."""


class Upkeep(Turns[ConnT]):
    """Connects, pings, renews and closes beside the callers, and decides when."""

    __slots__ = (
        "_backoff",
        "_care",
        "_ebbing",
        "_fail_fast",
        "_keepalive",
        "_max_idle",
        "_min_size",
        "_misplaced",
        "_watchers",
    )

    _fail_fast: bool
    _keepalive: float | None
    _max_idle: float | None
    _min_size: int

    def _clear_books(self) -> None:
        super()._clear_books()
        self._care: Care | None = None
        self._backoff = Backoff()
        # The gates of those who wait until the pool is warm.
        self._watchers: list[Any] = []
        # Whether a blocking pool's creator turned out to be one for an event loop.
        self._misplaced = False
        # Whether what is given up just now is not to be replaced at once.
        self._ebbing = False

    async def open(self) -> None:
        """Begin to look after the pool; the same as entering ``async with pool``.

        A pool that is never opened works, too. An opened one connects in the background, so
        that who waits gets the first connection that comes free, new or returned; it pings,
        renews and closes idle connections as the options say. Does nothing if it is open.

        Raises:
            PoolClosedError: the pool was closed.
            Exception: with ``fail_fast``, what the first connects raise; the pool is then
                closed.
        """
        await super().open()
        if self._fail_fast:
            try:
                timeout = self._timeout or CONNECT_TIMEOUT
                await self._wait_until_warm(timeout, fail_fast=True)
            except BaseException:
                await self.close(timeout=0)
                raise

    async def wait(self, timeout: float | None = 30.0) -> None:
        """Wait until an opened pool has ``min_size`` connections.

        Args:
            timeout: seconds; None: no limit.

        Raises:
            PoolTimeoutError: they could not be opened in time; its cause is the driver's
                error, if there was one.
            PoolClosedError: the pool is closed.
        """
        check_seconds("timeout", timeout)
        self._runtime.caller()
        await self._wait_until_warm(timeout, fail_fast=False)

    async def _wait_until_warm(self, timeout: float | None, *, fail_fast: bool) -> None:
        size = max(1, self._min_size) if fail_fast else self._min_size
        deadline = None if timeout is None else self._runtime.now() + timeout
        while True:
            gate = self._runtime.gate()
            missing = self._decide(self._watch, gate, size)
            if not missing:
                return
            if fail_fast and self._backoff.error is not None:
                raise self._backoff.error
            left = None if deadline is None else deadline - self._runtime.now()
            if left is not None and left <= 0:
                assert timeout is not None
                raise PoolTimeoutError(
                    f"{type(self).__name__}: {missing} of {size} connections could not be "
                    f"opened, timeout {timeout:g}"
                ) from self._backoff.error
            await self._runtime.wait(gate, left)

    def _watch(self, gate: Any, size: int) -> int:
        """Return how many connections are missing; if any are, the gate opens later."""
        self._check_open()
        missing = size - sum(
            record.connection is not None
            and not record._ending
            and ref(record) not in self._connecting
            for record in self._known_records()
        )
        if missing <= 0 or not self._opened:
            return 0
        self._watchers.append(gate)
        if not self._suspended:
            self._begin_connects(size - self._total)
        return missing

    def _begin_life(self) -> None:
        super()._begin_life()
        # An opened pool has no empty slots.
        for record in list(self._idle):
            if record.connection is None:
                with suppress(ValueError):
                    self._idle.remove(record)
                    self._forget(record)
        self._grow()

    def _look_after(self) -> None:
        care = self._decide(self._present_care)
        if care is not None:
            care.start()

    def _present_care(self) -> Care | None:
        if self._opened and (self._care is None or self._care.is_over()):
            self._care = Care(self)
        return self._care

    def _stop_looking_after(self) -> None:
        if self._care is not None:
            self._care.end()

    def _let_care_go(self) -> None:
        care = self._care
        if care is not None:
            care.ended = True
            self._runtime.post(care.kick)

    def _was_opened(self) -> bool:
        return self._opened or self._misplaced

    def _is_misplaced(self) -> bool:
        return self._misplaced

    def _kick(self) -> None:
        if self._care is not None:
            self._care.kick()

    def _begin_close(self) -> list[ConnectionRecord[ConnT]]:
        idle = super()._begin_close()
        self._backoff = Backoff()  # by its error's traceback, it may hold who called open()
        self._stop_looking_after()
        self._weigh()
        while self._waiters:
            _, waiter = self._waiters.popitem(last=False)
            waiter.gate.release()
        self._tell_watchers()
        return idle

    def _age(self) -> None:
        super()._age()
        self._weigh()

    def _forget(self, record: ConnectionRecord[ConnT]) -> None:
        super()._forget(record)
        if self._backoff.error is not None:
            self._kick()  # what may not be replaced yet has to be when the pause is over

    def _tell_watchers(self) -> None:
        while self._watchers:
            with suppress(RuntimeError):  # a thread that was told already
                self._watchers.pop().release()

    # Connecting.

    def _grow(self) -> None:
        """Begin as many connects as are of use now."""
        if (
            self._opened
            and not self._suspended
            and not self._ebbing
            and self._runtime.settled
        ):
            self._begin_connects(max(self._min_size - self._total, self._wanted()))

    def _wanted(self) -> int:
        waiting, connecting = len(self._waiters), self._count_connecting()
        if waiting <= connecting or self._total >= self._capacity:
            return 0
        return connects_wanted(
            waiting=waiting,
            live=self._total - connecting,
            connecting=connecting,
            use=self._use_time(self._total - connecting),
            connect=self._counts.connect_time / max(1, self._counts.opened),
        )

    def _use_time(self, live: int) -> float:
        """Return for how long connections are out, going by how quickly those who wait are
        served; if none has been, by how long they have waited."""
        now: float = self._runtime.now()
        lasting = now - self._rush_since
        use = lasting * live / self._rush_served if self._rush_served else lasting
        if lasting > RUSH_WINDOW:
            self._rush_since, self._rush_served = now, 0
        return use

    def _count_connecting(self) -> int:
        for reference in list(self._connecting):
            if reference() is None:
                del self._connecting[reference]  # lost by an interrupt
        return len(self._connecting)

    def _begin_connects(self, number: int) -> None:
        if self._backoff.error is not None and number > 0:
            # One connect shows whether the server is back.
            due = self._runtime.now() >= self._backoff.resume_at
            number = 1 if due and not self._count_connecting() else 0
        for _ in range(number):
            record = self._new_slot()
            if record is None:
                return
            self._connecting[ref(record)] = self._runtime.now()
            self._unstarted.append(record)

    async def _connect_beside(self, record: ConnectionRecord[ConnT]) -> None:
        if self._closed:
            self._put_back(record)
            return
        failure: Exception | None = None
        try:
            limit = max(CONNECT_TIMEOUT, self._timeout or 0.0)
            await self._runtime.within(limit, self._connect(record))
            if record.connection is None:
                failure = TimeoutError("the connect took too long")
        except AwaitableCreator as found:
            if isinstance(found.awaitable, Coroutine):
                found.awaitable.close()
            self._decide(self._note_misplaced, record)
            self._put_back(record)
            return
        except Exception as error:
            failure = error
        except BaseException:
            self._drop_cancelled(record)
            raise
        cut_short = record.connection is not None and record._ending
        if cut_short:
            failure = TimeoutError("a connect listener took too long")
        self._decide(self._note_connected, record, failure)
        del failure  # or else it and its traceback would hold each other
        if cut_short:
            self._drop(record)
        else:
            self._put_back(record)
        self._kick()

    def _note_connected(
        self, record: ConnectionRecord[ConnT], failure: Exception | None
    ) -> None:
        self._connecting.pop(ref(record), None)
        if failure is None:
            self._backoff.succeeded()
            if self._total - len(self._connecting) == 1:
                # Up to now there was nothing that could have served anybody.
                self._rush_since, self._rush_served = self._runtime.now(), 0
        else:
            self._backoff.failed(failure, self._runtime.now())
        self._tell_watchers()

    def _note_misplaced(self, record: ConnectionRecord[ConnT]) -> None:
        # From here on each caller connects by itself; the facade sees to what comes then.
        self._misplaced, self._opened = True, False
        self._stop_looking_after()
        self._connecting.pop(ref(record), None)
        self._tell_watchers()

    async def _is_usable(
        self, record: ConnectionRecord[ConnT], timeout: float | None, deadline: float | None
    ) -> bool:
        if (
            record.connection is None  # the caller connects by itself
            or not self._is_looked_at(record)
            or self._is_as_it_should_be(record)
            or self._is_fresh(record)
        ):
            return True
        # Who has to part with a dead connection waits for the next that comes free, which
        # can be one that a server that comes back lets the pool open.
        left = None if deadline is None else deadline - self._runtime.now()
        in_time = await self._runtime.within(left, self._part_with_unfit(record))
        left_to_thread = self._is_left(record)
        if record.connection is not None and (
            not in_time or (left_to_thread and timeout == 0)
        ):
            assert timeout is not None
            self._decide(self._note_timeout)
            raise self._timed_out("connecting", timeout)
        if not self._opened or timeout == 0:
            return not left_to_thread
        return record.connection is not None and not left_to_thread

    def _is_looked_at(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether a caller may have to take another slot than this one.

        In an opened pool, or where its ping may get stuck in a thread, and keep it.
        """
        return self._opened or (record._driver.blocking and not self._blocking)

    def _leave_to(self, job: Job, record: ConnectionRecord[ConnT]) -> None:
        # With the slot: as long as this connection is there, no other may take its place.
        for key in list(self._out):
            if self._out.get(key) is record:
                del self._out[key]
        self._out[job], record._ending = record, True
        job.afterwards = lambda _: self._end_left(job, record)

    def _end_left(self, job: Job, record: ConnectionRecord[ConnT]) -> None:
        self._out.pop(job, None)
        self._spawn(self._close_slot(record, "ping"))

    def _is_fresh(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether the connection was opened just now, for whoever comes first."""
        now = self._runtime.now()
        fresh = (
            record.connection is not None
            and record._epoch == self._epoch  # whatever its age: there is no younger one
            and record._since == record._pinged_at  # nobody has had it yet
            and now - record._since < FRESH
        )
        if fresh:
            record._since = now
        return fresh

    async def _ready(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        # Else _is_usable() has looked at what there is.
        if record.connection is None or not self._is_looked_at(record):
            await super()._ready(lease, record)

    async def _acquire_another(
        self,
        lease: Lease[ConnT],
        record: ConnectionRecord[ConnT],
        timeout: float | None,
        deadline: float | None,
    ) -> None:
        if self._out.pop(lease._ref, None) is not None:
            self._put_back(record)
        left = None if deadline is None else deadline - self._runtime.now()
        if left is not None and left <= 0:
            assert timeout is not None
            self._decide(self._note_timeout)
            raise self._timed_out("connecting", timeout)
        await self._acquire(lease, timeout, first=True, left=left)

    def _resume_care(self) -> None:
        if self._opened and (self._care is None or not self._care.at_work):
            # In a new event loop, in a forked process, or all tasks have been cancelled.
            self._look_after()

    # Looking after.

    def _tend(self) -> float:
        now = self._runtime.now()
        self._decide(self._grow)
        for record, work in self._decide(self._take_due, now):
            self._start(work(record))
        return self._decide(self._next_look, now)

    def _take_due(self, now: float) -> list[tuple[ConnectionRecord[ConnT], Any]]:
        """Take idle connections that need something out of the queue."""
        due: list[tuple[ConnectionRecord[ConnT], Any]] = []
        surplus = self._total - self._min_size
        for record in list(self._idle):
            idle_since = record._since
            last_used = max(idle_since, record._pinged_at)
            too_long = (
                self._max_idle is not None
                and now - idle_since > self._max_idle
                and not record._holds_data
            )
            if too_long and surplus > 0:
                work: Any = self._close_idle
                surplus -= 1
            elif self._is_stale(record):
                if (
                    len(self._connecting) >= RENEW_AT_ONCE
                    or self._backoff.error is not None
                ):
                    continue
                work = self._renew
            elif self._keepalive is not None and now - last_used > self._keepalive:
                work = self._keep_alive
            else:
                continue
            try:
                self._idle.remove(record)
            except ValueError:  # the uncontended path, which takes no lock, was quicker
                continue
            if work == self._renew:
                self._connecting[ref(record)] = now
            due.append((record, work))
        return due

    async def _close_idle(self, record: ConnectionRecord[ConnT]) -> None:
        await self._close_slot(record, "idle")

    async def _renew(self, record: ConnectionRecord[ConnT]) -> None:
        """Replace a connection that is too old, before somebody needs it."""
        try:
            reason = self._surplus_reason(record)
            reason = "recycle" if reason == "overflow" else reason
            await self._runtime.within(CLOSE_TIMEOUT, self._close(record, reason))
        except BaseException:
            self._drop_cancelled(record)
            raise
        await self._connect_beside(record)

    async def _keep_alive(self, record: ConnectionRecord[ConnT]) -> None:
        try:
            await self._keep_if_alive(record)
        except BaseException:
            if not self._is_left(record):
                self._drop_cancelled(record)
            raise
        if not self._is_left(record):
            self._put_back(record)

    def _drop_cancelled(self, record: ConnectionRecord[ConnT]) -> None:
        """Drop a slot that something was done to in the background.

        Who cancels that, cancels all there is, since the event loop is about to end. If it
        goes on, the next look at the pool sees to another connection.
        """
        with self._no_replacement():
            self._drop(record)
        self._kick()

    async def _checkin_dropped(self, record: ConnectionRecord[ConnT]) -> None:
        if record._serial:
            await super()._checkin_dropped(record)
            return
        # It stands in for one that was lost with what was done to it: the same.
        with self._no_replacement():
            await super()._checkin_dropped(record)
        self._kick()

    @contextmanager
    def _no_replacement(self) -> Iterator[None]:
        """Have what is given up in this block not replaced at once."""
        self._ebbing = True
        try:
            yield
        finally:
            self._ebbing = False

    def _next_look(self, now: float) -> float:
        delay = math.inf
        if (
            self._recycle >= 0
            or self._max_idle is not None
            or self._keepalive is not None
            or any(record._epoch != self._epoch for record in list(self._idle))
        ):
            delay = LOOK_EVERY
        wanting = bool(self._waiters) or self._total < self._min_size
        if wanting and self._total < self._capacity and not self._suspended:
            if self._backoff.error is not None:
                if not self._connecting:
                    delay = min(delay, max(0.001, self._backoff.resume_at - now))
            else:
                connect = self._counts.connect_time / max(1, self._counts.opened)
                delay = min(delay, max(0.002, min(connect / 10, 0.05)))
        return delay
