"""What a lease and a checkout know of their pool: whom to ask, and whom to return to."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import CodeType
from typing import Any, Protocol

from .disconnects import Disconnects
from .log import PoolLog
from .record import ConnectionRecord
from .waiter import Caller


class Path(Protocol):
    """The ways in and out of a pool; see _parts/path.py."""

    @property
    def find_caller(self) -> Callable[..., Caller]: ...
    @property
    def ledger(self) -> Any: ...
    @property
    def checkout(self) -> Callable[..., Coroutine[Any, Any, Any]]: ...
    @property
    def invalidate(self) -> Callable[..., Coroutine[Any, Any, None]]: ...
    @property
    def detach(self) -> Callable[..., Coroutine[Any, Any, None]]: ...
    @property
    def reclaim(self) -> Callable[[ConnectionRecord[Any]], None]: ...
    def checkout_nowait(
        self, owner: Any, caller: Caller, share: bool, code: CodeType, lasti: int
    ) -> Any: ...
    def checkin_nowait(
        self, lease: Any, caller: Caller | None, hurried: bool = False
    ) -> ConnectionRecord[Any] | None: ...
    def give_back(
        self, record: ConnectionRecord[Any], hurried: bool = False
    ) -> Coroutine[Any, Any, None]: ...


class Owner(Protocol):
    """A pool.

    Attributes:
        _path: its ways in and out.
        _disconnects: which errors end a connection.
        _log: where to complain.
    """

    _disconnects: Disconnects[Any]
    _log: PoolLog

    @property
    def _path(self) -> Path: ...
    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function where a connection may be used."""
        ...
