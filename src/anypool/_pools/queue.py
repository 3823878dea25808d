"""QueuePool: a limited number of connections, and a queue for who comes too late."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, overload

from typing_extensions import TypeVar, Unpack

from .._core import bounds
from .._core.lease import PooledConnection
from .._core.options import (
    QueuePoolOptions,
    check_bool,
    check_count,
    check_seconds,
    check_timeout,
)
from .._core.process import process
from .._ledgers.ledger import Ledger
from .._ledgers.queue import QueueLedger
from .._ledgers.surroundings import Calls
from .._parts.inspector import QueueInspector
from .._parts.keeper import Keeper
from .._parts.path import Path
from .._parts.plainlisteners import PlainListeners, all_plain
from .._parts.quickpath import QuickPath
from .._parts.turns import Turns
from .._parts.waiting import QueueWaiting
from .._parts.warmup import WarmUp
from .base import Pool
from .parts import Kinds, Parts

ConnT = TypeVar("ConnT")


class QueuePool(Pool[ConnT]):
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

    __slots__ = ("_keeper", "_own", "_plain_listeners", "_turns", "_warm_up")

    _kinds = Kinds(inspector=QueueInspector)
    _ledger: QueueLedger[ConnT]

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
        check_timeout(timeout)
        check_count("min_size", min_size, minimum=0)
        _check_size(pool_size, max_overflow)
        if pool_size and min_size > pool_size:
            raise ValueError(f"min_size: expected at most pool_size, not {min_size}")
        check_seconds("max_idle", max_idle)
        check_seconds("keepalive", keepalive)
        if max_waiting is not None:
            check_count("max_waiting", max_waiting, minimum=0)
        check_bool("use_lifo", use_lifo)
        check_bool("fail_fast", fail_fast)
        self._own: dict[str, Any] = {
            "pool_size": pool_size,
            "max_overflow": max_overflow,
            "timeout": timeout,
            "min_size": min_size,
            "max_idle": max_idle,
            "keepalive": keepalive,
            "max_waiting": max_waiting,
            "use_lifo": use_lifo,
            "fail_fast": fail_fast,
        }
        super().__init__(creator, **options)

    # Putting together.

    def _is_timed(self, options: dict[str, Any]) -> bool:
        own = self._own
        kept = own["max_idle"] is not None or own["keepalive"] is not None
        return kept or super()._is_timed(options)

    def _new_ledger(self, runtime: Any, calls: Calls, timed: bool) -> Ledger[ConnT]:
        own = self._own
        ledger: QueueLedger[ConnT] = QueueLedger(
            runtime,
            calls,
            name=type(self).__name__,
            timed=timed,
            min_size=own["min_size"],
            max_waiting=own["max_waiting"],
            use_lifo=own["use_lifo"],
        )
        ledger.set_size(own["pool_size"], own["max_overflow"])
        return ledger

    def _new_path(self, parts: Parts) -> Path[ConnT]:
        self._keeper: Keeper[ConnT] = Keeper(
            self._ledger,
            parts.background,
            parts.closer,
            parts.connector,
            parts.inspector,
            max_idle=self._own["max_idle"],
            keepalive=self._own["keepalive"],
            timeout=self._own["timeout"],
            leaks=self._leaks,
        )
        self._turns = self._new_turns(parts)
        self._plain_listeners: PlainListeners[ConnT]
        self._plain_listeners = PlainListeners(self._ledger, parts.announcer, parts.closer)
        self._warm_up = WarmUp(self._ledger, self._runtime)
        return QuickPath(
            self._ledger,
            self._runtime,
            self._turns,
            parts.checkins,
            self._reclaimer,
            background=parts.background,
            closer=parts.closer,
            inspector=parts.inspector,
            leaks=self._leaks,
            listeners=self._plain_listeners,
            reset_mode=self._options["reset_on_return"],
            lose_all=self._options["on_disconnect"] == "pool",
        )

    def _new_turns(self, parts: Parts) -> Turns[ConnT]:
        return Turns(
            self._ledger,
            self._runtime,
            parts.announcer,
            parts.closer,
            parts.connector,
            parts.inspector,
            parts.checkins,
            QueueWaiting(*self._of_waiting(parts)),
            self._own["timeout"],
            keeper=self._keeper,
        )

    def _note_settings(self) -> None:
        announcer, mode = self._parts.announcer, self._options["reset_on_return"]
        listeners, quiet = announcer.listeners, not announcer.chatty
        checkout = quiet and not listeners.on_checkout
        quick_return = quiet and not listeners.on_reset and mode != "full"
        checkin = quick_return and not listeners.on_checkin
        plain_checkouts = all_plain(each.checkout for each in listeners.on_checkout)
        plain_checkins = all_plain(each.checkin for each in listeners.on_checkin)
        ledger = self._ledger
        ledger.decide(ledger.set_plain, checkout, checkin)
        self._turns.tells = quiet and bool(listeners.on_checkout) and plain_checkouts
        self._plain_listeners.hear_returns = quick_return and plain_checkins

    def _recreate_options(self) -> dict[str, Any]:
        return super()._recreate_options() | self._own

    # What is called from below.

    def _after_decision(self) -> None:
        ledger = self._ledger
        if ledger.unstarted:
            self._keeper.begin_connects()
        if ledger.wants_look:
            try:
                ledger.wants_look = False
                self._keeper.kick()
            except BaseException:
                ledger.wants_look = True  # the next decision sees to it
                raise
        super()._after_decision()

    async def _begin(self) -> None:
        self._keeper.start()
        if self._own["fail_fast"]:
            try:
                timeout = self._own["timeout"] or bounds.CONNECT_TIMEOUT
                await self._warm_up.wait(timeout, fail_fast=True)
            except BaseException:
                await self.close(timeout=0)
                raise

    async def _wait_until_warm(self, timeout: float | None) -> None:
        await self._warm_up.wait(timeout)

    def _stop(self) -> None:
        self._keeper.stop()

    def _start_anew(self) -> None:
        self._keeper.clear()
        super()._start_anew()

    def __del__(self) -> None:
        if hasattr(self, "_keeper") and not process.is_strange():
            self._keeper.let_go()
        super().__del__()

    # What users ask and do.

    def size(self) -> int:
        """Return ``pool_size``."""
        return self._ledger.size

    def checkedin(self) -> int:
        """Return how many slots are idle."""
        return len(self._ledger.idle)

    def overflow(self) -> int:
        """Return how many slots there are beyond ``pool_size``; negative below that."""
        return self._ledger.total - self._ledger.size

    def checkedout(self) -> int:
        """Return how many slots are out: always size - checkedin + overflow."""
        return self._ledger.total - len(self._ledger.idle)

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
        own, ledger = self._own, self._ledger
        overflow = own["max_overflow"] if max_overflow is None else max_overflow
        _check_size(pool_size, overflow)
        if pool_size and pool_size < own["min_size"]:
            raise ValueError(f"pool_size: expected at least min_size, not {pool_size}")
        own["pool_size"], own["max_overflow"] = pool_size, overflow
        surplus = ledger.decide(ledger.resize, pool_size, overflow)
        await self._parts.closer.close_slots(surplus, "overflow")

    def suspend(self) -> None:
        """Hold all checkouts back until resume(): they wait, as long as their timeout is.

        For a planned failover. What is out may be used and returned.
        """
        self._runtime.refuse_strangers()
        self._ledger.decide(self._ledger.suspend, True)

    def resume(self) -> None:
        """Serve those who wait since suspend(), and all others, again."""
        self._runtime.refuse_strangers()
        self._ledger.decide(self._ledger.suspend, False)

    async def _hold_back(self, suspended: bool) -> None:
        self._ledger.decide(self._ledger.suspend, suspended)

    # For facades.

    def _was_opened(self) -> bool:
        return self._ledger.opened or self._keeper.misplaced

    def _is_misplaced(self) -> bool:
        return self._keeper.misplaced


def _check_size(pool_size: int, max_overflow: int) -> None:
    check_count("pool_size", pool_size, minimum=0)
    check_count("max_overflow", max_overflow, minimum=-1)
