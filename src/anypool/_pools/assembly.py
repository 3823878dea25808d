"""Assembly: a pool put together from its parts, and what these call it for."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, Generic

from typing_extensions import TypeVar

from .._core.disconnects import Disconnects
from .._core.lease import PooledConnection
from .._core.log import PoolLog
from .._core.options import check_creator, check_options
from .._core.process import process
from .._core.waiter import Caller
from .._drivers.older import adapted
from .._ledgers.ledger import Ledger
from .._ledgers.surroundings import Calls
from .._parts.announcer import Announcer
from .._parts.background import Background
from .._parts.checkouts import Checkouts
from .._parts.connector import Connector
from .._parts.deadlocks import Deadlocks
from .._parts.diagnosis import Diagnosis
from .._parts.executor import Executor
from .._parts.finalizers import (
    dropped_callback,
    lost_callback,
    terminate,
    weak_call,
    weak_coroutine,
)
from .._parts.leakwatch import LeakWatch
from .._parts.path import Path
from .._parts.reclaimer import Reclaimer
from .._parts.shutdown import Shutdown
from .._parts.waiting import Waiting
from .._runtimes.loop import AnyioRuntime
from .parts import Kinds, Parts

ConnT = TypeVar("ConnT")


class Assembly(Generic[ConnT]):
    """What a pool consists of. Subclasses say which ledger, and which kinds of parts."""

    __slots__ = (
        "__weakref__",
        "_blocking",
        "_diagnosis",
        "_disconnects",
        "_executor",
        "_leaks",
        "_lease_type",
        "_ledger",
        "_log",
        "_options",
        "_parts",
        "_path",
        "_reclaimer",
        "_runtime",
        "_shutdown",
        "_use_threadlocal",
    )

    _kinds: ClassVar[Kinds] = Kinds()

    def _assemble(self, creator: Callable[[], Any], options: dict[str, Any]) -> None:
        """Make the parts.

        Args:
            creator: makes connections.
            options: those of every pool. Facades add the runtime for threads.
        """
        check_creator(creator)
        runtime = options.pop("_runtime", None)
        self._options = base = check_options(type(self).__name__, options)
        self._use_threadlocal: bool = base["use_threadlocal"]
        self._log = PoolLog(type(self).__name__, base["name"], base["echo"])
        self._disconnects: Disconnects[ConnT]
        self._disconnects = Disconnects(base["is_disconnect"], self._log)
        self._lease_type: type[Any] = PooledConnection
        # What calls the pool from below doesn't keep it alive.
        weak_self = weakref.ref(self)
        self._runtime: Any = runtime or AnyioRuntime(
            on_end=weak_coroutine(weak_self, "_on_loop_end"),
            on_move=weak_call(weak_self, "_on_move"),
            on_settle=weak_call(weak_self, "_on_settle"),
        )
        self._blocking: bool = self._runtime.blocking
        calls = Calls(
            on_decided=weak_call(weak_self, "_after_decision"),
            on_drop=dropped_callback(weak_self),
            on_lost=lost_callback(weak_self),
        )
        self._ledger = self._new_ledger(self._runtime, calls, self._is_timed(base))
        self._put_together(creator, Background(self._runtime, weak_self), base)
        self._note_settings()
        _all_pools.add(self)

    def _is_timed(self, options: dict[str, Any]) -> bool:
        """Tell whether the pool has to know when connections go out and come back."""
        return (
            options["use_times"]
            or options["recycle"] >= 0
            or _ping_after(options["pre_ping"]) < math.inf
        )

    def _new_ledger(self, runtime: Any, calls: Calls, timed: bool) -> Ledger[ConnT]:
        raise NotImplementedError

    def _put_together(
        self, creator: Callable[[], Any], background: Background, options: dict[str, Any]
    ) -> None:
        ledger, kinds = self._ledger, self._kinds
        lose_all = options["on_disconnect"] == "pool"
        announcer: Announcer[ConnT]
        announcer = Announcer(self._runtime, options["listeners"] or (), self._log)
        closer = kinds.closer(
            ledger, background, announcer, self._disconnects, lose_all=lose_all
        )
        connector: Connector[ConnT] = Connector(
            creator,
            ledger,
            background,
            announcer,
            closer,
            driver=options["driver"] and adapted(options["driver"]),
            recycle=options["recycle"],
            jitter=options["recycle_jitter"],
            quick=not lose_all,
            full=options["reset_on_return"] == "full",
        )
        ping_after = _ping_after(options["pre_ping"])
        inspector = kinds.inspector(
            ledger, background, closer, self._log, ping_after=ping_after
        )
        mode = options["reset_on_return"]
        resetter = kinds.resetter(self._runtime, announcer, closer, mode)
        checkins = kinds.checkins(ledger, self._runtime, announcer, closer, resetter)
        self._reclaimer: Reclaimer[ConnT]
        self._reclaimer = Reclaimer(ledger, background, closer, checkins, self._log)
        self._shutdown: Shutdown[ConnT]
        self._shutdown = Shutdown(ledger, self._runtime, announcer, closer)
        self._executor = Executor(ledger, background, closer, connector)
        raises = options["on_deadlock"] == "raise"
        deadlocks = Deadlocks(ledger, self._log, raises=raises)
        diagnosis = Diagnosis(ledger, self._runtime, deadlocks, options["name"])
        self._diagnosis = diagnosis
        after = options["leak_after"]
        self._leaks = LeakWatch(ledger, self._runtime, self._log, diagnosis, after)
        self._parts = Parts(
            background,
            announcer,
            closer,
            connector,
            inspector,
            checkins,
            diagnosis,
            deadlocks,
        )
        self._path: Path[ConnT] = self._new_path(self._parts)

    def _new_path(self, parts: Parts) -> Path[ConnT]:
        checkouts = self._new_checkouts(parts)
        return Path(self._ledger, self._runtime, checkouts, parts.checkins, self._reclaimer)

    def _new_checkouts(self, parts: Parts) -> Checkouts[ConnT]:
        return self._kinds.checkouts(
            self._ledger,
            self._runtime,
            parts.announcer,
            parts.closer,
            parts.connector,
            parts.inspector,
            parts.checkins,
            Waiting(*self._of_waiting(parts)),
            None,
        )

    def _of_waiting(self, parts: Parts) -> tuple[Any, ...]:
        """Return what Waiting is made of."""
        slow = self._options["slow_checkout"]
        runtime, log = self._runtime, self._log
        diagnosis, deadlocks, leaks = parts.diagnosis, parts.deadlocks, self._leaks
        return self._ledger, runtime, log, diagnosis, deadlocks, leaks, slow

    def _note_settings(self) -> None:
        """Sum up what the quick path must know of listeners and logging."""

    # What is called from below.

    def _after_decision(self) -> None:
        """Do what could not be done in the middle of a decision."""
        if self._ledger.dropped and self._blocking:
            self._reclaimer.collect()

    def _on_settle(self, caller: Callable[[], Caller]) -> None:
        self._path.find_caller = caller

    async def _on_loop_end(self) -> None:
        self._stop()
        records = await self._shutdown.leave_loop()
        self._start_anew()  # at once: a task that goes on may use the pool meanwhile
        await self._shutdown.close_left(records)

    def _on_move(self) -> None:
        self._stop()
        self._shutdown.move()
        self._start_anew()

    def _after_fork(self) -> None:
        self._shutdown.leave_to_parent()
        self._start_anew()

    # For facades.

    def _was_opened(self) -> bool:
        """Tell whether somebody wanted this pool to be open."""
        return self._ledger.opened

    def _is_misplaced(self) -> bool:
        """Tell whether the creator of this blocking pool is one for an event loop."""
        return False

    # For subclasses.

    async def _begin(self) -> None:
        """Look after the pool from now on."""

    async def _wait_until_warm(self, timeout: float | None) -> None:
        """Wait for the connections that an opened pool has at least."""
        self._ledger.decide(self._ledger.check_open)

    def _stop(self) -> None:
        """Have nobody look after the pool any more, for now."""

    def _start_anew(self) -> None:
        """The place where the pool lived is gone."""
        self._path.start_anew()
        self._leaks.start_anew()

    def __del__(self) -> None:
        if hasattr(self, "_path"):
            records = self._ledger.records()
            if process.is_strange():
                process.spare(*records)
                return
            for record in records:
                terminate(record)
            self._runtime.depart()


def _ping_after(pre_ping: bool | float) -> float:
    """Return the seconds of idling after which a connection has to be pinged."""
    if isinstance(pre_ping, bool):
        return -1.0 if pre_ping else math.inf
    return pre_ping


_all_pools: weakref.WeakSet[Assembly[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    process.settle()
    for pool in list(_all_pools):
        pool._after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
