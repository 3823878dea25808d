"""The listeners that a pool calls, typed as protocols.

A listener is any object with some of the methods below. In an async pool each may be a
plain method or a coroutine method.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias

from typing_extensions import TypeVar

from .record import ConnectionRecord

if TYPE_CHECKING:
    from .lease import PooledConnection

ConnT = TypeVar("ConnT")
LeaseT = TypeVar("LeaseT", default="PooledConnection[Any]")
LeaseT_contra = TypeVar(
    "LeaseT_contra", contravariant=True, default="PooledConnection[Any]"
)


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


Listener: TypeAlias = (
    ConnectListener[ConnT] | CheckoutListener[ConnT, LeaseT] | CheckinListener[ConnT]
)
"""What ``listeners=`` and ``add_listener()`` take."""


class Listeners(Generic[ConnT, LeaseT]):
    """The listeners of one pool, sorted by what they listen to."""

    def __init__(self, listeners: Iterable[Listener[ConnT, LeaseT]]) -> None:
        self.all: tuple[Listener[ConnT, LeaseT], ...] = ()
        self.on_connect: tuple[ConnectListener[ConnT], ...] = ()
        self.on_checkout: tuple[CheckoutListener[ConnT, LeaseT], ...] = ()
        self.on_checkin: tuple[CheckinListener[ConnT], ...] = ()
        for listener in listeners:
            self.add(listener)

    def add(self, listener: Any) -> None:
        """Add a listener.

        Raises:
            TypeError: it has none of the methods connect, checkout, checkin.
        """
        heard = False
        if callable(getattr(listener, "connect", None)):
            self.on_connect += (listener,)
            heard = True
        if callable(getattr(listener, "checkout", None)):
            self.on_checkout += (listener,)
            heard = True
        if callable(getattr(listener, "checkin", None)):
            self.on_checkin += (listener,)
            heard = True
        if not heard:
            raise TypeError(
                f"listeners: a {type(listener).__qualname__} has none of the methods "
                "connect, checkout, checkin"
            )
        self.all += (listener,)
