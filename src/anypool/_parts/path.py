"""Path: the ways in and out of a pool, for checkouts, leases and facades."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import CodeType
from typing import Any, Generic

from typing_extensions import TypeVar

from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .._core.waiter import Caller
from .._ledgers.ledger import Ledger
from .._runtimes.thread import run
from .checkins import Checkins
from .checkouts import Checkouts
from .reclaimer import Reclaimer

ConnT = TypeVar("ConnT")


class Path(Generic[ConnT]):
    """Begins checkouts and returns: what can be done at once is, and the rest is handed on.

    Attributes:
        find_caller: returns who is calling; raises in another event loop than the pool's.
        checkout: does the rest of a checkout; see Checkouts.checkout().
        checkin: returns a slot, in a blocking pool; see Checkins.checkin().
        invalidate: closes a lease's connection; see Checkins.invalidate().
        detach: takes a lease's connection out of the pool; see Checkins.detach().
        reclaim: returns a slot later on; see Reclaimer.reclaim().
    """

    __slots__ = (
        "__weakref__",
        "_checkins",
        "_checkouts",
        "checkin",
        "checkout",
        "detach",
        "find_caller",
        "invalidate",
        "ledger",
        "reclaim",
    )

    def __init__(
        self,
        ledger: Ledger[ConnT],
        runtime: Any,
        checkouts: Checkouts[ConnT],
        checkins: Checkins[ConnT],
        reclaimer: Reclaimer[ConnT],
    ) -> None:
        self.ledger: Ledger[ConnT] = ledger
        # Not "Callable[[], ...]", which pyright takes for a method without self.
        self.find_caller: Callable[..., Caller] = runtime.caller
        self._checkouts = checkouts
        self._checkins = checkins
        self.checkout = checkouts.checkout
        self.checkin = checkins.checkin
        self.invalidate = checkins.invalidate
        self.detach = checkins.detach
        self.reclaim = reclaimer.reclaim

    def start_anew(self) -> None:
        """The place where the pool lived is gone."""

    def checkout_nowait(
        self, owner: Any, caller: Caller, share: bool, code: CodeType, lasti: int
    ) -> Any:
        """Return the caller's own lease once more, or a new one.

        The lease has a connection if that could be had without waiting and without I/O.
        Otherwise its count is 0, and checkout() has to follow.

        Args:
            owner: the pool or facade that is asked.
            caller: whose checkout it is.
            share: whether the caller may get a connection that it has already.
            code: the caller's code.
            lasti: where in that the caller is.
        """
        if share:
            lease = self.ledger.leases.nested(caller)
            if lease is not None:
                return lease
        else:
            hash(caller)  # while it lives: who returns the lease may outlive it
        return self.ledger.leases.new(owner, caller)

    def checkout_blocking(
        self,
        lease: Lease[ConnT],
        share: bool,
        timeout: float | None,
        code: CodeType,
        lasti: int,
    ) -> None:
        """Do the rest of a checkout in a blocking pool."""
        run(self.checkout(lease, share, timeout, code, lasti))

    async def checkout_for(
        self,
        owner: Any,
        caller: Caller,
        share: bool,
        timeout: float | None,
        code: CodeType,
        lasti: int,
    ) -> Any:
        """Do all of a checkout for a thread, in the pool's event loop."""
        self.find_caller()
        lease = self.checkout_nowait(owner, caller, share, code, lasti)
        if not lease._count:
            await self.checkout(lease, share, timeout, code, lasti)
        return lease

    def checkin_nowait(
        self, lease: Lease[ConnT], caller: Caller | None, hurried: bool = False
    ) -> ConnectionRecord[ConnT] | None:
        """Take the lease's slot back. If work is left to do on it, return its record.

        Args:
            lease: is over.
            caller: who returns it, be it the one that checked out or not.
            hurried: whether that caller was cancelled.
        """
        return self.ledger.end(lease, caller is lease._caller)

    def give_back(
        self, record: ConnectionRecord[ConnT], hurried: bool = False
    ) -> Coroutine[Any, Any, None]:
        """Do the rest of a return, in spite of a cancellation."""
        return self._checkins.give_back(record, hurried)

    async def checkin_lease(self, lease: Lease[ConnT]) -> None:
        """Do all of a return for a thread, in the pool's event loop."""
        record = self.checkin_nowait(lease, None)
        if record is not None:
            await self.give_back(record)
