"""Connects: how a slot gets its connection."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import TypeVar

from .._core.errors import InvalidRequestError
from .._core.record import ConnectionRecord
from .._drivers.registry import driver_for, resets_blindly
from .._runtimes.thread import AwaitableCreator
from .closes import Closes, Label
from .job import Job

if TYPE_CHECKING:
    from .._core.lease import Lease

ConnT = TypeVar("ConnT")

_SECOND = (
    "A second connection would have another, empty database: one in memory belongs to the "
    "connection that opened it. Use StaticPool, or pool_size=1 and max_overflow=0; a pool "
    "with one for each caller (SingletonTaskPool, sync.SingletonThreadPool); or a name "
    "that connections share (sqlite3.connect('file:NAME?mode=memory&cache=shared', "
    "uri=True), duckdb.connect(':memory:NAME'))"
)


class Connects(Closes[ConnT]):
    """Opens connections for slots, and tells the listeners."""

    __slots__ = ()

    _lends_any = False  # whether it may be any of several connections that a caller gets

    async def _open(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        if self._runtime.blocking or self._inline:
            await self._connect(record)
            return
        # A blocking creator runs in a worker thread, where nothing can stop it.
        await self._work_on(lease, self._connect(record))

    async def _work_on(self, lease: Lease[ConnT], work: Coroutine[Any, Any, None]) -> None:
        """Do work on a lease's slot that goes on if its caller leaves.

        The slot then stays taken, in the job's own name, until that is done and the
        connection can serve somebody else.
        """
        job = Job(self._runtime, work)
        try:
            await job.run()
        except BaseException:
            if not job.done:
                self._out[job] = self._out.pop(lease._ref)
                job.afterwards = self._adopt
            raise

    def _adopt(self, job: Job) -> None:
        """Work that nobody waits for any more has ended."""
        record = self._out.pop(job, None)
        if record is not None:
            self._put_back(record)

    async def _connect(self, record: ConnectionRecord[ConnT]) -> None:
        """Open the slot's connection and tell the connect listeners."""
        record.info.clear()
        epoch = self._epoch  # what makes older connections stale meanwhile counts for this
        begin = self._runtime.now()
        try:
            creator = self._creator
            if self._listeners.on_before_connect:
                creator = await self._parametrised(record)
            awaited = await self._runtime.open(record, creator, inline=self._inline)
        except Exception as error:
            if not isinstance(error, AwaitableCreator):
                self._decide(self._note_failed)
                self._log.info("Error on connect: %s", type(error).__name__)
            raise
        if self._driver is None or self._options["driver"] is None:
            self._driver = driver_for(record.connection, awaited=awaited)
        self._inline = self._inline or not self._driver.blocking
        record._driver, record._ending = self._driver, False
        record._resets_blindly = resets_blindly(self._driver, record.connection)
        record._quick_reset = (
            self._runtime.can_watch and not self._driver.blocking and not self._lose_all
        )
        self._decide(self._note_opened, record, epoch, begin)
        await self._note_baseline(record)
        ask = getattr(self._driver, "holds_data", None)
        record._holds_data = False
        data = ask is not None and await self._runtime.call(
            self._driver.blocking, ask, record.connection
        )
        if data and not self._decide(self._note_data, record, data):
            await self._close(record, "invalid")
            record._epoch = -1  # nor is the slot kept, which others would come upon
            raise InvalidRequestError(_SECOND)
        self._log.info("Created new connection %s", Label(record))
        try:
            if self._untold:
                await self._tell_first_connect(record)
            await self._tell_connect(record)
            if self._listeners.on_first_connect or self._listeners.on_connect:
                await self._note_baseline(record, record._baseline)
        except Exception as error:
            # Half initialised: nobody may ever get this one.
            self._log.info("Connect listener failed: %s", type(error).__name__)
            await self._close(record, "listener")
            raise
        except BaseException:
            record._ending = True  # the same; who called this sees to it
            raise

    def _note_data(self, record: ConnectionRecord[ConnT], data: Any) -> bool:
        """Note that a database ends with its connection.

        Returns:
            False if callers would find this one, new and empty, or another one.
        """
        if self._lends_any and data is not True:
            for other in self._known_records():
                if (
                    other.connection is not None
                    and other._epoch == record._epoch
                    and other._holds_data == data
                ):
                    return False
        record._holds_data = data
        record._expires_at = math.inf
        return True

    async def _note_baseline(
        self, record: ConnectionRecord[ConnT], first: Any = None
    ) -> None:
        """Have the driver note what the pool's users start from.

        Args:
            record: has a new connection.
            first: what was noted before the connect listeners were told.
        """
        driver = record._driver
        record._baseline = driver.baseline(cast("ConnT", record.connection))
        note = getattr(driver, "note_session", None)
        if note is not None and self._reset_mode == "full":
            await self._runtime.call(
                driver.blocking, note, record.connection, record._baseline, first
            )

    def _note_failed(self) -> None:
        self._counts.failed += 1

    def _note_opened(
        self, record: ConnectionRecord[ConnT], epoch: int, begin: float
    ) -> None:
        now = self._runtime.now()
        self._serial += 1
        record._serial, record._epoch = self._serial, epoch
        record._since = record._pinged_at = now
        record._expires_at = math.inf
        if self._recycle >= 0:
            jitter = self._jitter or 0.0
            from random import random  # by need: it takes 1 ms to import

            record._expires_at = now + self._recycle - random() * jitter
        self._counts.opened += 1
        self._counts.connect_time += now - begin

    async def _parametrised(self, record: ConnectionRecord[ConnT]) -> Callable[[], Any]:
        """Let listeners change the creator's keyword arguments."""
        creator: Any = self._creator
        args: tuple[Any, ...] = ()
        parameters: dict[str, Any] = {}
        if isinstance(creator, partial):
            creator, args, parameters = creator.func, creator.args, {**creator.keywords}
        for listener in self._listeners.on_before_connect:
            await self._tell(record, listener.before_connect, parameters, record)
        return partial(creator, *args, **parameters)

    async def _tell_first_connect(self, record: ConnectionRecord[ConnT]) -> None:
        if self._first_teller == self._runtime.caller():
            return  # such a listener has come for another connection itself
        mutex = self._decide(self._mutex_for_first)
        if self._runtime.blocking:
            with mutex:
                await self._tell_untold(record)
        else:
            async with mutex:
                await self._tell_untold(record)

    def _mutex_for_first(self) -> Any:
        if self._first_mutex is None:
            self._first_mutex = self._runtime.mutex()
        return self._first_mutex

    async def _tell_untold(self, record: ConnectionRecord[ConnT]) -> None:
        self._first_teller = self._runtime.caller()
        try:
            while self._untold:
                listener = self._untold[0]
                await self._tell(record, listener.first_connect, record.connection, record)
                self._untold.popleft()
        finally:
            self._first_teller = None

    async def _tell_connect(self, record: ConnectionRecord[ConnT]) -> None:
        for listener in self._listeners.on_connect:
            await self._tell(record, listener.connect, record.connection, record)
