"""What a ledger is given: a clock, a lock, and whom to call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol
from weakref import ref

from .._core.errors import InvalidRequestError
from .._core.record import ConnectionRecord
from .._core.waiter import Gate


class Interrupting(InvalidRequestError):
    """It would wait for what it interrupts."""


class Surroundings(Protocol):
    """What a ledger needs of the runtime.

    Attributes:
        lock: makes decisions one at a time, where threads use the pool.
        door: the same; it knows which thread is inside.
        blocking: whether threads use the pool.
        settled: whether there is a place to begin connects in that isn't about to end.
    """

    lock: Any
    door: Any
    blocking: bool
    settled: bool
    now: Callable[[], float]

    def gate(self) -> Gate: ...


class Calls(NamedTuple):
    """What a ledger has to have called. None of it may keep the pool alive.

    Attributes:
        on_decided: after a decision that left something to be done, or may have.
        on_drop: the finalizer of leases.
        on_lost: the finalizer of slots that count.
    """

    on_decided: Callable[[], object]
    on_drop: Callable[[ref[Any]], None] | None
    on_lost: Callable[[ConnectionRecord[Any]], None] | None


NO_CALLS: Final = Calls(lambda: None, None, None)
