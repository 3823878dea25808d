"""StaticPool, blocking."""

from __future__ import annotations

from typing_extensions import TypeVar

from .._pools import static
from .base import Pool

ConnT = TypeVar("ConnT")


class StaticPool(Pool[ConnT]):
    """Gives all callers one and the same connection, opened at the first checkout.

    Several threads may have it at a time, so the driver must allow that. It is reset
    whenever one of them returns it.
    """

    _pool_class = static.StaticPool
