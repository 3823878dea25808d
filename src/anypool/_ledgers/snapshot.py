"""A ledger's statistics, for views."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from .._core.stats import PoolStats
from .ledger import Ledger


def snapshot(ledger: Ledger[Any]) -> PoolStats:
    """Return what there is, and what has been done since the pool was made."""
    counts, known = ledger.statistics, ledger.known_records()
    used = counts.use_time + sum(record._used for record in known)
    return PoolStats(
        size=ledger.slot_count(),
        idle=ledger.idle_count(),
        checked_out=len(ledger.leases.out),
        connecting=len(ledger.connecting),
        waiting=ledger.waiting_count(),
        oldest_wait=ledger.oldest_wait(),
        checkouts=counts.checkouts + sum(record._checkouts for record in known),
        waits=counts.waits,
        timeouts=counts.timeouts,
        cancelled=counts.cancelled,
        opened=counts.opened,
        failed=counts.failed,
        closed=MappingProxyType(dict(counts.closed)),
        wait_time=counts.wait_time,
        use_time=used if counts.timed else None,
        connect_time=counts.connect_time,
    )
