"""Resetter: makes a connection that comes back quiet, or closes it."""

from __future__ import annotations

from typing import Any, Generic

from typing_extensions import TypeVar

from .._core.driver import (
    BUSY,
    CHANGED,
    CLEAN,
    CLOSED,
    OPEN,
    CannotReset,
    ConnectionState,
)
from .._core.record import ConnectionRecord
from .._core.resetmode import ResetMode
from .announcer import Announcer
from .closer import Closer

ConnT = TypeVar("ConnT")


class Resetter(Generic[ConnT]):
    """Stops, resets and restores connections.

    Attributes:
        mode: what a reset is; None: nothing is reset.
    """

    __slots__ = ("_announcer", "_closer", "_runtime", "mode")

    def __init__(
        self,
        runtime: Any,
        announcer: Announcer[ConnT],
        closer: Closer[ConnT],
        mode: ResetMode | None,
    ) -> None:
        self._runtime = runtime
        self._announcer = announcer
        self._closer = closer
        self.mode: ResetMode | None = mode

    async def make_quiet(self, record: ConnectionRecord[ConnT], hurried: bool) -> None:
        """Leave nothing of its last caller's on a connection; if need be, close it.

        Args:
            record: the slot; nobody else has it.
            hurried: its caller was cut short, perhaps in the middle of a statement.
        """
        if record.connection is None:
            return
        try:
            if self.mode is None:
                # Nothing is reset, but nothing must be under way.
                state = record._driver.state(record.connection, record._baseline)
                if state is BUSY or state is CLOSED:
                    await self._interrupt(record, state)
            else:
                await self._reset(record, self.mode, hurried)
        except Exception as error:
            await self._closer.invalidate(record, error, "reset")

    async def _reset(
        self, record: ConnectionRecord[ConnT], mode: ResetMode, hurried: bool
    ) -> None:
        driver, connection = record._driver, record.connection
        assert connection is not None
        call, full = self._runtime.call, mode == "full"
        state = driver.state(connection, record._baseline)
        if hurried or state is BUSY or state is CLOSED:
            state = await self._interrupt(record, state)
        if hurried or full or state is not CLEAN:
            record._dirty += state is not CLEAN and not record._resets_blindly
            await call(driver.blocking, self._begin_reset, record, mode)
            if full or state is CHANGED:
                await call(driver.blocking, driver.restore, connection, record._baseline)
            if driver.state(connection, record._baseline) not in (CLEAN, OPEN):
                raise CannotReset
        if full:
            # What the application's own listeners set is gone as well.
            await self._announcer.tell_connect(record)

    async def _interrupt(
        self, record: ConnectionRecord[ConnT], state: ConnectionState
    ) -> ConnectionState:
        """Stop what the connection may still be doing; tell what state it is in then.

        Raises:
            CannotReset: it is closed, or can't be stopped.
        """
        driver, connection = record._driver, record.connection
        assert connection is not None
        if state is not CLOSED:
            await self._runtime.call(driver.blocking, driver.interrupt, connection)
            # What it was doing may have hidden more, such as a change.
            state = driver.state(connection, record._baseline)
        if state is BUSY or state is CLOSED:
            raise CannotReset
        return state

    def _begin_reset(self, record: ConnectionRecord[ConnT], mode: ResetMode) -> Any:
        """Call the driver's reset, where there is still something to reset."""
        connection = record.connection
        assert connection is not None
        if not record._driver.is_open(connection):
            # Closed by its user, or with a cancelled statement: no news of the server.
            raise CannotReset
        return record._driver.reset(connection, mode)
