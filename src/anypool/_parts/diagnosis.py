"""Diagnosis: who has the connections, and why there is none left."""

from __future__ import annotations

import time
from typing import Any, Final
from weakref import ref

from .._core.record import ConnectionRecord
from .._core.report import Cause, Holder, PoolReport
from .._core.stats import PoolStats
from .._ledgers.guard import listed
from .._ledgers.ledger import Ledger
from .._ledgers.snapshot import snapshot
from .._runtimes.awaited import is_over, name_of, runs
from .deadlocks import Deadlocks

STARVED: Final = 0.1
"""Seconds by which a caller is told too late that its time is up: its loop was blocked."""


class Diagnosis:
    """Looks at a pool's books, at any time, also from a signal handler."""

    __slots__ = ("_began", "_deadlocks", "_ledger", "_name", "_own_name", "_runtime")

    def __init__(
        self, ledger: Ledger[Any], runtime: Any, deadlocks: Deadlocks, name: str | None
    ) -> None:
        """Make one for a pool.

        Args:
            ledger: the books.
            runtime: the clock.
            deadlocks: knows of rings.
            name: the pool's own name, if it has one.
        """
        self._ledger = ledger
        self._runtime = runtime
        self._deadlocks = deadlocks
        if name is not None:
            ledger.label = f"{ledger.name} {name!r}"
        self._name = ledger.label
        self._own_name = name
        self._began = time.monotonic()

    def holders(self) -> tuple[Holder, ...]:
        """Return who has a connection, the longest first."""
        found = [self._holder(lease, record) for lease, record in self._held()]
        return tuple(sorted(found, key=lambda holder: -holder.age))

    def _held(self) -> list[tuple[Any, ConnectionRecord[Any]]]:
        held = []
        for key, record in listed(self._ledger.leases.out.items()):
            # A connect that nobody waits for any more is there in its own name.
            lease = key() if isinstance(key, ref) else None
            if lease is not None and lease._count:
                held.append((lease, record))
        return held

    def holder_of(self, key: Any, record: ConnectionRecord[Any]) -> Holder | None:
        """Return who has a slot; None: nobody in particular.

        Args:
            key: what the slot is out under.
            record: the slot.
        """
        lease = key() if isinstance(key, ref) else None
        return None if lease is None or not lease._count else self._holder(lease, record)

    def _holder(self, lease: Any, record: ConnectionRecord[Any]) -> Holder:
        age = max(0.0, self._runtime.now() - record._since)
        file, line = record._line()
        code = record._code
        return Holder(
            caller=name_of(lease._caller()),
            since=time.time() - age,
            age=age,
            file=file,
            line=line,
            function="<unknown>" if code is None else code.co_qualname,
            connection=record._label(),
            uses=record._checkouts,
        )

    def report(
        self,
        headline: str | None = None,
        *,
        since: float | None = None,
        timeout: float | None = None,
        phase: str | None = None,
        refused: bool = False,
    ) -> PoolReport:
        """Say how the pool is.

        Args:
            headline: what happened to a caller; None: nothing.
            since: when its checkout began.
            timeout: how many seconds that may take.
            phase: "waiting" or "connecting".
            refused: whether it was not let wait.
        """
        ledger = self._ledger
        stats = snapshot(ledger)
        failure = ledger.statistics.failure
        holders = self.holders()
        now = self._runtime.now()
        waited = None if since is None else now - since
        ring = self._deadlocks.ring(now, now if since is None else since)
        troubled = phase is not None or refused or stats.waiting > 0
        cause, evidence, advice = Cause.NONE, "nobody waits for a connection", _CALM
        if ledger.is_suspended():
            cause, evidence, advice = (
                Cause.SUSPENDED,
                "suspend() was called, and not yet resume()",
                "call resume(), once what it was suspended for is over",
            )
        elif ring:
            cause, evidence, advice = Cause.DEADLOCK, _RING, _NO_NESTING
        elif troubled:
            cause, evidence, advice = self._why(failure, waited, timeout, phase, stats)
        capacity = ledger.limit()
        return PoolReport(
            name=self._name,
            headline=self._headline(headline, waited, cause),
            cause=cause,
            evidence=evidence,
            waited=waited,
            timeout=timeout,
            phase=phase,
            stats=stats,
            capacity=capacity,
            load=self._load(stats, holders),
            holders=holders,
            connect_error=failure,
            ring=tuple(ring),
            advice=advice,
        )

    def _headline(self, what: str | None, waited: float | None, cause: Cause) -> str:
        if what is None:
            return f"{self._name}: {cause.value}"
        facts = [] if waited is None else [f"waited {waited:.2f} s"]
        if self._own_name is not None:
            facts.insert(0, f"pool {self._own_name!r}")
        told = f" ({', '.join(facts)})" if facts else ""
        return f"{what}{told}: {cause.value}"

    def _load(self, stats: PoolStats, holders: tuple[Holder, ...]) -> str | None:
        """Say how much work there is, against what can be done."""
        lasted = time.monotonic() - self._began
        ages = [holder.age for holder in holders]
        uses = stats.use_times
        if uses is not None and uses.count:
            hold, about = uses.total / uses.count, ""
        elif ages:
            hold, about = sum(ages) / len(ages), "about "
        else:
            return None
        rate = stats.checkouts / max(lasted, 1e-3)
        busy, limit = rate * hold, self._ledger.limit()
        return (
            f"{rate:.3g} checkouts/s x {about}{hold:.3g} s = {busy:.3g} in use on average, "
            f"of {'any number' if limit is None else limit}"
        )

    def _why(
        self,
        failure: str | None,
        waited: float | None,
        timeout: float | None,
        phase: str | None,
        stats: PoolStats,
    ) -> tuple[Cause, str, str]:
        """Weigh the evidence: what names somebody or something goes first."""
        if failure is not None:
            return (
                Cause.CONNECTS_FAILING,
                f"the latest connect failed with {failure}",
                "see whether the server runs, and whether address, user and password are "
                "right; the error's __cause__ says more",
            )
        late = 0.0 if waited is None or not timeout else waited - timeout
        if not self._runtime.blocking and late > max(STARVED, (timeout or 0.0) / 2):
            return (
                Cause.LOOP_STARVED,
                f"the time was up {late:.1f} s before the event loop could say so",
                "find what blocks the event loop (asyncio's debug mode names it), such as "
                "time.sleep() or a blocking driver, and move it to a thread",
            )
        leaked = self._leaked()
        if leaked is not None:
            return (
                Cause.LEAK,
                f"{leaked.caller} has left {leaked.function}() without returning the "
                f"connection that it took there {leaked.age:.1f} s ago",
                f"see {leaked.file}:{leaked.line}: use the connection in a with block, or "
                "close the lease in a finally; leak_after= logs such places",
            )
        out = list(self._ledger.leases.out.values())
        begun = stats.connecting + sum(record.connection is None for record in out)
        if phase == "connecting" or 2 * begun >= max(1, stats.size):
            return (
                Cause.CONNECTS_SLOW,
                f"{max(1, begun)} being connected or checked, and not done yet",
                "see what the server is busy with; give connect() of the driver a timeout "
                "of its own, and keep connections ready with min_size",
            )
        return (
            Cause.SATURATED,
            "all connections are out, and whoever has them is still at work",
            "see what the longest holders do with theirs, and shorten that; if it is all "
            "needed, allow more connections (pool_size, max_overflow) or fewer callers",
        )

    def _leaked(self) -> Holder | None:
        """Return the oldest holder who can't return its connection any more, if any."""
        for lease, record in self._held():
            caller = lease._caller()
            gone = is_over(caller)
            if not gone and record._code is not None:
                gone = not runs(caller, record._code)
            if gone:
                return self._holder(lease, record)
        return None


_CALM: Final = "nothing is to be done"
_RING: Final = "all who have connections wait for connections themselves"
_NO_NESTING: Final = (
    "have each caller use one connection at a time: pass it on, or let connect() share it "
    "in place of unique_connection(); a child task that needs one of its own must not be "
    "awaited while its parent has one"
)
