"""PlainListeners: a short way to those who listen with plain functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Generic

from typing_extensions import TypeVar

from .._core.record import UNTOLD, ConnectionRecord
from .._core.waiter import Caller
from .._ledgers.queue import QueueLedger
from .announcer import Announcer
from .closer import Closer

ConnT = TypeVar("ConnT")


class PlainListeners(Generic[ConnT]):
    """Takes and returns idle slots where listeners have to be told.

    Those that are plain functions are called there and then. Measured on CPython 3.11 with
    a listener of each kind, beside a cycle without: 8 times as long by coroutines alone,
    and in an event loop 11 times, most of that in the return's shield; so 2.2 times.

    Attributes:
        hear_returns: whether returns have only plain functions to tell, and at most a quick
            reset to do.
    """

    __slots__ = (
        "_announcer",
        "_blocking",
        "_closer",
        "_out",
        "_queue",
        "hear_returns",
    )

    def __init__(
        self,
        ledger: QueueLedger[ConnT],
        announcer: Announcer[ConnT],
        closer: Closer[ConnT],
    ) -> None:
        self._queue = ledger
        self._out = ledger.leases.out
        self._blocking = ledger.blocking
        self._announcer = announcer
        self._closer = closer
        self.hear_returns = False

    def take(self, owner: Any, caller: Caller) -> Any:
        """Make a lease; if nobody waits, it has the next idle slot, but not yet its
        connection."""
        ledger = self._queue
        lease = ledger.leases.new(owner, caller)
        record = None
        if ledger.calm and not ledger.guarded:
            try:
                record = ledger.idle.popleft()
                self._out[lease._ref] = record
            except IndexError:
                pass
            except BaseException:
                if record is not None:  # pragma: no branch  # test_interrupts.py
                    ledger.end(lease)
                    ledger.idle.appendleft(record)
                    self._closer.tidy()
                raise
        return lease

    def are_told(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell all of a return, or some. What is left to do stands in the record."""
        if not self.hear_returns or (record._driver.blocking and not self._blocking):
            return False
        told = 0
        try:
            for listener in self._announcer.listeners.on_checkin:
                told += 1
                answer = listener.checkin(record.connection, record)
                if answer is not None and isawaitable(answer):
                    record._told = told, answer
                    return False
        except Exception as error:
            record._told = told, error
            return False
        record._told = told, None
        return True

    def take_back(self, record: ConnectionRecord[ConnT]) -> bool:
        """Take a slot back whose return everybody has been told of."""
        ledger = self._queue
        if not (ledger.calm and self.hear_returns and ledger.total <= ledger.keep):
            return ledger.decide(ledger.take_back, record)
        record._told = UNTOLD
        ledger.put_idle(record)
        # Again: in another thread, somebody may have come to wait, or disposed.
        if not ledger.calm or record._generation != ledger.generation:
            self._closer.tidy()
        return True


def all_plain(methods: Iterable[Callable[..., Any]]) -> bool:
    """Tell whether all of these are plain functions, as far as can be seen."""
    return not any(iscoroutinefunction(method) for method in methods)
