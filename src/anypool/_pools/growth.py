"""Growth: when an opened pool opens connections, and how many."""

from __future__ import annotations

import math
from typing import Final

AT_ONCE: Final = 5
"""Connects that may be under way where there is no connection yet that could return."""

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds between connects that fail: doubled with each, and never the same twice."""


def connects_wanted(
    *, waiting: int, live: int, connecting: int, use: float, connect: float
) -> int:
    """Tell how many more connects to begin for those who wait.

    One that waits is served by its own connect or by a return, whichever comes first. With
    `live` connections that each come back after `use` seconds, all are served by returns
    after ``waiting * use / live``; if that is less than a connect takes, another connection
    would come too late. How long uses will take is not known: those that last longer than
    any before count with the time that they have taken up to now. So a wrong guess costs a
    waiter at most as long again as a connect takes.

    Args:
        waiting: callers in the queue.
        live: connections that there are; with somebody waiting, all of them are out.
        connecting: connects under way.
        use: seconds that a connection is out, on average.
        connect: seconds that a connect takes, on average.
    """
    if live == 0:
        allowed = AT_ONCE
    elif connect > 0:
        allowed = max(1, math.ceil(waiting * use / connect) - live)
    else:
        allowed = waiting
    return max(0, min(waiting, allowed) - connecting)


class Backoff:
    """Pauses between connects that fail, so that a server which comes back is not stormed.

    Attributes:
        error: the latest error; None if the latest connect succeeded.
        resume_at: the time before which no connect is begun.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.resume_at = 0.0
        self._pause = FIRST_PAUSE

    def failed(self, error: Exception, now: float) -> None:
        self.error = error
        from random import uniform  # by need: it takes 1 ms to import

        self.resume_at = now + self._pause * uniform(0.75, 1.25)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def succeeded(self) -> None:
        self.error = None
        self.resume_at = 0.0
        self._pause = FIRST_PAUSE
