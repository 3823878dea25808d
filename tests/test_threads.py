"""Real threads that do as they like with one pool, and a witness who looks on.

Other harnesses decide which thread goes on when. Here it is chance, as it is in production;
without the GIL, threads go on at the same time, between any two steps of the pool's code.
"""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

import anypool
from anypool import sync
from anypool._ledgers.guard import has_gil, listed

from .support.bounds import rounds, seeds
from .support.modes import PATIENCE
from .support.witness import Witness

THREADS = 6
CYCLES = 400
SIZE, OVERFLOW = 2, 1


@pytest.fixture(autouse=True)
def _busy_threads() -> Iterator[None]:
    """Have threads take turns often, where they do."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Crowd:
    """Threads that use a pool, and tell the witness."""

    def __init__(self, seed: int, **options: Any) -> None:
        self.witness = Witness(coroutine=False, capacity=SIZE + OVERFLOW)
        self.pool: Any = sync.QueuePool(
            self.witness.connect,
            pool_size=SIZE,
            max_overflow=OVERFLOW,
            timeout=PATIENCE,
            **options,
        )
        self._seed = seed
        self._telling = threading.Lock()
        self._waiters = self.pool.async_pool._ledger.waiters

    def run(self, work: Callable[[random.Random], None]) -> None:
        """Have all threads do some work again and again."""
        errors: list[BaseException] = []
        together = threading.Barrier(THREADS)

        def live(number: int) -> None:
            draw = random.Random(self._seed * THREADS + number)
            try:
                together.wait(PATIENCE)
                for _ in range(CYCLES):
                    work(draw)
            except BaseException as error:
                errors.append(error)

        threads = [
            threading.Thread(target=live, args=(number,), daemon=True)
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(6 * PATIENCE)
            assert not thread.is_alive(), f"it is stuck: {self.pool.status()}"
        if errors:
            raise errors[0]

    @contextmanager
    def lease(self, timeout: float = PATIENCE) -> Iterator[Any]:
        """Check out, and return; nobody may be passed by who came before."""
        before = listed(self._waiters.values())
        lease = self.pool.unique_connection(timeout=timeout)
        for waiter in before:
            if waiter.record is None and waiter.ref in self._waiters:
                self.witness.blame("a waiter was overtaken")
        caller, connection = object(), lease.connection
        with self._telling:
            self.witness.handed_out(connection, caller)
        yield lease
        with self._telling:
            self.witness.given_back(connection, caller)

    def use(self, draw: random.Random) -> None:
        """Be an ordinary caller."""
        with self.lease() as lease:
            lease.execute("SELECT 1")
            if draw.random() < 0.1:
                time.sleep(0)
        lease.close()

    def check(self) -> None:
        """See that all is as it was before."""
        pool, books = self.pool, self.pool.async_pool._ledger
        gc.collect()
        assert self.witness.violations == []
        assert (pool.checkedout(), len(books.waiters), list(books.dropped)) == (0, 0, [])
        assert books.total == pool.checkedin() <= SIZE
        leases = [pool.unique_connection(timeout=0) for _ in range(SIZE + OVERFLOW)]
        with pytest.raises(anypool.PoolTimeoutError):
            pool.unique_connection(timeout=0)
        for lease in leases:
            lease.close()
        assert len(self.witness.open) == pool.checkedin() == SIZE
        pool.close()
        assert (self.witness.open, self.witness.violations) == ([], [])


@pytest.mark.parametrize("use_lifo", [False, True])
def test_many_threads(use_lifo: bool) -> None:
    for seed in seeds(rounds(2, 50)):
        crowd = Crowd(seed, use_lifo=use_lifo)
        crowd.run(crowd.use)
        crowd.check()
        assert crowd.pool.stats().checkouts == THREADS * CYCLES + SIZE + OVERFLOW


def test_many_threads_that_do_all_there_is() -> None:
    for seed in seeds(rounds(2, 50)):
        crowd = Crowd(seed)
        pool = crowd.pool

        def do(draw: random.Random, crowd: Crowd = crowd, pool: Any = pool) -> None:
            what = draw.choices(
                ["use", "hurry", "nest", "invalidate", "detach", "drop", "dispose", "look"],
                [20, 5, 5, 1, 1, 1, 0.3, 2],
            )[0]
            if what == "use":
                crowd.use(draw)
            elif what == "hurry":
                with suppress(anypool.PoolTimeoutError):
                    with crowd.lease(timeout=draw.choice([0, 1e-5, 1e-3])) as lease:
                        pass
                    lease.close()
            elif what == "nest":
                with pool.connect() as connection, pool.connect() as again:
                    assert again is connection
            elif what == "invalidate":
                with crowd.lease() as lease:
                    pass
                lease.invalidate()
            elif what == "detach":
                with crowd.lease() as lease:
                    lease.connection.detached = True
                lease.detach()
                lease.close()
            elif what == "drop":
                with crowd.lease():
                    pass
            elif what == "dispose":
                pool.dispose()
            else:
                stats = pool.stats()
                assert 0 <= stats.checked_out <= SIZE + OVERFLOW
                pool.status()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            crowd.run(do)
        crowd.check()


def test_leases_that_other_threads_return() -> None:
    """And at the same time their own ones do: each is returned once."""
    for seed in seeds(rounds(2, 50)):
        crowd = Crowd(seed)

        def do(draw: random.Random, crowd: Crowd = crowd) -> None:
            with crowd.lease() as lease:
                pass
            other = threading.Thread(target=lease.close)
            if draw.random() < 0.2:
                other.start()
                lease.close()
                other.join()
            lease.close()

        crowd.run(do)
        crowd.check()


@pytest.mark.skipif(has_gil(), reason="there, whoever drops a lease last collects it")
def test_lease_that_another_thread_drops() -> None:
    """It is collected by the thread that made it, when that goes on."""
    crowd = Crowd(0)
    pool = crowd.pool
    leases = [pool.unique_connection()]

    thread = threading.Thread(target=leases.clear)
    with pytest.warns(ResourceWarning, match="dropped"):
        thread.start()
        thread.join()
        deadline = time.monotonic() + PATIENCE
        while pool.checkedout() and time.monotonic() < deadline:
            time.sleep(0.001)
    assert pool.checkedout() == 0
    pool.close()


def test_idle_slots_are_looked_at_while_they_come_and_go() -> None:
    for seed in seeds(rounds(1, 20)):
        crowd = Crowd(seed)
        pool = crowd.pool
        pool.resize(pool_size=100, max_overflow=OVERFLOW)
        crowd.witness.capacity = 100 + OVERFLOW
        for lease in [pool.unique_connection() for _ in range(100)]:
            lease.close()

        def do(draw: random.Random, crowd: Crowd = crowd, pool: Any = pool) -> None:
            crowd.use(draw)

        over = threading.Event()
        errors: list[Exception] = []

        def look(pool: Any = pool, over: Any = over, errors: Any = errors) -> None:
            closer = pool.async_pool._parts.closer
            while not over.is_set():
                try:
                    closer.tidy()
                    pool.async_pool._ledger.records()
                except Exception as error:
                    errors.append(error)
                    return

        looker = threading.Thread(target=look)
        looker.start()
        try:
            crowd.run(do)
        finally:
            over.set()
            looker.join()
        assert errors == []
        pool.resize(pool_size=SIZE, max_overflow=OVERFLOW)
        crowd.check()
