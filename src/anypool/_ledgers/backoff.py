"""Backoff: how often connects are tried that fail."""

from __future__ import annotations

from typing import Final

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds between connects that fail: doubled with each, and never the same twice."""


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
