"""Checkouts that fail, and what the pool says of that."""

from __future__ import annotations

import json
from typing import Any

import pytest

import anypool

from .modes import Mode

TINY = 0.05
"""Seconds after which a checkout gives up."""


def small(mode: Mode, size: int = 1, **options: Any) -> Any:
    """Make a pool of so many connections."""
    return mode.pool(pool_size=size, max_overflow=0, **options)


async def fails(mode: Mode, pool: Any, timeout: float = TINY) -> anypool.PoolReport:
    """Run a checkout into its timeout; return what the pool says."""
    with pytest.raises(anypool.PoolTimeoutError) as caught:
        await mode.go(pool.unique_connection(timeout=timeout))
    report = said(caught)
    assert str(caught.value) == report.text() == str(report)
    assert (report.timeout, report.name) == (timeout, "QueuePool")
    first, *others = report.text().splitlines()
    assert first == report.headline
    assert first.endswith(f": {report.cause.value}")
    assert len(others) < 20
    assert "SECRET" not in report.text()
    assert json.loads(json.dumps(report.as_dict()))["cause"] == report.cause.value
    return report


def said(caught: pytest.ExceptionInfo[Any]) -> anypool.PoolReport:
    """Return the report of an error."""
    report: anypool.PoolReport | None = caught.value.report
    assert report is not None
    return report
