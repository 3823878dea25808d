"""SingletonTaskPool: one connection for each caller."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from typing import Any, overload

from typing_extensions import TypeVar, Unpack

from .._core.lease import PooledConnection
from .._core.options import SizedOptions, check_count
from .._ledgers.ledger import Ledger
from .._ledgers.singleton import SingletonLedger
from .._ledgers.surroundings import Calls
from .._parts.finalizers import death_callback
from .._parts.sharing import SingletonCheckouts
from .base import Pool
from .parts import SHARED

ConnT = TypeVar("ConnT")


class SingletonTaskPool(Pool[ConnT]):
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

    __slots__ = ("_size",)

    _kinds = SHARED._replace(checkouts=SingletonCheckouts)
    _ledger: SingletonLedger[ConnT]

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

    def _new_ledger(self, runtime: Any, calls: Calls, timed: bool) -> Ledger[ConnT]:
        return SingletonLedger(
            runtime,
            calls,
            name=type(self).__name__,
            timed=timed,
            size=self._size,
            on_death=death_callback(weakref.ref(self)),
        )

    def _recreate_options(self) -> dict[str, Any]:
        return super()._recreate_options() | {"pool_size": self._size}

    def size(self) -> int:
        """Return ``pool_size``."""
        return self._size

    def status(self) -> str:
        return f"SingletonTaskPool size: {self.kept()}"

    def kept(self) -> int:
        """Return how many callers have a connection here."""
        return len(self._ledger.kept)

    async def dispose_local(self) -> None:
        """Close the current caller's connection; if it is out, when it returns."""
        await self._dispose_caller(self._runtime.caller())

    async def _dispose_caller(self, caller: Any) -> None:
        ledger = self._ledger
        records = ledger.decide(ledger.forget_caller, caller)
        await self._parts.closer.close_slots(records)
