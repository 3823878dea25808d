"""PoolReport: what a pool says of itself, and of who has its connections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Final, NamedTuple

from .stats import PoolStats

SHOWN: Final = 8
"""How many holders the text of a report names."""


class Cause(Enum):
    """Why a pool has no connection for a caller; see docs/diagnosis.md."""

    SATURATED = "saturated"
    """All connections are in use: there is more work than they can do."""
    LEAK = "leak"
    """Somebody has a connection and will not return it, as far as can be seen."""
    CONNECTS_FAILING = "connects failing"
    """The server can't be reached, or refuses connections."""
    CONNECTS_SLOW = "connects slow"
    """The server takes its time to accept connections, or to answer a ping."""
    DEADLOCK = "deadlock"
    """Whoever has a connection waits for another one."""
    SUSPENDED = "suspended"
    """Somebody has called ``suspend()``, and not ``resume()``."""
    LOOP_STARVED = "loop starved"
    """The event loop was blocked: nobody in it could do anything."""
    NONE = "none"
    """Nothing is wrong."""


class Holder(NamedTuple):
    """Somebody who has a connection.

    Attributes:
        caller: The name of the task or thread; "... (ended)" if it is no more.
        since: When it was checked out: seconds since the epoch, as of ``time.time()``.
        age: For how many seconds it has been out.
        file: The file of the code that checked it out.
        line: The line there; 0 if it is not known.
        function: The function.
        connection: The class and number of the connection. Never its repr.
        uses: How often that slot has been checked out.
    """

    caller: str
    since: float
    age: float
    file: str
    line: int
    function: str
    connection: str
    uses: int

    def __str__(self) -> str:
        return (
            f"{self.age:.1f} s  {self.caller} at {self.file}:{self.line} in "
            f"{self.function}, {self.connection}, use {self.uses}"
        )


@dataclass(frozen=True, slots=True)
class PoolReport:
    """What a pool says of itself at a moment. No secrets are in it.

    Attributes:
        name: The pool's class, and its ``name`` if it has one.
        headline: What happened, in one line for a log.
        cause: Why, as far as there is evidence.
        evidence: Which, in a sentence.
        waited: For how many seconds the caller had waited; None if nobody did.
        timeout: Of how many; None: no limit.
        phase: "waiting" or "connecting"; None if there was no caller.
        stats: The pool's statistics.
        capacity: How many connections there may be; None: no limit.
        load: How often connections are taken, times for how long, against the capacity;
            None if it can't be told.
        holders: Who has a connection, the longest first.
        connect_error: The class of the latest connect's error, if it failed.
        ring: Of a deadlock: who has what, and waits where.
        advice: What to do next.
    """

    name: str
    headline: str
    cause: Cause
    evidence: str
    waited: float | None
    timeout: float | None
    phase: str | None
    stats: PoolStats
    capacity: int | None
    load: str | None
    holders: tuple[Holder, ...]
    connect_error: str | None
    ring: tuple[str, ...]
    advice: str

    def text(self) -> str:
        """Return the report in some twenty lines; the first stands alone."""
        return "\n".join(self._lines())

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain values, for JSON."""
        values: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in fields(self)
        }
        return values | {
            "cause": self.cause.value,
            "stats": self.stats.as_dict(),
            "holders": [holder._asdict() for holder in self.holders],
            "ring": list(self.ring),
        }

    def __str__(self) -> str:
        return self.text()

    def _lines(self) -> Iterator[str]:
        stats = self.stats
        yield self.headline
        yield f"  cause: {self.cause.value}: {self.evidence}"
        limit = "no limit" if self.capacity is None else f"{self.capacity} at most"
        waiting = f"{stats.waiting} waiting"
        if stats.waiting:
            waiting += f", the first for {stats.oldest_wait:.1f} s"
        yield (
            f"  slots: {stats.size} ({limit}): {stats.checked_out} out, {stats.idle} idle, "
            f"{stats.connecting} connecting; {waiting}"
        )
        yield (
            f"  so far: {stats.checkouts} checkouts, {stats.waits} waits, "
            f"{stats.timeouts} timeouts, {stats.opened} connects, {stats.failed} failed"
        )
        if self.load is not None:
            yield f"  load: {self.load}"
        if self.connect_error is not None:
            yield f"  last connect: {self.connect_error}"
        if self.ring:
            yield "  ring:"
            for link in self.ring[:SHOWN]:
                yield f"    {link}"
        elif self.holders:
            yield "  holders, the longest first:"
            for holder in self.holders[:SHOWN]:
                yield f"    {holder}"
            more = stats.checked_out - SHOWN
            if more > 0:
                yield f"    and {more} more"
        yield f"  next: {self.advice}"
