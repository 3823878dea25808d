"""Slots: the books of a pool, and what its subclasses decide on them.

The books. ``_out`` says who has which slot: it maps a weak reference to the lease to the
record. Popping an entry is the claim to return that slot; whoever pops it (close, the
finalizer, an interrupt's handler) is the only one to do so. There are no counters beside
the books that an interrupted step could leave wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Generic
from weakref import ref

from typing_extensions import TypeVar

from .._core.listeners import Listeners
from .._core.log import PoolLog
from .._core.options import ResetMode
from .._core.record import ConnectionRecord
from .._core.waiter import Caller
from .._drivers.registry import generic_driver
from .finalizers import run_first_step

if TYPE_CHECKING:
    from .._core.lease import Lease
    from .._drivers.protocol import Driver

ConnT = TypeVar("ConnT")
T = TypeVar("T")


class Slots(Generic[ConnT]):
    """The books of a pool, and the decisions on them: all plain, all without I/O."""

    # Slots, for speed: an instance with more than 29 attributes in a dict is slow to read.
    __slots__ = (
        "__weakref__",
        "_blocking",
        "_caller",
        "_callers",
        "_chatty",
        "_creator",
        "_detached",
        "_driver",
        "_dropped",
        "_epoch",
        "_inline",
        "_listeners",
        "_log",
        "_lose_all",
        "_on_drop",
        "_on_lost",
        "_options",
        "_out",
        "_plain_checkin",
        "_plain_checkout",
        "_recycle",
        "_reset_mode",
        "_runtime",
        "_serial",
        "_timeout",
        "_use_threadlocal",
    )

    _blocking: bool
    _chatty: bool
    _creator: Callable[[], Any]
    _driver: Driver[ConnT] | None
    _dropped: deque[ConnectionRecord[ConnT]]
    _epoch: int
    _inline: bool
    _listeners: Listeners[ConnT, Any]
    _log: PoolLog
    _lose_all: bool
    _on_drop: Callable[[ref[Any]], None]
    _on_lost: Callable[[ConnectionRecord[ConnT]], None]
    _options: dict[str, Any]
    _recycle: float
    _reset_mode: ResetMode | None
    _runtime: Any
    _serial: int
    _timeout: float | None

    def _clear_books(self) -> None:
        # Who has which slot; detached connections; and each caller's own lease.
        self._out: dict[Any, ConnectionRecord[ConnT]] = {}
        self._detached: dict[Any, ConnectionRecord[ConnT]] = {}
        self._callers: dict[Caller, ref[Any]] = {}

    def _claim(self, lease: Lease[ConnT], may_wait: bool) -> Any:
        """Note in the books which slot `lease` gets; or return the Waiter that it became.

        Returns:
            None, or the waiter. If the lease may not wait: a waiter that is in no queue.
        """
        raise NotImplementedError

    def _restore(self, record: ConnectionRecord[ConnT]) -> bool:
        """Take a slot back. False: it is not wanted; close its connection, then _forget."""
        raise NotImplementedError

    def _forget(self, record: ConnectionRecord[ConnT]) -> None:
        """A slot that was not wanted is gone."""
        record._on_lost = None

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
        return record

    def _decide(self, decision: Callable[..., T], *args: Any) -> T:
        """Call one of the plain decisions with the books locked.

        On one line, so that a tracer's interrupt can't strike between the end of the
        decision and the release of the lock.
        """
        if not self._blocking:
            return decision(*args)
        with self._runtime.lock: result = decision(*args)  # fmt: skip # noqa: E701
        if self._dropped:
            self._collect_dropped()
        return result

    def _collect_dropped(self) -> None:
        """Return the slots whose leases were dropped."""
        raise NotImplementedError

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work beside the callers; as far as it gets, if there is no loop any more."""
        if not self._runtime.spawn(work):
            run_first_step(work)
