"""AssertionPool, blocking."""

from __future__ import annotations

from typing_extensions import TypeVar

from .._pools import assertion
from .base import Pool

ConnT = TypeVar("ConnT")


class AssertionPool(Pool[ConnT]):
    """Allows one checked out connection at a time, and says who broke that.

    A second checkout raises an AssertionError that names the file and line of the first.
    """

    _pool_class = assertion.AssertionPool
