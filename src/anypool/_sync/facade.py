"""Facade: how a blocking pool has the coroutines of the pool that it wraps run."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from types import CodeType, CoroutineType
from typing import Any, ClassVar, Generic

from typing_extensions import TypeVar

from .._core import bounds
from .._pools import base
from .._runtimes.callers import current_caller
from .._runtimes.thread import AwaitableCreator, ThreadRuntime, run
from .begun import first_then
from .bridge import Bridge, LoopThread
from .lease import PooledConnection

ConnT = TypeVar("ConnT")


class Facade(Generic[ConnT]):
    """Drives a pool: by a trampoline, or in an event loop in a background thread."""

    _pool_class: ClassVar[type[base.Pool[Any]]] = base.Pool

    def _wrap(self, creator: Callable[[], Any], options: dict[str, Any]) -> None:
        """Make the pool; in which mode, the creator says, as far as it is known."""
        self._lease_type = PooledConnection
        in_loop = iscoroutinefunction(creator)
        if not in_loop:
            options["_runtime"] = ThreadRuntime()
        self._pool: base.Pool[ConnT] = self._pool_class(creator, **options)
        # What runs the pool's coroutines, if it isn't a trampoline.
        self._bridge: Bridge | None = LoopThread() if in_loop else None
        self._switching = threading.Lock()
        _all_facades.add(self)

    def _checkout(
        self, share: bool, timeout: float | None, code: CodeType, lasti: int
    ) -> PooledConnection[ConnT]:
        caller, pool = current_caller(), self._pool
        if not pool._blocking:
            lease: PooledConnection[ConnT] = self._run(
                pool._path.checkout_for, self, caller, share, timeout, code, lasti
            )
            return lease
        lease = pool._path.checkout_nowait(self, caller, share, code, lasti)
        if lease._count:
            return lease
        return self._finish(pool, lease, share, timeout, code, lasti)

    def _finish(
        self,
        pool: base.Pool[ConnT],
        lease: PooledConnection[ConnT],
        share: bool,
        timeout: float | None,
        code: CodeType,
        lasti: int,
    ) -> PooledConnection[ConnT]:
        """Do what a checkout could not do without waiting or I/O."""
        try:
            pool._path.checkout_blocking(lease, share, timeout, code, lasti)
            return lease
        except AwaitableCreator as found:
            awaitable = found.awaitable
        self._switch_to_loop(awaitable)
        return self._checkout(share, timeout, code, lasti)

    def _switch_to_loop(self, first: Awaitable[ConnT] | None = None) -> None:
        """The driver turned out to be an async one: wrap a pool in an event loop.

        Other threads may be doing the same at this moment, each with its own awaitable.
        """
        with self._switching:
            blocking = self._pool
            if blocking._blocking:
                self._bridge = bridge = LoopThread()
                creator = first_then(first, blocking._parts.connector.creator)
                pool = type(blocking)(creator, **blocking._recreate_options())
                try:
                    if blocking._was_opened():
                        blocking._stop()
                        run(blocking._runtime.settle(bounds.CLOSE_TIMEOUT))
                        bridge.call(pool.open)
                finally:
                    # Not before it is open: who came would connect by itself. All that
                    # reads this goes by the pool's own mode.
                    self._pool = pool
            elif isinstance(first, CoroutineType):
                first.close()  # another thread was quicker

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        if self._bridge is None or self._pool._blocking:
            return run(function(*args))
        return self._bridge.call(function, *args)

    def _run_in_place(self, name: str, *args: Any) -> None:
        pool = self._pool
        self._run(getattr(pool, name), *args)
        if pool._blocking and pool._is_misplaced():
            self._switch_to_loop()
            self._run(getattr(self._pool, name), *args)

    def _end_loop(self) -> None:
        bridge = self._bridge
        # Detached connections need their loop; it ends with the facade then.
        if isinstance(bridge, LoopThread) and not self._pool._ledger.leases.detached:
            bridge.stop()
            bridge.thread.join(bounds.CLOSE_TIMEOUT)


_all_facades: weakref.WeakSet[Facade[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for facade in list(_all_facades):
        facade._switching = threading.Lock()  # a thread of the parent may have had it


if hasattr(os, "register_at_fork"):  # pragma: no branch  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
