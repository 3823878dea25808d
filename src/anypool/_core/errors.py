"""The errors that a pool raises."""

from __future__ import annotations

from collections.abc import Iterator

from .report import PoolReport


class PoolError(Exception):
    """Base class of every error that anypool raises on its own account."""


class PoolTimeoutError(PoolError, TimeoutError):
    """A checkout did not finish within its timeout.

    The message is a report, whose first line says what happened.

    Attributes:
        report: the same, typed; None where it has to do with no checkout.
    """

    report: PoolReport | None = None


class PoolDeadlockError(PoolTimeoutError):
    """All who have connections wait for connections: nobody is left to return one."""


class PoolClosedError(PoolError):
    """The pool is closed and gives out no connections any more."""


class TooManyWaitersError(PoolError):
    """As many callers as ``max_waiting`` allows wait for a connection already.

    Attributes:
        report: what the pool said of itself at that moment.
    """

    report: PoolReport | None = None


class InvalidRequestError(PoolError):
    """Something was asked of a pool or a lease that it can't do in its state.

    Raised when a lease is used after ``close()`` or ``invalidate()``, when checkout
    listeners rejected every connection, and when a pool is used from the wrong event
    loop or thread.
    """


class DisconnectionError(PoolError):
    """Raised *by* a checkout listener to say that the connection is dead.

    The pool replaces the connection and runs all checkout listeners again, once.
    """


def single_errors(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in a group, as task groups raise them; or the error itself."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from single_errors(each)
    else:
        yield error
