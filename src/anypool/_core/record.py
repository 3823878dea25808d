"""ConnectionRecord: one slot of a pool."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from types import CodeType
from typing import Any, Final, Generic, cast

from typing_extensions import TypeVar

from .driver import Driver
from .histogram import Tally
from .notes import Notes
from .process import process

ConnT = TypeVar("ConnT")

UNTOLD: Final = 0, None
"""See ConnectionRecord: no listener has been told of its return."""


class ConnectionRecord(Generic[ConnT]):
    """A slot of a pool: a place for one connection, which may be replaced over time.

    Listeners are given the record beside the connection.

    Attributes:
        connection: The driver's connection, or None while the slot has none (before the
            first connect, after an invalidation).
        info: A dictionary for the application's own notes. It lives as long as the
            driver's connection and is cleared when the slot connects anew. Attributes that
            a dictionary lacks are those of the connection's own ``info``, if it has one.
    """

    __slots__ = (
        "__weakref__",
        "_baseline",
        "_checkouts",
        "_code",
        "_dirty",
        "_driver",
        "_ending",
        "_expires_at",
        "_generation",
        "_holds_data",
        "_lasti",
        "_mutex",
        "_on_lost",
        "_only_reset",
        "_pinged_at",
        "_quick_reset",
        "_resets_blindly",
        "_resetting",
        "_serial",
        "_since",
        "_told",
        "_users",
        "_uses",
        "_worker",
        "connection",
        "info",
    )

    connection: ConnT | None
    info: dict[Any, Any]
    _baseline: Any
    _checkouts: int
    _code: CodeType | None
    _dirty: int
    _driver: Driver[ConnT]
    _ending: bool
    _generation: int
    _expires_at: float
    _holds_data: Any
    _lasti: int
    _mutex: Any
    _on_lost: Callable[[ConnectionRecord[ConnT]], None] | None
    _only_reset: bool
    _pinged_at: float
    _quick_reset: bool
    _resets_blindly: bool
    _resetting: Any
    _serial: int
    _since: float
    _told: tuple[int, Any]
    _users: int
    _worker: int

    def __init__(
        self, generation: int, on_lost: Callable[[ConnectionRecord[ConnT]], None] | None
    ) -> None:
        self.connection = None
        self.info = Notes(self)
        # The generation of the pool that this slot belongs to: dispose() begins a new one,
        # and with on_disconnect="pool", so does an error that means a lost connection.
        self._generation = generation
        # Where the slot was last checked out: resolved to a line only when asked for.
        self._code = None
        self._lasti = -1
        # Of a slot on its way back: whether a reset is all that it still needs.
        self._only_reset = False
        # What its driver noted of the connection when it was new.
        self._baseline = None
        # Whether its database would end with its connection; see Driver.holds_data().
        self._holds_data = False
        # Whether its driver can't tell if a reset is needed; whether a reset can be
        # awaited as it is, without a worker thread.
        self._resets_blindly = self._quick_reset = False
        # The task in whose time it is reset, where no deadline bounds that: see ResetWatch.
        self._resetting = None
        # Of a slot on its way back: how many listeners have been told of that already, and
        # what is left of the last: an error, or an awaitable.
        self._told = UNTOLD
        # Whether somebody has begun to close its connection.
        self._ending = False
        self._serial = 0
        # Times of the runtime's clock. Since when it is out; where the pool is timed, also
        # since when it is idle.
        self._expires_at = math.inf
        self._since = self._pinged_at = 0.0
        # Statistics: here, where only one caller at a time can be at work.
        self._checkouts = 0
        self._dirty = 0
        self._uses: Tally | None = None  # where the pool is timed
        # For pools that share a slot: leases, and returns that are under way; who may open
        # or close its connection, and which thread does.
        self._users = 0
        self._mutex = None
        self._worker = 0
        # Set while the pool counts this slot. An interrupt can strike between taking a
        # slot out of the idle queue and noting who has it; then nobody refers to the
        # slot any more, and its finalizer tells the pool.
        self._on_lost = on_lost

    _process = process

    def __del__(self) -> None:
        if self._process.is_strange():
            self._process.spare(getattr(self, "connection", None))
            return
        on_lost = getattr(self, "_on_lost", None)  # it may be half built
        if on_lost is not None:
            on_lost(self)
        elif getattr(self, "connection", None) is not None:
            # Detached or taken out to be closed, and lost on the way.
            with suppress(Exception):
                self._driver.terminate(cast("ConnT", self.connection))

    def _label(self) -> str:
        """Name the connection for a log line: its class and number, never its repr.

        A driver's repr may show a DSN.
        """
        return f"<{type(self.connection).__qualname__} #{self._serial}>"

    def __repr__(self) -> str:
        return f"<ConnectionRecord {self._label()}>"

    def _line(self) -> tuple[str, int]:
        """Return the file and line of the latest checkout."""
        return place(self._code, self._lasti)


def place(code: CodeType | None, lasti: int) -> tuple[str, int]:
    """Return the file and line of a position in some code."""
    if code is None:
        return "<unknown>", 0
    for start, end, line in code.co_lines():
        if start <= lasti < end and line is not None:
            return code.co_filename, line
    return code.co_filename, code.co_firstlineno
