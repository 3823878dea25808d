"""Growth: how many connects an opened pool begins, and the pauses when they fail."""

from __future__ import annotations

import math
from typing import Any

import pytest

import anypool
from anypool._ledgers.backoff import Backoff
from anypool._ledgers.growth import AT_ONCE, connects_wanted
from anypool._parts.keeper import LOOK_EVERY


def test_pauses_double_up_to_a_limit_and_begin_anew() -> None:
    backoff = Backoff()
    for _ in range(2):
        for pause in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
            error = OSError()
            backoff.failed(error, 100.0)
            assert backoff.error is error
            assert 0.75 * pause <= backoff.resume_at - 100 <= 1.25 * pause
        backoff.succeeded()
        assert (backoff.error, backoff.resume_at) == (None, 0.0)


def test_pauses_of_many_pools_differ() -> None:
    """Or else all would come back to the server at the same moment."""
    pauses = set()
    for _ in range(20):
        backoff = Backoff()
        backoff.failed(OSError(), 0.0)
        pauses.add(backoff.resume_at)
    assert len(pauses) > 15


@pytest.mark.parametrize(
    ("waiting", "live", "connecting", "use", "connect", "wanted"),
    [
        (1, 0, 0, 1.0, 0.0, 1),
        (20, 0, 0, 1.0, 1.0, AT_ONCE),  # nothing that could return
        (20, 0, 3, 1.0, 1.0, AT_ONCE - 3),
        (3, 0, 3, 1.0, 1.0, 0),
        (1, 0, 3, 1.0, 1.0, 0),
        (8, 2, 3, 1.0, 0.0, 5),  # connects take no time: one for each
        (8, 2, 0, 0.1, 10.0, 1),  # returns are quicker: one, to be sure
        (8, 2, 1, 0.1, 10.0, 0),
        (8, 2, 0, 1.0, 2.0, 2),  # returns serve four in the time of a connect
        (8, 2, 1, 1.0, 2.0, 1),
        (8, 2, 0, 60.0, 0.1, 8),  # never more than wait
        (7, 2, 0, 1.0, 2.0, 2),  # 3.5 are begun as 4
    ],
)
def test_connects_for_those_who_wait(
    waiting: int, live: int, connecting: int, use: float, connect: float, wanted: int
) -> None:
    assert wanted == connects_wanted(
        waiting=waiting, live=live, connecting=connecting, use=use, connect=connect
    )


@pytest.mark.parametrize(
    ("options", "connect_time", "pause", "connecting", "delay"),
    [
        ({}, 0.0, None, 0, math.inf),  # there is nothing to look for
        ({"max_idle": 60}, 0.0, None, 0, LOOK_EVERY),
        ({"keepalive": 60}, 0.0, None, 0, LOOK_EVERY),
        ({"recycle": 60}, 0.0, None, 0, LOOK_EVERY),
        ({"recycle": 0}, 0.0, None, 0, LOOK_EVERY),
        ({"min_size": 1}, 0.0, None, 0, 0.002),  # a connection is missing
        ({"min_size": 1}, 0.2, None, 0, 0.02),  # a tenth of what a connect takes
        ({"min_size": 1}, 9.0, None, 0, 0.05),
        ({"min_size": 1, "max_idle": 60}, 0.2, None, 0, 0.02),
        ({"min_size": 1}, 0.2, 0.5, 0, 0.5),  # not before the pause is over
        ({"min_size": 1}, 0.2, -0.5, 0, 0.001),
        ({"min_size": 1}, 0.2, 0.5, 1, math.inf),  # a connect under way tells when it ends
        ({"min_size": 1, "max_idle": 60}, 0.2, 99.0, 0, LOOK_EVERY),
    ],
)
def test_next_look_at_a_pool(
    options: dict[str, Any],
    connect_time: float,
    pause: float | None,
    connecting: int,
    delay: float,
) -> None:
    """As late as will do: it wakes a thread or an event loop."""
    pool: Any = anypool.QueuePool(list[int], **options)
    counts, backoff = pool._ledger.statistics, pool._ledger.growth.backoff
    counts.connect_times.total, counts.opened = 2 * connect_time, 2
    if pause is not None:
        backoff.error, backoff.resume_at = OSError(), 100 + pause
    pool._ledger.connecting = dict.fromkeys(range(connecting))
    assert pool._keeper._next_look(100.0) == pytest.approx(delay)


@pytest.mark.parametrize("why", ["suspended", "full"])
def test_next_look_at_a_pool_that_may_not_grow(why: str) -> None:
    pool: Any = anypool.QueuePool(list[int], min_size=1)
    if why == "full":
        pool._ledger.capacity = 0
    else:
        pool._ledger.suspended = True
    assert pool._keeper._next_look(100.0) == math.inf
