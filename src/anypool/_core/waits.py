"""Who waits for a connection of which pool, in all of the process.

For telling deadlocks: a ring of callers that wait for each other may go through several
pools.
"""

from __future__ import annotations

from typing import Any

from .waiter import Caller

waits: dict[Caller, Any] = {}
"""The ledger where each caller waits. A caller waits in one place at a time."""
