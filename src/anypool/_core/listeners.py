"""The listeners that a pool calls, typed as protocols.

A listener is any object with some of the methods below. In an async pool each may be a
plain method or a coroutine method.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, Final, Generic, Protocol, TypeAlias

from typing_extensions import TypeVar

from .lease import PooledConnection
from .record import ConnectionRecord

ConnT = TypeVar("ConnT")
LeaseT = TypeVar("LeaseT", default=PooledConnection[Any])
LeaseT_contra = TypeVar("LeaseT_contra", contravariant=True, default=PooledConnection[Any])


class BeforeConnectListener(Protocol[ConnT]):
    """Is asked before every connect what to connect to."""

    def before_connect(
        self, parameters: dict[str, Any], record: ConnectionRecord[ConnT], /
    ) -> Awaitable[None] | None:
        """Change the keyword arguments that the creator is about to be called with.

        They are a copy of those that a ``functools.partial`` or ``create_pool()`` holds,
        else there are none at first. If this raises, the connect fails with that error.
        """
        ...


class FirstConnectListener(Protocol[ConnT]):
    """Is told of the pool's first connection, before the connect listeners are."""

    def first_connect(
        self, connection: ConnT, record: ConnectionRecord[ConnT], /
    ) -> Awaitable[None] | None:
        """Do what has to be done once; other connects wait for it.

        If this raises, the connect fails, and the next one tells this listener again.
        """
        ...


class ConnectListener(Protocol[ConnT]):
    """Is told of every new driver connection, before anyone uses it."""

    def connect(
        self, connection: ConnT, record: ConnectionRecord[ConnT], /
    ) -> Awaitable[None] | None:
        """Prepare a new connection. If this raises, the connection is closed and the
        checkout fails with that error."""
        ...


class CheckoutListener(Protocol[ConnT, LeaseT_contra]):
    """Is told of every checkout, nested ones excepted."""

    def checkout(
        self, connection: ConnT, record: ConnectionRecord[ConnT], lease: LeaseT_contra, /
    ) -> Awaitable[None] | None:
        """Look at a connection that is about to be handed out.

        Raise DisconnectionError to have it replaced; any other error fails the checkout.
        """
        ...


class CheckinListener(Protocol[ConnT]):
    """Is told of every return, before the connection is reset."""

    def checkin(
        self, connection: ConnT | None, record: ConnectionRecord[ConnT], /
    ) -> Awaitable[None] | None:
        """Look at a connection that comes back; None if it was invalidated."""
        ...


class ResetListener(Protocol[ConnT]):
    """Is told of every return, after the connection was reset."""

    def reset(
        self, connection: ConnT, record: ConnectionRecord[ConnT], /
    ) -> Awaitable[None] | None:
        """Reset what the pool doesn't. If this raises, the connection is closed."""
        ...


class InvalidateListener(Protocol[ConnT]):
    """Is told of every connection that is given up, before it is closed."""

    def invalidate(
        self,
        connection: ConnT,
        record: ConnectionRecord[ConnT],
        error: BaseException | None,
        /,
    ) -> Awaitable[None] | None:
        """Take note of the error that made it useless. What this raises is logged."""
        ...


class CloseListener(Protocol[ConnT]):
    """Is told of every connection that the pool is about to close."""

    def close(
        self, connection: ConnT, record: ConnectionRecord[ConnT], /
    ) -> Awaitable[None] | None:
        """Say goodbye. Not called where nothing may be waited for any more, as in
        finalizers. What this raises is logged."""
        ...


class DetachListener(Protocol[ConnT]):
    """Is told of every connection that was detached."""

    def detach(
        self, connection: ConnT, record: ConnectionRecord[ConnT], /
    ) -> Awaitable[None] | None:
        """Take note that it isn't the pool's any more. What this raises is logged."""
        ...


Listener: TypeAlias = (
    BeforeConnectListener[ConnT]
    | FirstConnectListener[ConnT]
    | ConnectListener[ConnT]
    | CheckoutListener[ConnT, LeaseT]
    | CheckinListener[ConnT]
    | ResetListener[ConnT]
    | InvalidateListener[ConnT]
    | CloseListener[ConnT]
    | DetachListener[ConnT]
)
"""What ``listeners=`` and ``add_listener()`` take."""

_METHODS: Final = (
    "before_connect",
    "first_connect",
    "connect",
    "checkout",
    "checkin",
    "reset",
    "invalidate",
    "close",
    "detach",
)


class Listeners(Generic[ConnT, LeaseT]):
    """The listeners of one pool, sorted by what they listen to."""

    def __init__(self, listeners: Iterable[Listener[ConnT, LeaseT]]) -> None:
        self.all: tuple[Listener[ConnT, LeaseT], ...] = ()
        self.on_before_connect: tuple[BeforeConnectListener[ConnT], ...] = ()
        self.on_first_connect: tuple[FirstConnectListener[ConnT], ...] = ()
        self.on_connect: tuple[ConnectListener[ConnT], ...] = ()
        self.on_checkout: tuple[CheckoutListener[ConnT, LeaseT], ...] = ()
        self.on_checkin: tuple[CheckinListener[ConnT], ...] = ()
        self.on_reset: tuple[ResetListener[ConnT], ...] = ()
        self.on_invalidate: tuple[InvalidateListener[ConnT], ...] = ()
        self.on_close: tuple[CloseListener[ConnT], ...] = ()
        self.on_detach: tuple[DetachListener[ConnT], ...] = ()
        for listener in listeners:
            self.add(listener)

    def add(self, listener: Any) -> None:
        """Add a listener.

        Raises:
            TypeError: it has none of the methods of a listener.
        """
        heard = [name for name in _METHODS if callable(getattr(listener, name, None))]
        if not heard:
            raise TypeError(
                f"listeners: a {type(listener).__qualname__} has none of the methods "
                f"{', '.join(_METHODS)}"
            )
        for name in heard:
            setattr(self, f"on_{name}", (*getattr(self, f"on_{name}"), listener))
        self.all += (listener,)
