"""Invariants: what holds of a pool whatever was done to it. Every harness asserts these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

import pytest

from anypool import PoolClosedError

from .witness import Witness


def books(pool: Any) -> list[str]:
    """Return what is wrong with a pool's counts at this moment."""
    if not hasattr(pool, "checkedout"):
        return []
    size, idle = pool.size(), pool.checkedin()
    over, out = pool.overflow(), pool.checkedout()
    wrong = []
    if out != size - idle + over:
        wrong.append(f"{out} out, but size {size} - {idle} idle + overflow {over}")
    if out < 0 or over < -size or (size and idle > size):
        wrong.append(f"impossible counts: {pool.status()}")
    return wrong


def leftovers(pool: Any) -> list[str]:
    """Return what a pool that nobody uses still has in its books."""
    ledger = getattr(pool, "async_pool", pool)._ledger
    wrong = []
    if hasattr(pool, "checkedout") and pool.checkedout():
        wrong.append(f"{pool.checkedout()} out for ever")
    wrong += [
        f"{name} has {list(left)}"
        for name, left in (
            ("out", ledger.leases.out),
            ("detached", ledger.leases.detached),
            ("dropped", ledger.dropped),
        )
        if left
    ]
    if ledger.waiting_count():
        wrong.append(f"{ledger.waiting_count()} still wait")
    return wrong


def running(pool: Any) -> list[Any]:
    """Return the tasks or threads that a pool has running beside its callers."""
    runtime = getattr(pool, "async_pool", pool)._runtime
    if runtime.blocking:
        return list(runtime._threads)
    home = runtime._home
    return [*getattr(home, "_tasks", ()), *getattr(home, "_works", ())]


async def assert_nothing_lost(
    pool: Any,
    witness: Witness,
    until: Callable[[Callable[[], object]], Awaitable[None]],
    *,
    capacity: int = 1,
    where: object = "",
) -> None:
    """Assert the invariants of a pool that nobody uses any more, and dispose of it.

    All of its capacity can be had, clean and open; then all connections are closed, once.

    Args:
        pool: of either mode.
        witness: made its connections.
        until: waits until a condition holds, or fails.
        capacity: how many callers can have a connection at a time.
        where: tells where this comes from.
    """
    try:
        await until(lambda: not leftovers(pool))
    except AssertionError:
        raise AssertionError(f"{where}: {leftovers(pool)}, {witness.events}") from None
    taken = []
    for number in range(capacity):
        try:
            lease = await _take(pool, until)
        except Exception as error:
            raise AssertionError(
                f"{where}: connection {number + 1} of {capacity} can't be had: {error!r}, "
                f"{pool.status()}, {witness.events}"
            ) from error
        witness.handed_out(lease.connection, "the checker")
        taken.append(lease)
    for lease in taken:
        witness.given_back(lease.connection, "the checker")
        await _go(lease.close())
    with witness.excuse():
        await _go(pool.dispose())
    try:
        await until(lambda: not witness.open)
    except AssertionError:
        raise AssertionError(
            f"{where}: {witness.open} neither kept nor closed: {witness.events}"
        ) from None
    assert not books(pool), f"{where}: {books(pool)}"
    assert not witness.violations, f"{where}: {witness.violations}, {witness.events}"
    stats = pool.stats()
    assert stats.opened == len(witness.connections), f"{where}: {stats}, {witness.events}"
    if not any(each.detached for each in witness.connections):
        closed = sum(stats.closed.values())
        assert closed == stats.opened, f"{where}: {stats}, {witness.events}"


def assert_all_closed(pool: Any, witness: Witness) -> None:
    """Assert what holds of a blocking pool whose close() has returned."""
    assert not leftovers(pool), leftovers(pool)
    assert not running(pool), running(pool)
    assert not witness.open, f"{witness.open} survived: {witness.events}"
    stats = pool.stats()
    assert (stats.size, stats.idle, stats.checked_out, stats.waiting) == (0, 0, 0, 0)
    assert sum(stats.closed.values()) == stats.opened, stats
    with pytest.raises(PoolClosedError):
        pool.unique_connection(timeout=0)
    assert not books(pool), books(pool)
    assert not witness.violations, f"{witness.violations}, {witness.events}"


async def _take(pool: Any, until: Callable[..., Awaitable[None]]) -> Any:
    for _ in range(1000):
        try:
            return await _go(pool.unique_connection(timeout=30))
        except AssertionError:  # an AssertionPool's connection is still being returned
            looks = iter((False, True))
            await until(looks.__next__)
    raise AssertionError("it is out for ever")


async def _go(result: Any) -> Any:
    return await result if isawaitable(result) else result
