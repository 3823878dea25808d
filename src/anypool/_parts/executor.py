"""Executor: calls an application's functions where a connection may be used."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any
from weakref import ref

from .._core.waiter import Caller
from .._ledgers.ledger import Ledger
from .background import Background
from .closer import Closer
from .connector import Connector
from .job import Job


class Executor:
    """Calls functions: in a worker thread where the driver blocks, else right here."""

    __slots__ = ("_background", "_closer", "_connector", "_ledger", "_runtime")

    def __init__(
        self,
        ledger: Ledger[Any],
        background: Background,
        closer: Closer[Any],
        connector: Connector[Any],
    ) -> None:
        self._ledger = ledger
        self._background = background
        self._runtime = background.runtime
        self._closer = closer
        self._connector = connector

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function, and await its result if need be."""
        runtime = self._runtime
        caller = runtime.caller()
        driver = self._connector.driver
        blocking = driver is not None and driver.blocking
        in_thread = blocking and not iscoroutinefunction(function)
        if not in_thread or runtime.blocking:
            return await runtime.call(in_thread, function, *args)
        # A thread that uses a connection can't be stopped; nobody else may have that
        # connection before it is done.
        results: list[Any] = []

        async def work() -> None:
            results.append(await runtime.call(True, function, *args))

        job = Job(self._background, work())
        await job.run(interrupt=lambda: self._interrupt(caller))
        return results[0]

    async def _interrupt(self, caller: Caller) -> None:
        """Stop what a caller's connections are doing in worker threads."""
        out = self._ledger.leases.out
        for key in list(out):
            # A connect that nobody waits for any more is there in its own name.
            lease = key() if isinstance(key, ref) else None
            if lease is None or lease._caller != caller:
                continue
            record = out.get(key)
            connection = None if record is None else record.connection
            if record is None or connection is None:
                continue
            driver = record._driver
            interrupt = getattr(driver, "interrupt_thread", driver.interrupt)
            try:
                await self._runtime.call(driver.blocking, interrupt, connection)
            except Exception:
                await self._closer.cut_off(record)  # else it is waited for
