"""Opening: a connect that goes on when its caller has been cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._core.lease import Lease
    from .._core.record import ConnectionRecord
    from .base import Pool


class Opening:
    """Connects a slot in a task of its own.

    A blocking creator runs in a worker thread, where nothing can stop it. If its caller
    leaves before it is done, the slot stays taken, in the opening's own name, until the
    connection has arrived and can serve somebody else.
    """

    def __init__(self, pool: Pool[Any], lease: Lease[Any], record: ConnectionRecord[Any]) -> None:
        self._pool = pool
        self._lease = lease
        self._record = record
        self._gate = pool._runtime.gate()
        self._done = False
        self._orphaned = False
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Wait for the connection; raises what the creator or a connect listener raised."""
        out = self._pool._out
        self._pool._spawn(self._connect())
        try:
            await self._pool._runtime.wait(self._gate, None)
        except BaseException:
            if not self._done:
                self._orphaned = True
                out[self] = out.pop(self._lease._ref)
            raise
        if self._error is not None:
            raise self._error

    async def _connect(self) -> None:
        try:
            await self._pool._connect(self._record)
        except Exception as error:
            self._error = error
        except BaseException as error:
            self._error = error
            raise
        finally:
            self._done = True
            self._gate.release()
        if self._orphaned and self._pool._out.pop(self, None) is not None:
            await self._pool._checkin(self._record, quiet=True)
