"""What runs when nobody is there any more: a lease, a slot, an event loop, a pool.

None of it may keep a pool alive, wait, or complain.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Coroutine, Generator
from inspect import isawaitable
from typing import Any

from .._core.process import process
from .._core.record import ConnectionRecord


def terminate_connection(record: ConnectionRecord[Any]) -> bool:
    try:
        return record._driver.terminate(record.connection)
    except Exception:
        return True  # it has done what it could; the connection is dropped anyway


def terminate(record: ConnectionRecord[Any]) -> None:
    """Close a connection without a loop, without waiting, without complaint."""
    record._on_lost = None
    if record.connection is not None and not terminate_connection(record):
        try:
            closing = record._driver.close(record.connection)
            if isawaitable(closing):
                run_first_step(closing)
        except Exception:
            pass
    record.connection = None


def run_first_step(work: Any) -> None:
    """Run a coroutine up to where it would wait: the part that needs no event loop."""
    steps = work if isinstance(work, (Coroutine, Generator)) else work.__await__()
    try:
        steps.send(None)
        steps.close()
    except (StopIteration, RuntimeError):
        return


def dropped_callback(weak_pool: weakref.ref[Any]) -> Callable[[Any], None]:
    """Make the finalizer of a pool's leases. It must not keep the pool alive."""
    is_strange = process.is_strange

    def dropped(ref: weakref.ref[Any]) -> None:
        pool = weak_pool()
        if pool is None or is_strange():
            return
        ledger = pool._ledger
        try:
            record = ledger.leases.out.pop(ref, None)
        except TypeError:  # it was never hashed, and so is in no book
            return
        if record is not None:
            ledger.note_use(record)
        else:
            record = ledger.leases.detached.pop(ref, None)
            if record is None:
                return
        if sys.is_finalizing():  # pragma: no cover  # nothing measures that: test_exit.py
            terminate(record)
            return
        filename, line = record._line()
        pool._path.reclaim(record)
        warnings.warn_explicit(
            f"a lease of {type(pool).__name__} was dropped without close(); it was checked "
            f"out at {filename}:{line}",
            ResourceWarning,
            filename,
            line,
        )

    return dropped


def lost_callback(weak_pool: weakref.ref[Any]) -> Callable[[Any], None]:
    """Make the finalizer of a pool's records, for slots lost by an interrupt."""

    def lost(record: ConnectionRecord[Any]) -> None:
        pool = weak_pool()
        had_connection = record.connection is not None
        terminate(record)
        if pool is not None:
            # An empty slot takes the place of the one that is gone, and its statistics.
            pool._ledger.known.pop(weakref.ref(record), None)
            stand_in = pool._ledger.new_record()
            stand_in._checkouts, stand_in._dirty = record._checkouts, record._dirty
            stand_in._uses = record._uses
            stand_in._ending = had_connection
            pool._path.reclaim(stand_in)

    return lost


def death_callback(weak_pool: weakref.ref[Any]) -> Callable[[Any], None]:
    """Make the finalizer of the callers of a SingletonTaskPool."""
    is_strange = process.is_strange

    def died(caller: Any) -> None:
        pool = weak_pool()
        if pool is None or is_strange():
            return
        for record in pool._ledger.forget_caller(caller):
            record._on_lost = None  # no slot any more: only its connection is left to close
            pool._path.reclaim(record)

    return died


def weak_call(weak_self: weakref.ref[Any], name: str) -> Callable[..., None]:
    def call(*args: Any) -> None:
        me = weak_self()
        if me is not None:
            getattr(me, name)(*args)

    return call


def weak_coroutine(
    weak_self: weakref.ref[Any], name: str
) -> Callable[[], Coroutine[Any, Any, None]]:
    async def call() -> None:
        me = weak_self()
        if me is not None:
            await getattr(me, name)()

    return call
