"""ThreadTeller: moves money in a thread, through a blocking pool."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from time import perf_counter

from anypool import sync

from .bank import BEGIN, DEPOSIT, WITHDRAW, Bank, Transfer
from .fate import THREAD_MISHAPS, Fate, MishapError, fates
from .tally import Tally


class ThreadTeller:
    """Moves money in a thread, well or badly, as is the fate of each transfer."""

    def __init__(
        self, number: int, bank: Bank, pool: sync.Pool[sqlite3.Connection]
    ) -> None:
        self.tally = Tally()
        self._number = number
        self._bank = bank
        self._pool = pool

    def work(self, closing: threading.Event) -> None:
        """Serve one customer after the other, until closing time."""
        for fate in fates(self._number, THREAD_MISHAPS):  # pragma: no branch  # no end
            started = perf_counter()
            self._serve(self._bank.draw_transfer(), fate)
            self.tally.note(fate, perf_counter() - started)
            if closing.is_set():
                return

    def _serve(self, transfer: Transfer, fate: Fate) -> None:
        match fate:
            case Fate.FAILED:
                with suppress(MishapError):
                    self._move(transfer, fail=True)
            case Fate.DROPPED:
                self._begin(transfer)
            case Fate.INVALIDATED:
                self._begin(transfer).invalidate()
            case _:
                self._move(transfer)

    def _move(self, transfer: Transfer, *, fail: bool = False) -> None:
        """Move the money, or fail halfway."""
        asked = perf_counter()
        with self._pool.connect() as connection:
            self.tally.waits.append(perf_counter() - asked)
            _withdraw(connection, transfer)
            if fail:
                raise MishapError
            connection.execute(DEPOSIT, (transfer.cents, transfer.target))
            connection.commit()

    def _begin(self, transfer: Transfer) -> sync.PooledConnection[sqlite3.Connection]:
        """Take the money from one account, and leave the rest to who gets the lease."""
        asked = perf_counter()
        lease = self._pool.connect()
        self.tally.waits.append(perf_counter() - asked)
        try:
            _withdraw(lease.connection, transfer)
        except BaseException:
            # No dropping here: the error holds on to this frame, which has the lease.
            lease.close()
            raise
        return lease


def _withdraw(connection: sqlite3.Connection, transfer: Transfer) -> None:
    connection.execute(BEGIN)
    connection.execute(WITHDRAW, (transfer.cents, transfer.source))
