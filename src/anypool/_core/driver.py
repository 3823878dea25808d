"""The Driver protocol: everything a pool does to a connection."""

from __future__ import annotations

from collections.abc import Awaitable
from enum import Enum
from typing import Any, Protocol

from typing_extensions import TypeVar

from .resetmode import ResetMode

ConnT_contra = TypeVar("ConnT_contra", contravariant=True)


class ConnectionState(Enum):
    """What a connection is in, when it comes back from a caller."""

    CLEAN = "clean"
    """Nothing is to be undone."""
    OPEN = "open"
    """A transaction is open, or can't be excluded."""
    CHANGED = "changed"
    """Its user has changed something on the client's side, such as autocommit; perhaps a
    transaction is open as well."""
    BUSY = "busy"
    """A statement, stream, COPY, pipeline or unread result is under way, or the driver's
    own lock is held."""
    TWO_PHASE = "two-phase"
    """A two-phase transaction has begun and is not ended."""
    CLOSED = "closed"
    """It is closed, or of no use any more."""


# Every return compares with these: one look at a global in place of two.
CLEAN = ConnectionState.CLEAN
OPEN = ConnectionState.OPEN
CHANGED = ConnectionState.CHANGED
BUSY = ConnectionState.BUSY
TWO_PHASE = ConnectionState.TWO_PHASE
CLOSED = ConnectionState.CLOSED


class Driver(Protocol[ConnT_contra]):
    """How a family of connections is reset, pinged and closed.

    ``reset``, ``interrupt``, ``ping`` and ``close`` do I/O. They may be plain methods or
    coroutine methods; set ``blocking`` if they are plain and wait, so that an async pool
    calls them in a worker thread. The other methods are plain, do no I/O, raise nothing,
    and may be called at any time in any thread.

    A driver may have one more method, ``note_session(connection, baseline, first)``, which
    may do I/O. With ``reset_on_return="full"`` it is called after each ``baseline``, for
    what only the database can tell; the second time, ``first`` is the first baseline.

    Attributes:
        blocking: Whether the connection's own methods block.
    """

    blocking: bool

    def baseline(self, connection: ConnT_contra, /) -> Any:
        """Take note of what callers may change on the client's side, such as autocommit.

        Called when the connection is new, and once more when connect listeners have been
        at it. What it returned last is handed to ``state`` and ``restore``. A driver that
        has to watch a connection begins to do so here.
        """
        ...

    def holds_data(self, connection: ConnT_contra, /) -> Any:
        """Tell whether the database itself ends with this connection, as one in memory
        does. Called once, when the connection is new; may return an awaitable.

        The pool does not close such a connection for its age, for idling, or because there
        are more than it keeps.

        Returns:
            True or False. Or, if there is nothing in the database yet and no other
            connection can have it, anything else that is true; a pool whose callers would
            get one or the other refuses the second connection of which this is equal.
        """
        ...

    def state(self, connection: ConnT_contra, baseline: Any, /) -> ConnectionState:
        """Tell what the connection is in, without a round trip. Must not say CLEAN if
        unsure.

        A quick look, since every return asks. The pool hands on what is CLEAN; has what is
        BUSY interrupted, and closed if it is still busy then; resets what is OPEN or in a
        TWO_PHASE transaction; resets and restores what is CHANGED; gives up what is CLOSED.
        """
        ...

    def reset(self, connection: ConnT_contra, mode: ResetMode, /) -> Awaitable[None] | None:
        """Make the connection fit for the next caller; if this raises, it is closed.

        Args:
            connection: what the caller left behind.
            mode: "rollback" or "commit" ends the open transaction. "full" rolls back, and
                leaves the session as if it had just been opened; a driver that can't do
                that raises, since a new connection does it as well.
        """
        ...

    def restore(self, connection: ConnT_contra, baseline: Any, /) -> Awaitable[None] | None:
        """Put back what differs from the baseline, after ``reset``.

        If this raises, since there is no way back, the connection is closed.
        """
        ...

    def interrupt(self, connection: ConnT_contra, /) -> Awaitable[None] | None:
        """Stop what the connection may still be doing; called before ``reset``.

        The pool calls this where the connection is BUSY, or the caller was cut short,
        perhaps in the middle of a statement. It must end soon. If it raises, since that
        can't be stopped, the connection is closed.
        """
        ...

    def ping(self, connection: ConnT_contra, /) -> Awaitable[None] | None:
        """Make a round trip to the server; raise if the connection is dead.

        Leaves no transaction open.
        """
        ...

    def close(self, connection: ConnT_contra, /) -> Awaitable[None] | None:
        """Close the connection in the orderly way."""
        ...

    def terminate(self, connection: ConnT_contra, /) -> bool:
        """Close the connection at once, without waiting; a finalizer may call this.

        Returns:
            False if this kind of connection can't be closed without waiting. Then nothing
            was done.
        """
        ...

    def is_open(self, connection: ConnT_contra, /) -> bool:
        """Tell whether the connection looks usable, as far as can be seen without I/O."""
        ...

    def is_disconnect(self, error: BaseException, connection: ConnT_contra, /) -> bool:
        """Tell whether an error, raised while the connection was out, means that it is
        lost.

        With ``on_disconnect="pool"`` that ends all older connections as well. So it should
        be the error that tells, and not just that the connection is closed by now.
        """
        ...


class CannotReset(Exception):
    """Raised by ``reset`` and ``interrupt``: only a new connection will do."""
