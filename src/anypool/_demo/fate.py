"""Fate: what becomes of a transfer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import count
from typing import Final


class Fate(StrEnum):
    """What becomes of a transfer. All but the first strike in mid-transaction."""

    COMPLETED = "completed"
    FAILED = "failed"
    """An exception leaves the block."""
    TASK_CANCELLED = "task_cancelled"
    """Task.cancel(), with a statement under way."""
    SCOPE_CANCELLED = "scope_cancelled"
    """CancelScope.cancel(), with a statement under way."""
    DROPPED = "dropped"
    """The lease is forgotten without close()."""
    INVALIDATED = "invalidated"
    """The connection is found unusable."""


TASK_MISHAPS: Final = (
    Fate.FAILED,
    Fate.TASK_CANCELLED,
    Fate.SCOPE_CANCELLED,
    Fate.DROPPED,
    Fate.INVALIDATED,
)
THREAD_MISHAPS: Final = (Fate.FAILED, Fate.DROPPED, Fate.INVALIDATED)
"""Nobody can cancel a thread."""

MISHAP_EVERY: Final = 10
"""One transfer in so many goes wrong."""


class MishapError(Exception):
    """The failure that befalls a transfer on purpose."""


def fates(teller: int, mishaps: Sequence[Fate]) -> Iterator[Fate]:
    """Yield the fates of a teller's transfers, for ever: each mishap in its turn.

    Tellers with different numbers meet with them at different times.
    """
    for transfer in count(teller * (MISHAP_EVERY + 1)):  # pragma: no branch  # no end
        mishap, good = divmod(transfer, MISHAP_EVERY)
        yield Fate.COMPLETED if good else mishaps[mishap % len(mishaps)]
