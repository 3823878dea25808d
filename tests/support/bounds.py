"""Bounds: how much of an endless harness is run."""

from __future__ import annotations

import os
import random

import pytest
from typing_extensions import TypeVar

EFFORT = float(os.environ.get("PROOF", "0"))
"""0 in `make test`; 1 in `make proof`; a fraction of that in CI."""

proof = pytest.mark.proof


def rounds(few: int, many: int) -> int:
    """Return how many rounds to go: few in `make test`, up to `many` in `make proof`."""
    return max(few, int(many * EFFORT))


def stride(every: int) -> int:
    """Return how far to go at a time: one step in all of `make proof`, else so far."""
    return 1 if EFFORT >= 0.5 else every


T = TypeVar("T")


def sample(plans: list[T], many: int) -> list[T]:
    """Return so many of the plans at most (in `make proof`), always the same ones."""
    most = max(50, int(many * EFFORT))
    return plans if len(plans) <= most else random.Random(0).sample(plans, most)


def seeds(count: int) -> range:
    """Return the seeds of so many rounds; only PROOF_SEED's, if that is set."""
    seed = os.environ.get("PROOF_SEED")
    return range(count) if seed is None else range(int(seed), int(seed) + 1)
