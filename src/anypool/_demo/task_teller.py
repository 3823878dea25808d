"""TaskTeller: moves money in a task, through an async pool."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter

import aiosqlite
import anyio

import anypool

from .bank import BEGIN, DEPOSIT, WITHDRAW, Bank, Transfer
from .fate import TASK_MISHAPS, Fate, MishapError, fates
from .tally import Tally


class TaskTeller:
    """Moves money in a task, well or badly, as is the fate of each transfer."""

    def __init__(
        self, number: int, bank: Bank, pool: anypool.Pool[aiosqlite.Connection]
    ) -> None:
        self.tally = Tally()
        self._number = number
        self._bank = bank
        self._pool = pool

    async def work(self, closing: threading.Event) -> None:
        """Serve one customer after the other, until closing time."""
        for fate in fates(self._number, TASK_MISHAPS):  # pragma: no branch  # no end
            started = perf_counter()
            await self._serve(self._bank.draw_transfer(), fate)
            self.tally.note(fate, perf_counter() - started)
            if closing.is_set():
                return

    async def _serve(self, transfer: Transfer, fate: Fate) -> None:
        match fate:
            case Fate.COMPLETED:
                await self._move(transfer)
            case Fate.FAILED:
                with suppress(MishapError):
                    await self._move(transfer, _fail)
            case Fate.TASK_CANCELLED:
                # The group takes the cancellation of its task for an end like any other.
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._move(transfer, _cancel_task))
            case Fate.SCOPE_CANCELLED:
                with anyio.CancelScope() as scope:
                    await self._move(transfer, scope.cancel)
            case Fate.DROPPED:
                await self._begin(transfer)
            case Fate.INVALIDATED:  # pragma: no branch  # there are no others
                lease = await self._begin(transfer)
                await lease.invalidate()

    async def _move(
        self, transfer: Transfer, mishap: Callable[[], object] | None = None
    ) -> None:
        """Move the money; halfway, have the mishap happen."""
        asked = perf_counter()
        async with self._pool.connect() as connection:
            self.tally.waits.append(perf_counter() - asked)
            await _withdraw(connection, transfer)
            if mishap is not None:
                mishap()
            await connection.execute(DEPOSIT, (transfer.cents, transfer.target))
            await connection.commit()

    async def _begin(
        self, transfer: Transfer
    ) -> anypool.PooledConnection[aiosqlite.Connection]:
        """Take the money from one account, and leave the rest to who gets the lease."""
        asked = perf_counter()
        lease = await self._pool.connect()
        self.tally.waits.append(perf_counter() - asked)
        try:
            await _withdraw(lease.connection, transfer)
        except BaseException:
            # No dropping here: the error holds on to this frame, which has the lease.
            await lease.close()
            raise
        return lease


async def _withdraw(connection: aiosqlite.Connection, transfer: Transfer) -> None:
    await connection.execute(BEGIN)
    await connection.execute(WITHDRAW, (transfer.cents, transfer.source))


def _fail() -> None:
    raise MishapError


def _cancel_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
