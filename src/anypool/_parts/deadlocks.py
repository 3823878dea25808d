"""Deadlocks: callers that have connections, and all wait for connections."""

from __future__ import annotations

import math
from typing import Any, Final
from weakref import ref

from .._core.log import PoolLog
from .._core.record import place
from .._core.waits import waits
from .._ledgers.guard import listed
from .._ledgers.ledger import Ledger
from .._runtimes.awaited import awaited_tasks, name_of

LOOK_EVERY: Final = 0.05
"""Seconds between looks at what holders are awaiting, in a pool whose waiters are served.
That takes some µs; whether holders wait for a connection themselves is seen at once."""

DEEP: Final = 5
"""How many tasks that await each other are followed."""


def find_ring(ledger: Ledger[Any], *, deep: bool = True) -> list[str]:
    """Return the ring that a pool is part of, in words; none if it isn't in one.

    Every slot is out, and every holder waits: for this pool, or for another one of which
    the same holds.

    Args:
        ledger: that of the pool.
        deep: whether holders that await tasks which wait count as well.
    """
    links: list[str] = []
    return links if _is_stuck(ledger, {ledger}, links, deep) else []


def _is_stuck(
    ledger: Ledger[Any], seen: set[Ledger[Any]], links: list[str], deep: bool
) -> bool:
    if not ledger.is_exhausted():
        return False
    for key, record in listed(ledger.leases.out.items()):
        lease = key() if isinstance(key, ref) else None
        if lease is None or not lease._count:
            return False  # on its way back, or still being connected
        found = _waits(lease._caller, DEEP if deep else 0)
        if found is None:
            return False
        caller, target = found
        if target not in seen and not _is_stuck(target, seen | {target}, links, deep):
            return False
        file, line = record._line()
        where = _where(target, caller)
        who = name_of(lease._caller())
        if caller == lease._caller:
            waits_for = "waits for"
        else:
            waits_for = f"awaits {name_of(caller())}, which waits for"
        links.append(
            f"{who} has {record._label()} of {ledger.label}, taken at {file}:{line}, and "
            f"{waits_for} {target.label} at {where}"
        )
    return True


def _waits(caller: ref[Any], depth: int) -> tuple[ref[Any], Ledger[Any]] | None:
    """Return who waits for which pool: this caller, or a task that it awaits."""
    target = waits.get(caller)
    if target is not None:
        return caller, target
    task = caller() if depth else None
    if task is not None:
        for child in awaited_tasks(task):
            found = _waits(ref(child), depth - 1)
            if found is not None:
                return found
    return None


def _where(ledger: Ledger[Any], caller: ref[Any]) -> str:
    for waiter in ledger.waiting():
        lease = waiter.ref()
        if lease is not None and lease._caller == caller:
            return "{}:{}".format(*place(waiter.code, waiter.lasti))
    return "<unknown>:0"


class Deadlocks:
    """Looks for rings whenever a caller begins to wait, and complains of each once."""

    __slots__ = (
        "_ledger",
        "_log",
        "_looked_at",
        "_members",
        "_noted_at",
        "_raises",
        "_ring",
        "_waited",
    )

    def __init__(self, ledger: Ledger[Any], log: PoolLog, *, raises: bool) -> None:
        self._ledger = ledger
        self._log = log
        self._raises = raises
        self._looked_at = 0.0
        self._waited = 0.0
        # The latest ring, and the leases that were out then.
        self._ring: list[str] = []
        self._members: frozenset[Any] = frozenset()
        self._noted_at = -math.inf

    def look(self, now: float) -> list[str]:
        """Look for a ring that has just been closed; log it if it is new.

        Returns:
            The ring, if that is to be raised.
        """
        waited = self._ledger.statistics.wait_times.total
        deep = waited == self._waited or now - self._looked_at >= LOOK_EVERY
        if deep:
            self._looked_at, self._waited = now, waited
        ring = self._note(find_ring(self._ledger, deep=deep), now)
        return ring if self._raises else []

    def _note(self, ring: list[str], now: float) -> list[str]:
        members = frozenset(listed(self._ledger.leases.out)) if ring else self._members
        if members != self._members:
            self._ring, self._members, self._noted_at = ring, members, now
            self._log.error("Deadlock: %s", "; ".join(ring))
        return ring

    def ring(self, now: float, since: float) -> list[str]:
        """Return the ring that there is, or that was broken while a caller waited.

        Args:
            now: the time.
            since: when it began to wait.
        """
        ring = self._note(find_ring(self._ledger), now)
        if not ring and self._noted_at >= since:
            return self._ring
        return ring
