"""SingletonTaskPool: one connection for each caller."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, overload

from typing_extensions import TypeVar, Unpack

from .._core.lease import Lease, PooledConnection
from .._core.options import SizedOptions, check_count
from .._core.process import process
from .._core.record import ConnectionRecord
from .shared import SharedSlots

ConnT = TypeVar("ConnT")


class SingletonTaskPool(SharedSlots[ConnT]):
    """Keeps one connection for each task (in ``anypool.sync``: each thread).

    The connection is opened at the caller's first checkout and closed when the caller has
    ended. It never goes to another caller.

    Args:
        creator: returns a new connection, or an awaitable of one.
        pool_size: how many callers' connections to keep. Beyond that, those that nobody
            has checked out are closed. Not a limit on how many can be in use. Default 5.
        options: see PoolOptions. ``use_threadlocal`` is always true.

    Raises:
        TypeError, ValueError: an option is not what it should be; the message names it.
    """

    __slots__ = ("_conns", "_evicted", "_on_death", "_size")

    @overload
    def __init__(
        self,
        creator: Callable[[], Awaitable[ConnT]],
        **options: Unpack[SizedOptions[Any, PooledConnection[Any]]],
    ) -> None: ...
    @overload
    def __init__(
        self,
        creator: Callable[[], Awaitable[ConnT] | ConnT],
        **options: Unpack[SizedOptions[Any, PooledConnection[Any]]],
    ) -> None: ...
    def __init__(
        self, creator: Callable[[], Any], *, pool_size: int = 5, **options: Any
    ) -> None:
        check_count("pool_size", pool_size, minimum=1)
        self._size = pool_size
        options["use_threadlocal"] = True
        super().__init__(creator, **options)
        self._on_death = _death_callback(weakref.ref(self))

    def _clear_books(self) -> None:
        super()._clear_books()
        # By a weak reference to the caller, which takes the entry away when it dies.
        self._conns: dict[Any, ConnectionRecord[ConnT]] = {}
        self._evicted: list[ConnectionRecord[ConnT]] = []

    def _recreate_options(self) -> dict[str, Any]:
        return super()._recreate_options() | {"pool_size": self._size}

    def size(self) -> int:
        """Return ``pool_size``."""
        return self._size

    def status(self) -> str:
        return f"SingletonTaskPool size: {self.kept()}"

    def kept(self) -> int:
        """Return how many callers have a connection here."""
        return len(self._conns)

    def _empty(self) -> list[ConnectionRecord[ConnT]]:
        return self._take(None)

    async def dispose_local(self) -> None:
        """Close the current caller's connection; if it is out, when it returns."""
        await self._dispose_caller(self._runtime.caller())

    async def _dispose_caller(self, caller: Any) -> None:
        await self._close_slots(self._decide(self._take, caller))

    def _take(self, caller: Any) -> list[ConnectionRecord[ConnT]]:
        """Take a caller's slot, or all, out of the pool; return those not in use."""
        if caller is None:
            records = list(self._conns.values())
            self._conns.clear()
        else:
            record = self._conns.pop(caller, None)
            records = [] if record is None else [record]
        return [record for record in records if not record._users]

    async def _acquire(
        self,
        lease: Lease[ConnT],
        timeout: float | None,
        first: bool = False,
        left: float | None = None,
    ) -> None:
        await super()._acquire(lease, timeout, first, left)
        while self._evicted:
            with suppress(IndexError):  # another thread may be quicker
                await self._close_slot(self._evicted.pop(), "overflow")

    def _claim(self, lease: Lease[ConnT], may_wait: bool, first: bool) -> None:
        caller: Any = lease._caller
        record = self._conns.get(caller)
        if record is None:
            self._make_room()
            record = self._conns[weakref.ref(caller(), self._on_death)] = self._new_record()
        self._share(lease, record)

    def _make_room(self) -> None:
        for caller in list(self._conns):
            if len(self._conns) < self._size:
                return
            record = self._conns.get(caller)
            if record is not None and not record._users:
                del self._conns[caller]
                self._evicted.append(record)

    def _is_kept(self, record: ConnectionRecord[ConnT]) -> bool:
        return any(record is other for other in list(self._conns.values()))

    def _records(self) -> Iterable[ConnectionRecord[ConnT]]:
        return {*super()._records(), *self._conns.values(), *self._evicted}

    def _caller_died(self, caller: Any) -> None:
        record = self._conns.pop(caller, None)
        if record is not None and not record._users:
            record._on_lost = None  # no slot any more: only its connection is left to close
            self._checkin_later(record)


def _death_callback(weak_pool: weakref.ref[Any]) -> Callable[[Any], None]:
    is_strange = process.is_strange

    def died(caller: Any) -> None:
        pool = weak_pool()
        if pool is not None and not is_strange():
            pool._caller_died(caller)

    return died
