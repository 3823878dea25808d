"""Slots: the books of a pool, and what its subclasses decide on them.

The books. ``_out`` says who has which slot: it maps a weak reference to the lease to the
record. Popping an entry is the claim to return that slot; whoever pops it (close, the
finalizer, an interrupt's handler) is the only one to do so. There are no counters beside
the books that an interrupted step could leave wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic
from weakref import ref

from typing_extensions import TypeVar

from .._core.disconnects import Disconnects
from .._core.errors import InvalidRequestError
from .._core.listeners import FirstConnectListener, Listeners
from .._core.log import PoolLog
from .._core.options import ResetMode
from .._core.record import ConnectionRecord
from .._core.stats import CloseReason, Counts
from .._core.waiter import Caller
from .._drivers.registry import generic_driver
from .finalizers import run_first_step

if TYPE_CHECKING:
    from .._core.lease import Lease
    from .._drivers.protocol import Driver

ConnT = TypeVar("ConnT")
T = TypeVar("T")

TIMED_AT_FIRST: Final = 1000
"""Checkouts of a pool after which use times are not measured any more if nobody asks."""


class Interrupting(InvalidRequestError):
    """It would wait for what it interrupts."""


class Slots(Generic[ConnT]):
    """The books of a pool, and the decisions on them: all plain, all without I/O."""

    # Slots, for speed: an instance with more than 29 attributes in a dict is slow to read.
    __slots__ = (
        "__weakref__",
        "_blocking",
        "_caller",
        "_callers",
        "_chatty",
        "_closed",
        "_closers",
        "_connecting",
        "_counts",
        "_creator",
        "_detached",
        "_disconnects",
        "_driver",
        "_dropped",
        "_epoch",
        "_first_mutex",
        "_first_teller",
        "_inline",
        "_jitter",
        "_keeps_time",
        "_known",
        "_lease_type",
        "_listeners",
        "_log",
        "_lose_all",
        "_on_drop",
        "_on_lost",
        "_opened",
        "_options",
        "_out",
        "_ping_after",
        "_plain_checkin",
        "_plain_checkout",
        "_recycle",
        "_reset_mode",
        "_runtime",
        "_serial",
        "_timed",
        "_timed_uses",
        "_timeout",
        "_unstarted",
        "_untold",
        "_use_threadlocal",
    )

    _blocking: bool
    _chatty: bool
    _closed: bool
    _closers: list[Any]
    _counts: Counts
    _creator: Callable[..., Any]
    _disconnects: Disconnects[ConnT]
    _driver: Driver[ConnT] | None
    _dropped: deque[ConnectionRecord[ConnT]]
    _epoch: int
    _inline: bool
    _jitter: float | None
    _keeps_time: bool
    _listeners: Listeners[ConnT, Any]
    _log: PoolLog
    _lose_all: bool
    _on_drop: Callable[[ref[Any]], None]
    _on_lost: Callable[[ConnectionRecord[ConnT]], None]
    _opened: bool
    _options: dict[str, Any]
    _ping_after: float
    _recycle: float
    _reset_mode: ResetMode | None
    _runtime: Any
    _serial: int
    _timed: bool
    _timed_uses: int
    _timeout: float | None
    _untold: deque[FirstConnectListener[ConnT]]

    def _clear_books(self) -> None:
        # Who has which slot; detached connections; and each caller's own lease.
        self._out: dict[Any, ConnectionRecord[ConnT]] = {}
        self._detached: dict[Any, ConnectionRecord[ConnT]] = {}
        self._callers: dict[Caller, ref[Any]] = {}
        # All slots that count, wherever they are just now.
        self._known: dict[ref[ConnectionRecord[ConnT]], None] = {}
        # Who may tell the listeners of the first connection, and who does.
        self._first_mutex: Any = None
        self._first_teller: Caller | None = None
        # Slots that get their connection in the background; those that are about to.
        self._connecting: dict[ref[ConnectionRecord[ConnT]], float] = {}
        self._unstarted: deque[ConnectionRecord[ConnT]] = deque()
        # The gates of those who wait for what is out.
        self._closers = []

    def _claim(self, lease: Lease[ConnT], may_wait: bool, first: bool) -> Any:
        """Note in the books which slot `lease` gets; or return the Waiter that it became.

        Args:
            lease: gets a slot.
            may_wait: whether it may wait for one.
            first: whether it has waited already, and goes before all others.

        Returns:
            None, or the waiter. If the lease may not wait: a waiter that is in no queue.
        """
        raise NotImplementedError

    def _empty(self) -> list[ConnectionRecord[ConnT]]:
        """Take all idle slots out of the pool, and begin a new generation."""
        raise NotImplementedError

    def _restore(self, record: ConnectionRecord[ConnT]) -> bool:
        """Take a slot back. False: it is not wanted; close its connection, then _forget."""
        raise NotImplementedError

    def _forget(self, record: ConnectionRecord[ConnT]) -> None:
        """A slot that was not wanted is gone."""
        record._on_lost = None
        self._known.pop(ref(record), None)
        self._count_in(record)
        while self._closers:
            with suppress(RuntimeError):  # a thread that was told already
                self._closers.pop().release()

    def _is_idle(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether the pool itself has this slot."""
        return False

    def _records(self) -> Iterable[ConnectionRecord[ConnT]]:
        """Return all slots that have or may have a connection."""
        return [*self._out.values(), *self._detached.values(), *self._dropped]

    def _is_busy(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether this very thread may be at work on the slot, so that a finalizer
        must not wait for that."""
        return False

    def _tidy(self) -> None:
        """Make up for what an interrupted return may have left undone."""

    def _withdraw(self, ref: Any) -> None:
        """Take a lease's waiter out of the queue; it is given nothing from now on."""

    def _new_record(self) -> ConnectionRecord[ConnT]:
        record = self._uncounted_record()
        record._on_lost = self._on_lost
        return record

    def _uncounted_record(self) -> ConnectionRecord[ConnT]:
        record: ConnectionRecord[ConnT] = ConnectionRecord(self._epoch, None)
        # A guess, for the moment between a connect and the look at what it brought.
        record._driver = self._driver or generic_driver
        self._known[ref(record)] = None
        return record

    def _decide(self, decision: Callable[..., T], *args: Any) -> T:
        """Call one of the plain decisions with the books locked.

        On one line, so that a tracer's interrupt can't strike between the end of the
        decision and the release of the lock.
        """
        runtime = self._runtime
        if not self._blocking:
            result = decision(*args)
        elif runtime.door._is_owned():
            raise Interrupting(
                f"{type(self).__name__}: a finalizer or signal handler used the pool while "
                "its own thread was in the middle of doing so"
            )
        else:
            try:
                with runtime.door, runtime.lock: result = decision(*args)  # fmt: skip # noqa: E701
            except BaseException:
                self._catch_up()
                raise
        if self._unstarted or (self._dropped and self._blocking):
            self._catch_up()
        return result

    def _is_deciding(self) -> bool:
        """Tell whether this very thread has the books locked, as a finalizer or signal
        handler may find it."""
        return self._blocking and bool(self._runtime.door._is_owned())

    def _catch_up(self) -> None:
        """Do what could not be done with the books locked."""
        while self._unstarted:
            with suppress(IndexError):  # another thread was quicker
                self._start(self._connect_beside(self._unstarted.popleft()))
        if self._dropped and self._blocking:
            self._collect_dropped()

    def _connect_beside(self, record: ConnectionRecord[ConnT]) -> Coroutine[Any, Any, None]:
        """Open a slot's connection in the background, for whoever comes first."""
        raise NotImplementedError

    def _known_records(self) -> list[ConnectionRecord[ConnT]]:
        records = [reference() for reference in list(self._known)]
        return [record for record in records if record is not None]

    def _note_use(self, record: ConnectionRecord[ConnT]) -> None:
        """Note that a slot is not out any more."""
        if self._timed:
            now = self._runtime.now()
            record._used += now - record._since
            record._since = now
            # Two looks at the clock take 0.3 µs, beside some 1.1 for all of a cycle in a
            # blocking pool (CPython 3.11).
            self._timed_uses += 1
            if self._timed_uses >= TIMED_AT_FIRST and not self._keeps_time:
                self._timed = False

    def _count_in(self, record: ConnectionRecord[ConnT]) -> None:
        """Keep the statistics of a slot that is about to go."""
        self._counts.checkouts += record._checkouts
        self._counts.use_time += record._used
        record._checkouts, record._used = 0, 0.0

    def _note_close(self, reason: CloseReason) -> None:
        self._counts.closed[reason] = self._counts.closed.get(reason, 0) + 1

    def _collect_dropped(self) -> None:
        """Return the slots whose leases were dropped."""
        raise NotImplementedError

    def _start(self, work: Coroutine[Any, Any, None], *, vital: bool = False) -> None:
        """Begin work beside the callers; do it here where no thread can be had for it."""
        if not self._runtime.start(work, vital=vital):
            self._spawn(work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work beside the callers; as far as it gets, if there is no loop any more."""
        if not self._runtime.spawn(work):
            run_first_step(work)
