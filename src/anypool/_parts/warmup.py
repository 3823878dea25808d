"""WarmUp: waiting for an opened pool's first connections."""

from __future__ import annotations

from typing import Any

from .._core.errors import PoolTimeoutError
from .._ledgers.queue import QueueLedger


class WarmUp:
    """Waits until there are ``min_size`` connections."""

    __slots__ = ("_ledger", "_runtime")

    def __init__(self, ledger: QueueLedger[Any], runtime: Any) -> None:
        self._ledger = ledger
        self._runtime = runtime

    async def wait(self, timeout: float | None, *, fail_fast: bool = False) -> None:
        """Wait.

        Args:
            timeout: seconds; None: no limit.
            fail_fast: wait for one connection at least, and raise the first connect error.

        Raises:
            PoolTimeoutError: they could not be opened in time.
            PoolClosedError: the pool is closed.
        """
        ledger, now = self._ledger, self._runtime.now
        growth = ledger.growth
        size = max(1, growth.min_size) if fail_fast else growth.min_size
        deadline = None if timeout is None else now() + timeout
        while True:
            gate = self._runtime.gate()
            missing = ledger.decide(growth.watch, ledger, gate, size)
            if not missing:
                return
            # No variable for the error: its traceback would hold this frame, which held it.
            if fail_fast and growth.backoff.error is not None:
                raise growth.backoff.error
            left = None if deadline is None else deadline - now()
            if left is not None and left <= 0:
                assert timeout is not None
                raise PoolTimeoutError(
                    f"{ledger.name}: {missing} of {size} connections could not be "
                    f"opened, timeout {timeout:g}"
                ) from growth.backoff.error
            await self._runtime.wait(gate, left)
