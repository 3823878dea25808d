"""Connector: how a slot gets its connection."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Generic, cast

from typing_extensions import TypeVar

from .._core.driver import Driver
from .._core.errors import InvalidRequestError
from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .._drivers.registry import discard, driver_for, generic_driver, resets_blindly, start
from .._ledgers.ledger import Ledger
from .._runtimes.thread import AwaitableCreator
from .announcer import Announcer, Label
from .background import Background
from .closer import Closer
from .job import Job

ConnT = TypeVar("ConnT")

_SECOND = (
    "A second connection would have another, empty database: one in memory belongs to the "
    "connection that opened it. Use StaticPool, or pool_size=1 and max_overflow=0; a pool "
    "with one for each caller (SingletonTaskPool, sync.SingletonThreadPool); or a name "
    "that connections share (sqlite3.connect('file:NAME?mode=memory&cache=shared', "
    "uri=True), duckdb.connect(':memory:NAME'))"
)


class Connector(Generic[ConnT]):
    """Opens connections, and tells the listeners.

    Attributes:
        creator: makes a connection, or an awaitable of one.
        driver: that of the pool's connections; None: not known yet.
        inline: whether the creator may be called in the event loop itself: it is a
            coroutine function, or a driver that doesn't block shows that.
        recycle: seconds after which a connection is too old; -1: never.
        jitter: by how many seconds less, at most; None: not decided yet.
    """

    __slots__ = (
        "_announcer",
        "_background",
        "_closer",
        "_full",
        "_given",
        "_ledger",
        "_quick",
        "_runtime",
        "_serial",
        "creator",
        "driver",
        "inline",
        "jitter",
        "recycle",
    )

    def __init__(
        self,
        creator: Callable[..., Any],
        ledger: Ledger[ConnT],
        background: Background,
        announcer: Announcer[ConnT],
        closer: Closer[ConnT],
        *,
        driver: Driver[ConnT] | None,
        recycle: float,
        jitter: float | None,
        quick: bool,
        full: bool,
    ) -> None:
        """Make one for a pool.

        Args:
            creator: see Attributes.
            ledger: counts connects.
            background: for connects whose callers leave.
            announcer: tells of connects.
            closer: closes what listeners reject.
            driver: the one to use; None: chosen by the connection's class.
            recycle: see Attributes.
            jitter: see Attributes.
            quick: whether a reset may be awaited without a shelter, as it only concerns
                its own connection.
            full: whether a reset leaves no trace of a session.
        """
        self.creator = creator
        self._ledger = ledger
        self._background = background
        self._runtime = background.runtime
        self._announcer = announcer
        self._closer = closer
        self._given, self.driver = driver is not None, driver
        self.inline = iscoroutinefunction(creator) or (
            driver is not None and not driver.blocking
        )
        self.recycle, self.jitter = recycle, jitter
        self._quick = quick
        self._full = full
        self._serial = 0

    async def open(self, lease: Lease[ConnT], record: ConnectionRecord[ConnT]) -> None:
        """Open the connection of a lease's slot."""
        if self._runtime.blocking or self.inline:
            await self.connect(record)
        else:
            # A blocking creator runs in a worker thread, where nothing can stop it.
            await self.work_on(lease, self.connect(record))

    async def work_on(self, lease: Lease[ConnT], work: Coroutine[Any, Any, None]) -> None:
        """Do work on a lease's slot that goes on if its caller leaves.

        The slot then stays taken, in the job's own name, until that is done and the
        connection can serve somebody else.
        """
        job, out = Job(self._background, work), self._ledger.leases.out
        try:
            await job.run()
        except BaseException:
            if not job.done:
                out[job] = out.pop(lease._ref)
                job.afterwards = self._adopt
            raise

    def _adopt(self, job: Job) -> None:
        """Work that nobody waits for any more has ended."""
        record = self._ledger.leases.out.pop(job, None)
        if record is not None:
            self._closer.put_back(record)

    async def connect(self, record: ConnectionRecord[ConnT]) -> None:
        """Open the slot's connection and tell the connect listeners."""
        record.info.clear()
        # A guess, for the moment between a connect and the look at what it brought.
        record._driver = self.driver or generic_driver
        ledger, runtime, log = self._ledger, self._runtime, self._announcer.log
        generation = ledger.generation  # what ends older ones meanwhile ends this one, too
        begin = runtime.now()
        try:
            creator = self.creator
            if self._announcer.listeners.on_before_connect:
                creator = await self._parametrised(record)
            awaited = await runtime.open(
                record, creator, inline=self.inline, start=start, discard=discard
            )
        except Exception as error:
            if not isinstance(error, AwaitableCreator):
                ledger.decide(ledger.statistics.note_failed, type(error))
                log.info("Error on connect: %s", type(error).__name__)
            raise
        self._note_driver(record, awaited)
        ledger.decide(self._note_opened, record, generation, begin)
        try:
            await self._note_baseline(record)
            await self._note_data(record)
        except Exception:
            await self._closer.close(record, "invalid")
            raise
        except BaseException:
            record._ending = True  # for nobody; who called this sees to it
            raise
        log.info("Created new connection %s", Label(record))
        try:
            listeners = self._announcer.listeners
            if listeners.on_first_connect or listeners.on_connect:
                await self._announcer.tell_first_connect(record)
                await self._announcer.tell_connect(record)
                await self._note_baseline(record, record._baseline)
        except Exception as error:
            # Half initialised: nobody may ever get this one.
            log.info("Connect listener failed: %s", type(error).__name__)
            await self._closer.close(record, "listener")
            raise
        except BaseException:
            record._ending = True  # the same; who called this sees to it
            raise

    def _note_driver(self, record: ConnectionRecord[ConnT], awaited: bool) -> None:
        driver = self.driver
        if driver is None or not self._given:
            driver = driver_for(record.connection, awaited=awaited)
        self.inline = self.inline or not driver.blocking
        record._driver = self.driver = driver
        record._ending = False
        record._resets_blindly = resets_blindly(driver, record.connection)
        record._quick_reset = (
            self._quick and not driver.blocking and self._runtime.can_watch
        )

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
        if note is not None and self._full:
            await self._runtime.call(
                driver.blocking, note, record.connection, record._baseline, first
            )

    async def _note_data(self, record: ConnectionRecord[ConnT]) -> None:
        """Keep a connection whose database would end with it.

        Raises:
            InvalidRequestError: callers would find this one, new and empty, or another.
        """
        driver = record._driver
        record._holds_data = False
        ask = getattr(driver, "holds_data", None)
        data = ask is not None and await self._runtime.call(
            driver.blocking, ask, record.connection
        )
        if not data:
            return
        if not self._ledger.decide(self._ledger.may_hold, record, data):
            record._generation = -1  # nor is the slot kept, which others would come upon
            raise InvalidRequestError(_SECOND)
        record._holds_data, record._expires_at = data, math.inf

    def _note_opened(
        self, record: ConnectionRecord[ConnT], generation: int, begin: float
    ) -> None:
        now = self._runtime.now()
        self._serial += 1
        record._serial, record._generation = self._serial, generation
        record._since = record._pinged_at = now
        record._expires_at = math.inf
        if self.recycle >= 0:
            from random import random  # by need: it takes 1 ms to import

            record._expires_at = now + self.recycle - random() * (self.jitter or 0.0)
        self._ledger.statistics.note_opened(now - begin)

    async def _parametrised(self, record: ConnectionRecord[ConnT]) -> Callable[[], Any]:
        """Let listeners change the creator's keyword arguments."""
        creator: Any = self.creator
        args: tuple[Any, ...] = ()
        parameters: dict[str, Any] = {}
        if isinstance(creator, partial):
            creator, args, parameters = creator.func, creator.args, {**creator.keywords}
        for listener in self._announcer.listeners.on_before_connect:
            method = listener.before_connect
            await self._announcer.tell(record, method, parameters, record)
        return partial(creator, *args, **parameters)
