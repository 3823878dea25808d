"""What the quick path does to idle slots, one thread at a time, where there is no GIL.

Without the GIL another thread may do anything between two steps, such as a look at whether
somebody waits and the taking of a slot.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from typing_extensions import TypeVar

from .surroundings import Calls, Surroundings

T = TypeVar("T")


def has_gil() -> bool:
    """Tell whether threads take turns. They may begin to; they never cease to."""
    enabled: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return enabled is None or enabled()


class Guarded(Protocol):
    """A ledger with idle slots."""

    calls: Calls
    dropped: deque[Any]
    idle: deque[Any]
    simple_checkout: bool
    surroundings: Surroundings


def guarded_pop(weak_ledger: Callable[[], Any]) -> Callable[[], Any]:
    """Make the taking of the first idle slot; an IndexError says that there is none, or
    that somebody waits for it. It doesn't keep the ledger alive, which has it."""

    def pop() -> Any:
        ledger: Guarded = weak_ledger()
        record = None
        # On one line, as in Ledger.decide().
        with ledger.surroundings.door: record = ledger.simple_checkout and ledger.idle.popleft()  # fmt: skip # noqa: E501, E701
        _look_after(ledger)
        if record is False:
            raise IndexError("somebody waits")
        return record

    return pop


def guarded_put(weak_ledger: Callable[[], Any], lifo: bool) -> Callable[[Any], None]:
    """Make the return of an idle slot. It doesn't keep the ledger alive, which has it."""

    def put(record: Any) -> None:
        ledger: Guarded = weak_ledger()
        idle = ledger.idle
        # With the door closed, so that who comes to wait either finds the slot, or has
        # said so before the caller of this looks again.
        add = idle.appendleft if lifo else idle.append
        with ledger.surroundings.door: add(record)  # fmt: skip # noqa: E701
        _look_after(ledger)

    return put


def _look_after(ledger: Guarded) -> None:
    """See to what finalizers have left to this thread while it was behind the door."""
    if ledger.dropped and not ledger.surroundings.door._is_owned():
        ledger.calls.on_decided()


def listed(items: Iterable[T]) -> list[T]:
    """List what other threads may change meanwhile: in one step where there is a GIL, and
    otherwise once more if they did."""
    while True:
        try:
            return list(items)
        except RuntimeError:  # pragma: no cover  # only without the GIL
            continue
