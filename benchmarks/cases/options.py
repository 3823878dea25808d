"""Options: what a case is told."""

from __future__ import annotations

from dataclasses import dataclass

from ..measure import Effort


class Skip(Exception):
    """Raised by a case that can't run here; the message says why."""


@dataclass(frozen=True)
class Options:
    """How to measure, and with what.

    Attributes:
        effort: How long to measure.
        postgres: Where PostgreSQL is, as a URL.
    """

    effort: Effort
    postgres: str = "postgresql://postgres@127.0.0.1:5432/postgres"
