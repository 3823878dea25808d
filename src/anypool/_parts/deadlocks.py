"""Deadlocks: callers that have connections, and all wait for connections."""

from __future__ import annotations

from typing import Any, Final
from weakref import ref

from .._core.log import PoolLog
from .._core.record import place
from .._core.waits import waits
from .._ledgers.ledger import Ledger
from .._runtimes.awaited import awaited_tasks, name_of

LOOK_EVERY: Final = 0.05
"""Seconds between looks at what holders are awaiting. That takes some µs; whether they wait
for a connection themselves is seen at once."""

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
    for key, record in list(ledger.leases.out.items()):
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
        by = "" if caller == lease._caller else f" by {name_of(caller())}, which it awaits,"
        links.append(
            f"{who} has {record._label()} of {ledger.name}, taken at {file}:{line}, and "
            f"waits{by} for {target.name} at {where}"
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

    __slots__ = ("_ledger", "_log", "_looked_at", "_members", "_raises", "_ring")

    def __init__(self, ledger: Ledger[Any], log: PoolLog, *, raises: bool) -> None:
        self._ledger = ledger
        self._log = log
        self._raises = raises
        self._looked_at = 0.0
        # The latest ring, and the leases that were out then.
        self._ring: list[str] = []
        self._members: frozenset[Any] = frozenset()

    def look(self, now: float) -> list[str]:
        """Look for a ring that has just been closed; log it if it is new.

        Returns:
            The ring, if that is to be raised.
        """
        deep = self._raises or now - self._looked_at >= LOOK_EVERY
        if deep:
            self._looked_at = now
        ring = find_ring(self._ledger, deep=deep)
        if not ring:
            return []
        members = frozenset(self._ledger.leases.out)
        if members != self._members:
            self._ring, self._members = ring, members
            self._log.error("Deadlock: %s", "; ".join(ring))
        return ring if self._raises else []

    def ring(self) -> list[str]:
        """Return the ring that there is, or that has just been broken by a timeout."""
        ring = find_ring(self._ledger)
        if not ring and self._members == frozenset(self._ledger.leases.out):
            return self._ring
        return ring
