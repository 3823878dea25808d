"""Checkout: what connect() of an async pool returns, to be entered or awaited."""

from __future__ import annotations

from collections.abc import Generator
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from .errors import InvalidRequestError
from .lease import PooledConnection
from .owner import Owner

ConnT = TypeVar("ConnT")


class Checkout(Generic[ConnT]):
    """A checkout that has not begun yet.

    ``async with`` it to get the driver's connection for the length of a block, or
    ``await`` it to get a lease that is returned by its ``close()``.

    Entering or awaiting raises PoolTimeoutError when the timeout runs out, PoolClosedError,
    InvalidRequestError, or the creator's own error.
    """

    # Written for speed, as the whole uncontended path: plain slots, no contextlib.
    __slots__ = ("_lease", "_order")

    # No __init__, as for leases: new_checkout() sets these, or the pool by itself. What is
    # to be had where: the pool, whether the lease is shared, its timeout, the caller's code
    # and position there. In one tuple, since on CPython 3.11 each look at an attribute of a
    # class that has a __getattr__ takes 0.03 µs.
    _order: tuple[Owner, bool, float | None, CodeType, int]
    _lease: PooledConnection[ConnT] | None

    def __await__(self) -> Generator[Any, None, PooledConnection[ConnT]]:
        pool, share, timeout, code, lasti = self._order
        path = pool._path
        find_caller = path.find_caller
        lease: PooledConnection[ConnT] = path.checkout_nowait(
            pool, find_caller(), share, code, lasti
        )
        if lease._count:
            return _ready(lease)
        # Not by a coroutine in between: for each who waits, it takes 330 bytes more.
        rest: Generator[Any, None, PooledConnection[ConnT]] = path.checkout(
            lease, share, timeout, code, lasti
        ).__await__()
        return rest

    async def __aenter__(self) -> ConnT:
        before = self._lease
        if before is not None and before._ref is not None:
            raise InvalidRequestError(
                "this checkout is entered already; call connect() for each block"
            )
        pool, share, timeout, code, lasti = self._order
        path = pool._path
        find_caller = path.find_caller
        self._lease = lease = path.checkout_nowait(pool, find_caller(), share, code, lasti)
        connection: ConnT = lease._connection
        if connection is None:
            await path.checkout(lease, share, timeout, code, lasti)
            connection = lease._connection
        return connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lease = self._lease
        assert lease is not None
        if exc is not None and lease._lost_by(exc):
            await lease.invalidate(exc)
            return
        count = lease._count
        if count > 1:
            lease._count = count - 1
        elif count:
            path: Any = self._order[0]._path
            # A caller that was cancelled may have left a statement running.
            hurried = exc is not None and not isinstance(exc, (Exception, GeneratorExit))
            record = path.checkin_nowait(lease, lease._caller, hurried)
            if record is None:
                return
            if exc_type is GeneratorExit:
                # The coroutine is being destroyed and can't wait for anything any more.
                path.reclaim(record)
            elif record._only_reset:
                # give_back() once more, in place: one coroutine less, 0.2 µs.
                driver: Any = record._driver
                try:
                    reset = driver.reset(record.connection, path.reset_mode)
                    if reset is not None:
                        record._resetting = lease._caller
                        if not path.watches_resets:
                            path.begin_watch()
                        await reset
                        record._resetting = None
                except BaseException as error:
                    await path.reset_failed(record, error)
                else:
                    ledger = path.ledger
                    if ledger.simple_checkin and record._generation == ledger.generation:
                        ledger.put_idle(record)
                    else:
                        await path.put_back(record)
            else:
                await path.give_back(record, hurried)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            raise InvalidRequestError(_NOT_ENTERED)

        def __enter__(self) -> None:
            raise InvalidRequestError(_NOT_ENTERED)

        def __exit__(self, *_: object) -> None:
            raise NotImplementedError


def _ready(lease: PooledConnection[Any]) -> Generator[Any, None, PooledConnection[Any]]:
    """Return it when awaited, without a pause."""
    yield from ()
    return lease


def new_checkout(
    pool: Owner, share: bool, timeout: float | None, code: CodeType, lasti: int
) -> Checkout[Any]:
    """Make a checkout.

    Args:
        pool: where to check out.
        share: whether the caller may get a connection that it has already.
        timeout: seconds that it may take.
        code: the caller's code.
        lasti: where in that the caller is.
    """
    checkout: Checkout[Any] = Checkout()
    checkout._lease = None
    checkout._order = pool, share, timeout, code, lasti
    return checkout


_NOT_ENTERED = (
    "nothing is checked out yet: write 'async with pool.connect() as conn' or "
    "'lease = await pool.connect()'; for blocking code there is anypool.sync"
)
