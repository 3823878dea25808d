"""A clock that goes on when it is told to, and pools that go by it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import anyio

from anypool import Pool, sync

from ._reach import rouse, runtime_of, settle


class Clock:
    """A clock that stands still until it is told to go on. One may drive several pools."""

    def __init__(self) -> None:
        self._elapsed = 0.0
        self._lock = threading.Lock()
        self._alarms: dict[object, tuple[float, Callable[[object], object]]] = {}
        self._driven: list[Callable[[], object]] = []

    @property
    def elapsed(self) -> float:
        """By how many seconds the clock has gone on."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Let so much time pass at once.

        What is due then begins: timeouts end, and an opened pool looks after its
        connections. It is done beside you: use ``wait_until()`` or ``wait_until_async()``
        to wait for what should come of it.

        Raises:
            ValueError: a clock doesn't go back.
        """
        if seconds < 0:
            raise ValueError(f"seconds: expected 0 or more, not {seconds}")
        with self._lock:
            self._elapsed += seconds
            due = [
                (token, ring)
                for token, (at, ring) in self._alarms.items()
                if at <= self._elapsed
            ]
        for token, ring in due:
            ring(token)
        # What was just looked at by the time before is looked at once more.
        for rouse_it in list(self._driven):
            rouse_it()

    def _set(self, seconds: float, ring: Callable[[object], object]) -> object:
        token = object()
        with self._lock:
            at = self._elapsed + seconds
            self._alarms[token] = at, ring
            over = at <= self._elapsed
        if over:
            ring(token)
        return token

    def _drop(self, token: object) -> bool:
        """Take an alarm away; tell whether it was still set."""
        with self._lock:
            return self._alarms.pop(token, None) is not None


@contextmanager
def driven(
    *pools: Pool[Any] | sync.Pool[Any], clock: Clock | None = None
) -> Iterator[Clock]:
    """Have pools go by a clock of yours: no test has to sleep for `recycle`, `max_idle`,
    `keepalive`, `pre_ping` or a timeout.

    Drive a pool before it has been opened or used, or else it still waits for what it has
    begun to wait for, and close it inside the block. An async pool is driven inside its
    event loop. A blocking pool of async connections needs a coroutine function as creator.
    What bounds the return of a connection, and a driver's own timeouts, go on in real time.

    Args:
        pools: async pools, blocking ones, or both.
        clock: a clock that drives other pools already. Default: a new one.

    Returns:
        A context manager that gives the clock.

    Raises:
        InvalidRequestError: an async pool, where no event loop runs.
    """
    clock = Clock() if clock is None else clock
    runtimes: list[_Driven] = []
    roused: list[Callable[[], object]] = []
    try:
        for pool in pools:
            settle(pool)
            runtimes.append(_Driven(runtime_of(pool), clock))
            roused.append(partial(rouse, pool))
            rouse(pool)
        clock._driven += roused
        yield clock
    finally:
        for each in roused:
            with suppress(ValueError):
                clock._driven.remove(each)
        for runtime in runtimes:
            runtime.restore()


class _Driven:
    """Takes a runtime's time from a clock, by putting methods of its own in place."""

    _NAMES = ("now", "wait", "block", "within")

    def __init__(self, runtime: Any, clock: Clock) -> None:
        self._runtime, self._clock = runtime, clock
        self._base: float = runtime.now() - clock.elapsed
        self._before = {
            name: vars(runtime)[name] for name in self._NAMES if name in vars(runtime)
        }
        self._wait = runtime.wait
        runtime.now, runtime.wait = self.now, self.wait
        runtime.within = self.within_blocking if runtime.blocking else self.within
        if runtime.blocking:
            self._block = runtime.block
            runtime.block = self.block

    def restore(self) -> None:
        for name in self._NAMES:
            vars(self._runtime).pop(name, None)
        vars(self._runtime).update(self._before)

    def now(self) -> float:
        return self._base + self._clock.elapsed

    async def wait(self, gate: Any, timeout: float | None) -> None:
        if timeout is None:
            await self._wait(gate, None)
            return
        token = self._open_in_time(gate, timeout)
        try:
            await self._wait(gate, None)
        finally:
            self._clock._drop(token)

    def block(self, gate: Any, timeout: float | None) -> None:
        if timeout is None:
            self._block(gate, None)
            return
        token = self._open_in_time(gate, timeout)
        try:
            self._block(gate, None)
        finally:
            self._clock._drop(token)

    def _open_in_time(self, gate: Any, timeout: float) -> object:
        """Have a gate opened when its wait has lasted so long, as runtimes do."""

        def release(token: object) -> None:
            # Looked at where the gate's waiter lives: it may just have gone on.
            if self._clock._drop(token):
                with suppress(RuntimeError):  # a thread's gate that is open already
                    gate.release()

        return self._clock._set(timeout, lambda token: self._post(release, token))

    async def within(
        self, seconds: float | None, work: Coroutine[Any, Any, object]
    ) -> bool:
        if seconds is None:
            await work
            return True
        with anyio.CancelScope() as scope:
            token = self._clock._set(
                seconds, lambda token: self._post(lambda _: scope.cancel(), token)
            )
            try:
                await work
            finally:
                self._clock._drop(token)
        return not scope.cancel_called

    async def within_blocking(
        self, seconds: float | None, work: Coroutine[Any, Any, object]
    ) -> bool:
        start = self.now()
        await work
        return seconds is None or self.now() - start <= seconds

    def _post(self, function: Callable[[object], None], token: object) -> None:
        self._runtime.post(lambda: function(token))
