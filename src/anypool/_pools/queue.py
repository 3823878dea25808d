"""QueuePool: a limited number of connections, and a queue for who comes too late."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, overload

from typing_extensions import TypeVar, Unpack

from .._core.errors import PoolTimeoutError
from .._core.lease import PooledConnection
from .._core.options import (
    QueuePoolOptions,
    check_bool,
    check_count,
    check_seconds,
    check_timeout,
)
from .._core.record import ConnectionRecord
from .quickpath import QuickPath

ConnT = TypeVar("ConnT")


class QueuePool(QuickPath[ConnT]):
    """Keeps up to ``pool_size`` connections, and opens ``max_overflow`` more at need.

    It starts empty. Idle connections go out first in, first out. When all are out, callers
    wait in a queue, first come, first served.

    Args:
        creator: returns a new connection, or an awaitable of one.
        pool_size: how many connections to keep; 0: no limit. Default 5.
        max_overflow: how many more may be open at a time; they are closed on return.
            -1: no limit. Default 10.
        timeout: seconds that a checkout may take, waiting and connecting included; 0: never
            wait for a free connection; None: wait for ever. Default 30.
        min_size: how many connections an opened pool keeps at least. Default 0.
        max_idle: seconds after which an opened pool closes an idle connection that isn't
            needed; None: never. Default None.
        keepalive: seconds after which an opened pool pings an idle connection; None: never.
            Default None.
        max_waiting: how many callers may wait; None: no limit. Default None.
        use_lifo: whether the connection that came back last goes out first. Default False.
        fail_fast: whether opening waits for the first connections and raises their errors.
            Default False.
        options: see PoolOptions.

    Raises:
        TypeError, ValueError: an option is not what it should be; the message names it.
    """

    __slots__ = ("_max_overflow", "_size")

    _lends_any = True

    @overload
    def __init__(
        self,
        creator: Callable[[], Awaitable[ConnT]],
        **options: Unpack[QueuePoolOptions[Any, PooledConnection[Any]]],
    ) -> None: ...

    @overload
    def __init__(
        self,
        creator: Callable[[], Awaitable[ConnT] | ConnT],
        **options: Unpack[QueuePoolOptions[Any, PooledConnection[Any]]],
    ) -> None: ...

    def __init__(
        self,
        creator: Callable[[], Any],
        *,
        pool_size: int = 5,
        max_overflow: int = 10,
        timeout: float | None = 30.0,
        min_size: int = 0,
        max_idle: float | None = None,
        keepalive: float | None = None,
        max_waiting: int | None = None,
        use_lifo: bool = False,
        fail_fast: bool = False,
        **options: Any,
    ) -> None:
        self._min_size = 0
        self._set_size(pool_size, max_overflow)
        check_timeout(timeout)
        check_count("min_size", min_size, minimum=0)
        if min_size > self._keep:
            raise ValueError(f"min_size: expected at most pool_size, not {min_size}")
        check_seconds("max_idle", max_idle)
        check_seconds("keepalive", keepalive)
        if max_waiting is not None:
            check_count("max_waiting", max_waiting, minimum=0)
        check_bool("use_lifo", use_lifo)
        check_bool("fail_fast", fail_fast)
        self._min_size = min_size
        self._max_idle = max_idle
        self._keepalive = keepalive
        self._max_waiting = max_waiting
        self._use_lifo = use_lifo
        self._fail_fast = fail_fast
        self._suspended = False
        super().__init__(creator, **options)
        self._timeout = timeout
        self._keeps_time |= max_idle is not None or keepalive is not None

    def _set_size(self, pool_size: int, max_overflow: int) -> None:
        check_count("pool_size", pool_size, minimum=0)
        check_count("max_overflow", max_overflow, minimum=-1)
        unlimited = pool_size == 0
        if not unlimited and pool_size < self._min_size:
            raise ValueError(f"pool_size: expected at least min_size, not {pool_size}")
        self._size = pool_size
        self._max_overflow = max_overflow
        self._keep = math.inf if unlimited else pool_size
        self._capacity = (
            math.inf if unlimited or max_overflow < 0 else pool_size + max_overflow
        )

    def _recreate_options(self) -> dict[str, Any]:
        return super()._recreate_options() | {
            "pool_size": self._size,
            "max_overflow": self._max_overflow,
            "timeout": self._timeout,
            "min_size": self._min_size,
            "max_idle": self._max_idle,
            "keepalive": self._keepalive,
            "max_waiting": self._max_waiting,
            "use_lifo": self._use_lifo,
            "fail_fast": self._fail_fast,
        }

    # What users ask and do.

    def size(self) -> int:
        """Return ``pool_size``."""
        return self._size

    def checkedin(self) -> int:
        """Return how many slots are idle."""
        return len(self._idle)

    def overflow(self) -> int:
        """Return how many slots there are beyond ``pool_size``; negative below that."""
        return self._total - self._size

    def checkedout(self) -> int:
        """Return how many slots are out: always size - checkedin + overflow."""
        return self._total - len(self._idle)

    def status(self) -> str:
        return (
            f"Pool size: {self.size()} Connections in pool: {self.checkedin()} "
            f"Current Overflow: {self.overflow()} "
            f"Current Checked out connections: {self.checkedout()}"
        )

    async def resize(self, pool_size: int, max_overflow: int | None = None) -> None:
        """Change the size of the pool while it is in use.

        What is too much is closed now if it is idle, else when it returns.

        Args:
            pool_size: how many connections to keep; 0: no limit.
            max_overflow: how many more may be open at a time; -1: no limit. Default: as
                many as up to now.

        Raises:
            TypeError, ValueError: one of them is not what it should be.
        """
        self._runtime.caller()
        overflow = self._max_overflow if max_overflow is None else max_overflow
        await self._close_slots(self._decide(self._resize, pool_size, overflow), "overflow")

    def _resize(self, pool_size: int, max_overflow: int) -> list[ConnectionRecord[ConnT]]:
        self._set_size(pool_size, max_overflow)
        surplus = self._surplus()
        self._grow()
        return surplus

    def suspend(self) -> None:
        """Hold all checkouts back until resume(): they wait, as long as their timeout is.

        For a planned failover. What is out may be used and returned.
        """
        self._runtime.refuse_strangers()
        self._decide(self._suspend, True)

    def resume(self) -> None:
        """Serve those who wait since suspend(), and all others, again."""
        self._runtime.refuse_strangers()
        self._decide(self._suspend, False)

    async def _hold_back(self, suspended: bool) -> None:
        self._decide(self._suspend, suspended)

    def _timed_out(self, phase: str, timeout: float) -> PoolTimeoutError:
        cause = self._backoff.error
        if cause is not None:
            error = PoolTimeoutError(
                f"QueuePool: no connection within the timeout of {timeout:g}; connecting "
                f"failed with {type(cause).__name__}"
            )
            error.__cause__ = cause
            return error
        return PoolTimeoutError(
            f"QueuePool limit of size {self._size} overflow {self.overflow()} reached, "
            f"connection timed out, timeout {timeout:g}"
            if phase == "waiting"
            else f"QueuePool: {phase} timed out, timeout {timeout:g}"
        )
