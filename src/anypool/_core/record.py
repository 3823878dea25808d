"""ConnectionRecord: one slot of a pool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import CodeType
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from .._drivers.protocol import Driver

ConnT = TypeVar("ConnT")


class ConnectionRecord(Generic[ConnT]):
    """A slot of a pool: a place for one connection, which may be replaced over time.

    Listeners are given the record beside the connection.

    Attributes:
        connection: The driver's connection, or None while the slot has none (before the
            first connect, after an invalidation).
        info: A dictionary for the application's own notes. It lives as long as the
            driver's connection and is cleared when the slot connects anew.
    """

    __slots__ = (
        "__weakref__",
        "code",
        "connection",
        "driver",
        "epoch",
        "info",
        "lasti",
        "on_lost",
        "opened_at",
        "resetting",
        "serial",
    )

    connection: ConnT | None
    info: dict[Any, Any]
    driver: Driver[ConnT]

    def __init__(
        self, epoch: int, on_lost: Callable[[ConnectionRecord[ConnT]], None] | None
    ) -> None:
        self.connection = None
        self.info = {}
        # The generation of the pool that this slot belongs to (see Pool.dispose).
        self.epoch = epoch
        # Where the slot was last checked out: resolved to a line only when asked for.
        self.code: CodeType | None = None
        self.lasti = -1
        self.opened_at = 0.0
        # A reset that was begun and not yet finished.
        self.resetting: Awaitable[object] | None = None
        self.serial = 0
        # Set while the pool counts this slot. An interrupt can strike between taking a
        # slot out of the idle queue and noting who has it; then nobody refers to the
        # slot any more, and its finalizer tells the pool.
        self.on_lost = on_lost

    def __del__(self) -> None:
        if self.on_lost is not None:
            self.on_lost(self)

    def label(self) -> str:
        """Name the connection for a log line: its class and number, never its repr.

        A driver's repr may show a DSN.
        """
        return f"<{type(self.connection).__qualname__} #{self.serial}>"

    def __repr__(self) -> str:
        return f"<ConnectionRecord {self.label()}>"

    def line(self) -> tuple[str, int]:
        """Return the file and line of the latest checkout."""
        if self.code is None:
            return "<unknown>", 0
        for start, end, line in self.code.co_lines():
            if start <= self.lasti < end and line is not None:
                return self.code.co_filename, line
        return self.code.co_filename, self.code.co_firstlineno
