"""NullPool, blocking."""

from __future__ import annotations

from typing_extensions import TypeVar

from .._pools import null
from .base import Pool

ConnT = TypeVar("ConnT")


class NullPool(Pool[ConnT]):
    """Opens a connection for every checkout, and closes it on return."""

    _pool_class = null.NullPool
