"""The Driver protocol: everything a pool does to a connection."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from typing_extensions import TypeVar

from .._core.options import ResetMode

ConnT_contra = TypeVar("ConnT_contra", contravariant=True)


class Driver(Protocol[ConnT_contra]):
    """How a family of connections is reset, pinged and closed.

    ``reset``, ``interrupt``, ``ping`` and ``close`` do I/O. They may be plain methods or
    coroutine methods; set ``blocking`` if they are plain and wait, so that an async pool
    calls them in a worker thread. The other methods are plain, do no I/O, raise nothing,
    and may be called at any time in any thread.

    Attributes:
        blocking: Whether the connection's own methods block.
    """

    blocking: bool

    def needs_reset(self, connection: ConnT_contra, /) -> bool:
        """Tell whether a transaction may be open. Must not say False if unsure.

        Whatever else forbids to hand the connection on as it is, such as unread results or
        a closed connection, counts as well: then ``reset`` puts it right, or raises. The
        first call comes right after connecting; its answer does not matter.
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

    def interrupt(self, connection: ConnT_contra, /) -> Awaitable[None] | None:
        """Stop what the connection may still be doing; called before ``reset``.

        The pool calls this where the caller was cut short, perhaps in the middle of a
        statement. If it raises, since that can't be stopped, the connection is closed.
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
