"""A ledger's statistics, for views."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from .._core.histogram import Histogram, Tally
from .._core.stats import PoolStats
from .ledger import Ledger


def _uses(ledger: Ledger[Any]) -> Histogram:
    tally = Tally()
    tally.merge(ledger.statistics.use_times)
    for record in ledger.known_records():
        if record._uses is not None:
            tally.merge(record._uses)
    return tally.snapshot()


def snapshot(ledger: Ledger[Any]) -> PoolStats:
    """Return what there is, and what has been done since the pool was made."""
    counts, known = ledger.statistics, ledger.known_records()
    wait_times = counts.wait_times.snapshot()
    use_times = _uses(ledger) if counts.timed else None
    connect_times = counts.connect_times.snapshot()
    return PoolStats(
        size=ledger.slot_count(),
        idle=ledger.idle_count(),
        checked_out=len(ledger.leases.out),
        connecting=len(ledger.connecting),
        waiting=ledger.waiting_count(),
        oldest_wait=ledger.oldest_wait(),
        checkouts=counts.checkouts + sum(record._checkouts for record in known),
        waits=wait_times.count,
        timeouts=counts.timeouts,
        cancelled=counts.cancelled,
        refused=counts.refused,
        returned_dirty=counts.dirty + sum(record._dirty for record in known),
        leaks=counts.leaks,
        disconnects=counts.disconnects,
        opened=counts.opened,
        failed=counts.failed,
        closed=MappingProxyType(dict(counts.closed)),
        wait_time=wait_times.total,
        use_time=None if use_times is None else use_times.total,
        connect_time=connect_times.total,
        wait_times=wait_times,
        use_times=use_times,
        connect_times=connect_times,
    )
