"""KeyboardInterrupt at every line of the pool's own code, in blocking pools; and in every
call that it makes.

Wherever it strikes, afterwards nothing is out, all of the capacity can be had, each
connection is either in the pool or closed, none twice, and nothing hangs. Two places are
left out, since no code can do anything about them: the first line of ``__enter__``, when
the ``with`` statement is not yet in charge; and the moment after ``close()`` has returned
and before that is noted, where a connection may be closed once more.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import anypool
from anypool import sync

from .support.bounds import stride
from .support.calls import AtCall
from .support.fakes import World
from .support.invariants import running
from .support.modes import PATIENCE
from .support.tracing import AtLine

pytestmark = pytest.mark.interrupts


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what somebody was closing, and was interrupted at that."""
    monkeypatch.setattr("anypool._core.bounds.CLOSE_TIMEOUT", 0.02)


Scenario = Callable[["Stage"], Iterator[None]]

LINES_AFTER_CLOSE = 3
"""Lines that may pass between the end of close() and the note of it."""


class Stage:
    """A pool, and what a scenario does with it."""

    def __init__(self, kind: str, options: dict[str, Any]) -> None:
        self.world = World(coroutine=False)
        self.pool = getattr(sync, kind)(self.world.connect, **options)
        self.capacity = 1
        if kind == "QueuePool":
            self.capacity = options["pool_size"] + options["max_overflow"]
        self.at: AtLine | AtCall | None = None
        self.closed_at = -100
        self.world.on["close"] = self._note_close

    def _note_close(self) -> None:
        if self.at is not None:
            self.closed_at = self.at.count

    def _check_opened(self) -> None:
        """Assert the same of a pool that is open, or was just being closed."""
        inner = self.pool.async_pool
        if not inner._ledger.closed:
            self.pool.resume()
            self.pool.resize(self.capacity)
            inner._ledger.growth.backoff.succeeded()
            leases = [
                self.pool.unique_connection(timeout=PATIENCE) for _ in range(self.capacity)
            ]
            assert all(not lease.connection.closed for lease in leases)
            for lease in leases:
                lease.close()
        self.pool.close(timeout=1)
        deadline = time.monotonic() + PATIENCE
        while running(self.pool) or self.world.open:
            assert time.monotonic() < deadline, (
                f"survived: {running(self.pool)}, {self.world.open}"
            )
            time.sleep(0.001)
        stats = self.pool.stats()
        assert (stats.size, self.pool.checkedout()) == (0, 0)
        assert self.at is not None
        if self.at.count - self.closed_at > LINES_AFTER_CLOSE:
            self.world.assert_sound()

    def check(self) -> None:
        """Assert that nothing was lost."""
        if self.pool.async_pool._ledger.closed or self.pool.async_pool._ledger.opened:
            self._check_opened()
            return
        if hasattr(self.pool, "checkedout"):
            out = self.pool.checkedout()
            assert not out, f"{out} out for ever"
        leases = []
        for _ in range(self.capacity):
            lease = self.pool.unique_connection(timeout=2)
            assert not lease.connection.closed, "a closed connection was handed out"
            leases.append(lease)
        for lease in leases:
            lease.close()
        self.pool.dispose()
        lost = self.world.open
        assert not lost, f"connection {lost} was neither kept nor closed"
        assert self.at is not None
        if self.at.count - self.closed_at > LINES_AFTER_CLOSE:
            self.world.assert_sound()


def cycle(stage: Stage) -> Iterator[None]:
    """Check out and return what is idle."""
    stage.pool.connect().close()
    yield
    with stage.pool.connect():
        pass


def connect(stage: Stage) -> Iterator[None]:
    """The same with nothing there yet."""
    yield
    with stage.pool.connect():
        pass


def lease(stage: Stage) -> Iterator[None]:
    """Without a block."""
    yield
    taken = stage.pool.connect()
    taken.close()


def nested(stage: Stage) -> Iterator[None]:
    """Twice the same lease."""
    yield
    with stage.pool.connect(), stage.pool.connect():
        pass


def recycle(stage: Stage) -> Iterator[None]:
    """A connection that is too old is replaced."""
    stage.pool.connect().close()
    stage.pool.dispose()
    taken = stage.pool.connect()
    stage.pool.dispose()
    yield
    taken.close()
    with stage.pool.connect():
        pass


class Listener:
    """Listens to everything."""

    def connect(self, connection: Any, record: Any) -> None:
        pass

    def checkout(self, connection: Any, record: Any, lease: Any) -> None:
        pass

    def checkin(self, connection: Any, record: Any) -> None:
        pass


def listeners(stage: Stage) -> Iterator[None]:
    """With listeners for everything."""
    stage.pool.add_listener(Listener())
    yield
    with stage.pool.connect():
        pass


def listeners_of_idle(stage: Stage) -> Iterator[None]:
    """The same with what is idle, of which plain listeners are told on a short way."""
    stage.pool.connect().close()
    stage.pool.add_listener(Listener())
    yield
    with stage.pool.connect():
        pass
    stage.pool.connect().close()


def failing_listener(stage: Stage) -> Iterator[None]:
    """One doesn't like what comes back."""

    class Failing(Listener):
        def checkin(self, connection: Any, record: Any) -> None:
            if fails:
                raise ValueError

    fails = False
    stage.pool.connect().close()
    stage.pool.add_listener(Failing())
    yield
    try:
        fails = True
        with suppress(ValueError), stage.pool.connect():
            pass
    finally:
        fails = False


def disconnection(stage: Stage) -> Iterator[None]:
    """A checkout listener has the connection replaced."""

    class Reject:
        def checkout(self, connection: Any, record: Any, lease: Any) -> None:
            if connection.number == 1:
                raise anypool.DisconnectionError

    stage.pool.connect().close()
    stage.pool.add_listener(Reject())
    yield
    with stage.pool.connect():
        pass


def failed_reset(stage: Stage) -> Iterator[None]:
    """The connection can't be reset, and is closed."""
    taken = stage.pool.connect()
    stage.world.fail["rollback"] = OSError("gone")
    yield
    taken.close()


def failed_connect(stage: Stage) -> Iterator[None]:
    """The creator fails."""
    stage.world.fail["connect"] = OSError("refused")
    yield
    with suppress(OSError):
        stage.pool.connect()


def invalidate(stage: Stage) -> Iterator[None]:
    """The connection is closed, and its slot reconnects."""
    taken = stage.pool.connect()
    yield
    taken.invalidate()
    stage.pool.connect().close()


def detach(stage: Stage) -> Iterator[None]:
    """The connection leaves the pool."""
    taken = stage.pool.connect()
    yield
    taken.detach()
    taken.close()


def drop(stage: Stage) -> Iterator[None]:
    """The lease is lost."""
    yield
    taken = stage.pool.connect()
    del taken
    gc.collect()


def dispose(stage: Stage) -> Iterator[None]:
    """The pool is disposed of, with a connection out."""
    stage.pool.connect().close()
    taken = stage.pool.connect()
    yield
    stage.pool.dispose()
    taken.close()
    stage.pool.dispose()


def overflow(stage: Stage) -> Iterator[None]:
    """One more than the pool keeps."""
    taken = stage.pool.unique_connection()
    yield
    more = stage.pool.unique_connection()
    taken.close()
    more.close()


def time_out(stage: Stage) -> Iterator[None]:
    """Wait in vain."""
    taken = [stage.pool.unique_connection() for _ in range(stage.capacity)]
    yield
    with suppress(anypool.PoolTimeoutError):
        stage.pool.unique_connection(timeout=0.0001)
    for each in taken:
        each.close()


def wait(stage: Stage) -> Iterator[None]:
    """Wait, and be served by another thread."""
    taken = [stage.pool.unique_connection() for _ in range(stage.capacity)]
    over = threading.Event()

    def return_all() -> None:
        while not stage.pool.async_pool._ledger.waiters and not over.wait(0.0005):
            pass
        for each in taken:
            each.close()

    thread = threading.Thread(target=return_all, daemon=True)
    thread.start()
    yield
    try:
        with stage.pool.unique_connection(timeout=PATIENCE):
            pass
    finally:
        over.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()


# In a pool that is opened: what it does in its own threads goes on undisturbed.


def opening(stage: Stage) -> Iterator[None]:
    """Open the pool, and wait until it is warm."""
    yield
    stage.pool.open()
    stage.pool.wait()


def connect_beside(stage: Stage) -> Iterator[None]:
    """Wait for a connection that is opened in the background."""
    stage.pool.open()
    yield
    with stage.pool.connect():
        pass


def refused_beside(stage: Stage) -> Iterator[None]:
    """The same, in vain at first."""
    stage.pool.open()
    stage.world.fail["connect"] = OSError("refused")
    yield
    with suppress(anypool.PoolTimeoutError):
        stage.pool.connect(timeout=0.001)


def ping(stage: Stage) -> Iterator[None]:
    """What is idle is pinged at checkout."""
    stage.pool.open()
    stage.pool.connect().close()
    yield
    with stage.pool.connect():
        pass


def failed_ping(stage: Stage) -> Iterator[None]:
    """What is idle doesn't answer, and another one is waited for."""
    stage.pool.open()
    stage.pool.connect().close()
    stage.world.fail["ping"] = ConnectionResetError()
    yield
    with stage.pool.connect():
        pass


def stale(stage: Stage) -> Iterator[None]:
    """What is idle is too old, and is replaced for a caller."""
    stage.pool.open()
    stage.pool.connect().close()
    stage.pool.async_pool._ledger.age()
    yield
    with stage.pool.connect():
        pass


def drain(stage: Stage) -> Iterator[None]:
    """Everything is replaced."""
    stage.pool.open()
    taken = stage.pool.connect()
    yield
    stage.pool.drain()
    taken.close()


def resize(stage: Stage) -> Iterator[None]:
    """The pool is made larger, and smaller."""
    stage.pool.open()
    taken = [stage.pool.unique_connection() for _ in range(stage.capacity)]
    for each in taken:
        each.close()
    yield
    stage.pool.resize(1)
    stage.pool.resize(stage.capacity)


def suspension(stage: Stage) -> Iterator[None]:
    """Checkouts are held back for a while."""
    stage.pool.open()
    yield
    stage.pool.suspend()
    stage.pool.resume()
    stage.pool.connect().close()


def close(stage: Stage) -> Iterator[None]:
    """Close it, with something idle and something out."""
    stage.pool.open()
    taken = [stage.pool.unique_connection() for _ in range(stage.capacity)]
    for each in taken[1:]:
        each.close()
    yield
    stage.pool.close(timeout=0)


OPENED: dict[Scenario, dict[str, Any]] = {
    opening: {"pool_size": 2, "min_size": 2},
    connect_beside: {},
    refused_beside: {},
    ping: {"pre_ping": True},
    failed_ping: {"pre_ping": True},
    stale: {},
    drain: {},
    resize: {"pool_size": 3},
    suspension: {},
    close: {"pool_size": 3},
}
EVERYWHERE = [
    cycle,
    connect,
    lease,
    nested,
    recycle,
    listeners,
    listeners_of_idle,
    failing_listener,
    disconnection,
    failed_reset,
    failed_connect,
    invalidate,
    detach,
    drop,
    dispose,
]
KINDS = ["QueuePool", "SingletonThreadPool", "NullPool", "StaticPool", "AssertionPool"]
CASES = [
    *(
        pytest.param(kind, each, id=f"{kind}-{each.__name__}")
        for kind in KINDS
        for each in EVERYWHERE
    ),
    *(
        pytest.param("QueuePool", each, id=f"QueuePool-{each.__name__}")
        for each in (overflow, time_out, wait, *OPENED)
    ),
]


@pytest.mark.parametrize("at", [AtLine, AtCall])
@pytest.mark.parametrize(("kind", "scenario"), CASES)
def test_interrupt_at_every_line(
    kind: str, scenario: Scenario, at: type[AtLine | AtCall]
) -> None:
    """Nothing is lost, whichever line is the last that runs, or call that is made."""
    found: list[str] = []
    number = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        # What an interrupt struck between the call of a coroutine and its first step.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited")
        step = 1 if kind == "QueuePool" or at is AtCall else stride(4)
        while True:
            number += step
            where = _Strike(kind, scenario, number, at, found).go()
            if where is None:
                break
    assert number > (10 if at is AtLine else 2)
    assert not found, "\n".join(found)


class _Strike:
    """One run of a scenario, interrupted at one line, or in one call."""

    def __init__(
        self,
        kind: str,
        scenario: Scenario,
        number: int,
        at: type[AtLine | AtCall],
        found: list[str],
    ) -> None:
        options: dict[str, Any] = {}
        if kind == "QueuePool":
            options = {"pool_size": 1, "max_overflow": 1 if scenario is overflow else 0}
            options |= OPENED.get(scenario, {})
        self._stage = Stage(kind, options)
        self._scenario = scenario
        self._number = number
        self._at = at
        self._found = found
        self._where: str | None = None
        self._enters = False

    def go(self) -> str | None:
        # In a thread, so that a deadlock shows.
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        thread.join(3 * PATIENCE)
        assert not thread.is_alive(), f"hangs after an interrupt at {self._where}"
        return self._where

    def _run(self) -> None:
        stage = self._stage
        try:
            self._interrupted()
            stage.world.fail.clear()  # an error that was raised refers to what it came by
            gc.collect()
            if self._enters:
                return
            stage.check()
        except BaseException as error:
            self._found.append(f"{self._where}: {type(error).__name__}: {error}")
            error.__traceback__ = None

    def _interrupted(self) -> None:
        steps = self._scenario(self._stage)
        next(steps)

        def interrupt() -> None:
            # The frame that is about to run this line.
            frame = sys._getframe(2)
            self._enters = (
                frame.f_code.co_name == "__enter__"
                and frame.f_lineno == frame.f_code.co_firstlineno + 1
            )
            raise KeyboardInterrupt

        with self._point(interrupt) as at:
            self._stage.at = at
            try:
                next(steps, None)
            except KeyboardInterrupt:
                pass
            finally:
                self._where = at.where

    def _point(self, interrupt: Callable[[], None]) -> AtLine | AtCall:
        if self._at is AtLine:
            return AtLine(self._number, interrupt)
        runtime = self._stage.pool.async_pool._runtime
        return AtCall(runtime, self._stage.world, self._number, interrupt)
