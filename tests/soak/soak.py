"""Soak: rounds of work on pools, and the books after each of them."""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

import anypool
from anypool import sync

from .bank import ACCOUNTS, MONEY, Bank, PostgresBank

ROUND = 1.0
"""Seconds of work in each round."""

CALLERS = 8

PATIENCE = 15.0
"""Seconds that what is lost or cut off may take to come back."""


class Soak:
    """Rounds of threads and tasks that move money, and suffer.

    Args:
        seconds: for how long.
        seed: of all choices.
    """

    def __init__(self, seconds: float, seed: int) -> None:
        self._end = time.monotonic() + seconds
        self._random = random.Random(seed)
        self._wrong: list[str] = []
        self._transfers = 0
        self._suffered = 0

    def run(self) -> int:
        """Return an exit status."""
        warnings.simplefilter("ignore", ResourceWarning)
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)
        usages: list[tuple[int, int, int]] = []
        with tempfile.TemporaryDirectory() as directory:
            banks: list[Any] = [Bank(Path(directory, "soak.db"))]
            postgres = _postgres()
            if postgres is None:
                print("soak: no PostgreSQL here, so only SQLite")
            else:
                banks.append(postgres)
            while time.monotonic() < self._end and not self._wrong:
                # Every round has the same parts, so that what they leave can be compared.
                for bank in banks:
                    self._round(bank)
                usages.append(_usage())
            if postgres is not None:
                postgres.close()
        self._compare(usages)
        print(
            f"soak: {len(usages)} rounds, {self._transfers} transfers, "
            f"{self._suffered} failures; descriptors, threads, blocks: "
            f"{usages[0] if usages else ()} .. {usages[-1] if usages else ()}"
        )
        for what in self._wrong:
            print(f"soak: WRONG: {what}", file=sys.stderr)
        return 1 if self._wrong else 0

    def _compare(self, usages: list[tuple[int, int, int]]) -> None:
        if len(usages) < 4:
            return
        settled, last = usages[2:], usages[-1]
        for what, index in (("descriptors", 0), ("threads", 1)):
            if last[index] > min(each[index] for each in settled) + 2:
                self._blame(f"{what}: {[each[index] for each in usages]}")
        half = len(settled) // 2
        early = min(each[2] for each in settled[: half or 1])
        late = min(each[2] for each in settled[half:])
        if late > early * 1.05 + 5000:
            self._blame(f"memory blocks: {[each[2] for each in usages]}")

    def _blame(self, what: str) -> None:
        self._wrong.append(what)

    # One round.

    def _round(self, bank: Any) -> None:
        over = threading.Event()
        nuisance = threading.Thread(target=self._disturb, args=(bank, over))
        nuisance.start()
        try:
            self._with_threads(bank)
            anyio.run(self._with_tasks, bank)
        finally:
            over.set()
            nuisance.join()
        gc.collect()
        if bank.total() != MONEY:
            self._blame(f"{MONEY - bank.total()} of the money is gone")

    def _disturb(self, bank: Any, over: threading.Event) -> None:
        choose = random.Random(self._random.random())
        while not over.wait(choose.uniform(0.01, 0.1)):
            gc.collect()  # what is lost in one thread is found in another
            if isinstance(bank, PostgresBank):
                bank.disturb(choose.randrange(5))
                over.wait(choose.uniform(0, 0.1))
                bank.proxy.resume()

    def _options(self) -> dict[str, Any]:
        choose = self._random
        return {
            "pool_size": choose.randint(1, 4),
            "max_overflow": choose.randint(0, 3),
            "timeout": choose.choice([0.05, 1, 10]),
            "recycle": choose.choice([-1, 0, 0.2]),
        }

    def _finish(self, pool: Any, capacity: int) -> None:
        size, idle, over = pool.size(), pool.checkedin(), pool.overflow()
        if pool.checkedout() or size - idle + over or not 0 <= size + over <= capacity:
            inner = getattr(pool, "async_pool", pool)
            self._blame(f"after a round: {pool!r}, {[*inner._ledger.leases.out.items()]}")

    def _tolerable(self, error: BaseException) -> bool:
        name = type(error).__module__.partition(".")[0]
        self._suffered += 1
        return name in ("sqlite3", "psycopg") or isinstance(
            error, (anypool.PoolTimeoutError, OSError, _Accident)
        )

    # Threads.

    def _with_threads(self, bank: Any) -> None:
        options = self._options()
        pool = sync.QueuePool(bank.connect, **options)
        end = time.monotonic() + ROUND
        threads = [
            threading.Thread(target=self._teller, args=(bank, pool, end, number))
            for number in range(CALLERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            if thread.is_alive():
                self._blame(f"a thread hangs: {pool.status()}")
                return
        bank.let_go()
        # What was lost may be on its way back in the thread that has found it.
        deadline = time.monotonic() + PATIENCE
        while pool.checkedout() and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.01)
        pool.dispose()
        self._finish(pool, options["pool_size"] + options["max_overflow"])

    def _teller(self, bank: Any, pool: Any, end: float, number: int) -> None:
        choose = random.Random(self._random.random() + number)
        while time.monotonic() < end:
            try:
                self._transfer(bank, pool, choose)
            except BaseException as error:
                if not self._tolerable(error):
                    self._blame(f"{type(error).__name__}: {error}")
                    return

    def _transfer(self, bank: Any, pool: Any, choose: random.Random) -> None:
        lease = pool.unique_connection()
        fate, lost = choose.random(), False
        connection = lease.connection
        try:
            if not bank.is_clean(connection):
                self._blame("a connection came in a state that is not clean")
            connection.execute(bank.take.format(choose.randrange(ACCOUNTS)))
            if fate < 0.05:
                raise _Accident
            connection.execute(bank.put.format(choose.randrange(ACCOUNTS)))
            if fate < 0.1:
                return  # without a commit
            connection.commit()
            self._transfers += 1
            if fate < 0.15:
                lease.invalidate()
            elif fate < 0.2:
                lease.detach()
            elif fate < 0.22:
                pool.dispose()
            elif fate < 0.24:
                bank.leave(connection, choose.randrange(3))
            elif fate < 0.3:
                cycle = [lease]
                cycle.append(cycle)
                lost = True
        finally:
            # No traceback may hold what is lost.
            if not lost:
                lease.close()

    # Tasks.

    async def _with_tasks(self, bank: Any) -> None:
        options = self._options()
        pool = anypool.QueuePool(bank.connect_async, **options)
        end = time.monotonic() + ROUND
        with anyio.move_on_after(60) as scope:
            async with anyio.create_task_group() as tasks:
                for number in range(CALLERS):
                    tasks.start_soon(self._teller_async, bank, pool, end, number, tasks)
        if scope.cancelled_caught:
            self._blame(f"a task hangs: {pool.status()}")
        await bank.let_go_async()
        deadline = time.monotonic() + PATIENCE
        while pool.checkedout() and time.monotonic() < deadline:
            gc.collect()
            await anyio.sleep(0.01)
        await pool.dispose()
        self._finish(pool, options["pool_size"] + options["max_overflow"])

    async def _teller_async(
        self, bank: Any, pool: Any, end: float, number: int, tasks: Any
    ) -> None:
        choose = random.Random(self._random.random() + number)
        while time.monotonic() < end:
            patience = choose.choice([0.0, 0.001, 0.01, 0.1, 10])
            try:
                with anyio.move_on_after(patience):
                    await self._transfer_async(bank, pool, choose, tasks)
            except BaseException as error:
                if isinstance(error, anyio.get_cancelled_exc_class()):
                    raise
                if not self._tolerable(error):
                    self._blame(f"{type(error).__name__}: {error}")
                    return

    async def _transfer_async(
        self, bank: Any, pool: Any, choose: random.Random, tasks: Any
    ) -> None:
        lease = await pool.unique_connection()
        fate, lost = choose.random(), False
        connection = lease.connection
        try:
            if not bank.is_clean(connection):
                self._blame("a connection came in a state that is not clean")
            await connection.execute(bank.take.format(choose.randrange(ACCOUNTS)))
            if fate < 0.05:
                raise _Accident
            await connection.execute(bank.put.format(choose.randrange(ACCOUNTS)))
            if fate < 0.1:
                return  # without a commit
            await connection.commit()
            self._transfers += 1
            if fate < 0.15:
                await lease.invalidate()
            elif fate < 0.2:
                await lease.detach()
            elif fate < 0.22:
                await pool.dispose()
            elif fate < 0.24:
                await bank.leave_async(connection, choose.randrange(3), tasks)
            elif fate < 0.3:
                cycle = [lease]
                cycle.append(cycle)
                lost = True
        finally:
            # No traceback may hold what is lost.
            if not lost:
                await lease.close()


class _Accident(Exception):
    """Happens to a caller."""


def _usage() -> tuple[int, int, int]:
    """Return how many descriptors, threads and blocks of memory there are."""
    gc.collect()
    descriptors = 0
    with suppress(OSError):
        descriptors = len(os.listdir("/proc/self/fd"))
    return descriptors, threading.active_count(), sys.getallocatedblocks()


def _postgres() -> PostgresBank | None:
    from ..drivers.proxy import Proxy
    from ..drivers.servers import Postgres

    url = os.environ.get("ANYPOOL_POSTGRES", "postgresql://postgres@127.0.0.1/postgres")
    try:
        server = Postgres(url)
    except Exception:
        if os.environ.get("ANYPOOL_REQUIRE_SERVERS"):
            raise
        return None
    return PostgresBank(server, Proxy(server.host, server.port))
