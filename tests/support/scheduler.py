"""Scheduler: runs threads one at a time, and decides at every step which goes on.

Threads hand a baton on. They may do so at each line of the pool's own code, and wherever
they would block: the primitives of the thread runtime are replaced by ones that tell the
scheduler. What happens depends on its decisions alone, so that they replay a run.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import pytest

import anypool

from .modes import PATIENCE

_SOURCE = os.path.dirname(anypool.__file__) + os.sep


class Deadlock(AssertionError):
    """All threads wait for each other."""


class _Abandoned(BaseException):
    """Ends a thread whose run has failed."""


class Actor:
    """A thread of a run.

    Attributes:
        waits_for: the lock that it waits for, if any.
        until: when it gives up waiting, by the scheduler's clock.
    """

    def __init__(self, number: int, name: str, work: Callable[[], None]) -> None:
        self.number = number
        self.name = name
        self.work = work
        self.waits_for: ScheduledLock | None = None
        self.until: float | None = None
        self.timed_out = False
        self.done = False
        self.error: BaseException | None = None
        self.leave = threading.Event()
        self.baton = threading.Lock()
        self.baton.acquire()


class Decisions:
    """Says at each step which thread goes on; without preemptions, in this class.

    Attributes:
        options: at each step, what else could have been decided.
        taken: the steps where another one did, and which.
        running: at each step, the number of the thread that was running.
    """

    def __init__(self) -> None:
        self.running: list[int] = []
        self.options: list[range] = []
        self.taken: dict[int, int] = {}

    def preempt(self, others: int) -> int | None:
        """Say which of so many others goes on now; None: whoever is running."""
        self.options.append(range(others))
        return self.taken.get(len(self.options) - 1)

    def pick(self, count: int) -> int:
        """Say which of so many goes on, as the one that ran can't."""
        self.options.append(range(1, count))
        return self.taken.get(len(self.options) - 1, 0)


class Planned(Decisions):
    """Preempts at the given steps."""

    def __init__(self, plan: dict[int, int]) -> None:
        super().__init__()
        self.taken = plan


class Random(Decisions):
    """Preempts at random.

    Args:
        seed: repeats a run.
        rate: the probability of a preemption, at each step.
    """

    def __init__(self, seed: int, rate: float) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._rate = rate

    def preempt(self, others: int) -> int | None:
        if others and self._random.random() < self._rate:
            return self._random.randrange(others)
        return None

    def pick(self, count: int) -> int:
        return self._random.randrange(count)


class Scheduler:
    """One run of several threads.

    Attributes:
        now: the clock; it goes on when somebody's patience ends.
        steps: how many there were.
        blame: told of violations.
        started: by their idents, the threads that the run's threads have started.
    """

    def __init__(self, decisions: Decisions, blame: Callable[[str], None]) -> None:
        self.now = 1000.0
        self.steps = 0
        self.blame = blame
        self.gates: list[ScheduledLock] = []
        self.started: dict[int, ScheduledThread] = {}
        self._decisions = decisions
        self._actors: list[Actor] = []
        self._threads: list[threading.Thread] = []
        self._current: Actor | None = None
        self._over = threading.Event()
        self._failure: BaseException | None = None

    def actor(self, name: str, work: Callable[[], None]) -> None:
        """Add a thread; if they run already, one that one of them starts."""
        actor = Actor(len(self._actors), name, work)
        thread = threading.Thread(target=self._live, args=(actor,), daemon=True)
        self._actors.append(actor)
        self._threads.append(thread)
        if self.in_run():
            thread.start()
            self.point()

    def run(self) -> None:
        """Run all threads to their ends. Raises what one of them raised."""
        for thread in list(self._threads):
            thread.start()
        self._pass_on()
        assert self._over.wait(PATIENCE), f"a thread is stuck: {self._describe()}"
        for thread, actor in zip(self._threads, self._actors, strict=True):
            # One after the other, as they take their markers along.
            actor.leave.set()
            thread.join(PATIENCE)
        if self._failure is not None:
            raise self._failure
        for actor in self._actors:
            if actor.error is not None:
                raise actor.error

    def point(self) -> None:
        """Let another thread go on, perhaps."""
        me = self._current
        if me is None or self._failure is not None:
            return
        self.steps += 1
        others = [
            each
            for each in self._actors
            if each is not me and not each.done and self._can_go_on(each)
        ]
        self._decisions.running.append(me.number)
        choice = self._decisions.preempt(len(others))
        if choice is not None and choice < len(others):
            self._switch(me, others[choice])

    def block(self, lock: ScheduledLock, timeout: float | None) -> bool:
        """Wait until the lock is released; return False if the time was over."""
        me = self._current
        assert me is not None, "the test itself would wait for ever"
        me.waits_for, me.timed_out = lock, False
        me.until = None if timeout is None else self.now + timeout
        self._pass_on(me)
        me.waits_for = me.until = None
        return not me.timed_out

    def in_run(self) -> bool:
        return self._current is not None

    # Baton passing.

    def _can_go_on(self, actor: Actor) -> bool:
        lock = actor.waits_for
        return lock is None or not lock.taken or actor.until is not None

    def _switch(self, me: Actor | None, other: Actor) -> None:
        lock = other.waits_for
        if lock is not None and lock.taken:  # its patience is at an end, then
            assert other.until is not None
            other.timed_out = True
            self.now = max(self.now, other.until)
        self._current = other
        if other is me:
            return
        other.baton.release()
        if me is not None and not me.done:
            me.baton.acquire()
            if self._failure is not None:
                raise _Abandoned

    def _pass_on(self, me: Actor | None = None) -> None:
        """Have another thread go on, as this one can't."""
        able = [each for each in self._actors if not each.done and self._can_go_on(each)]
        # Nobody's time is over as long as somebody can do something without that.
        ready = [
            each for each in able if each.waits_for is None or not each.waits_for.taken
        ]
        able = ready or sorted(able, key=lambda each: each.until or 0)[:1]
        if able:
            self._decisions.running.append(-1 if me is None else me.number)
            self._switch(me, able[self._decisions.pick(len(able))])
        elif all(each.done for each in self._actors):
            self._current = None
            self._over.set()
        else:
            self._fail(Deadlock(self._describe()))
            raise _Abandoned

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._current = None
        for each in self._actors:
            if each.baton.locked():
                each.baton.release()
        self._over.set()

    def _describe(self) -> str:
        return ", ".join(
            f"{each.name}: {'done' if each.done else 'waits' if each.waits_for else 'runs'}"
            for each in self._actors
        )

    def _live(self, actor: Actor) -> None:
        actor.baton.acquire()
        try:
            if self._failure is None:
                sys.settrace(self._trace)
                actor.work()
        except _Abandoned:
            pass
        except BaseException as error:
            actor.error = error
        finally:
            sys.settrace(None)
            actor.done = True
        if self._failure is None:
            with suppress(_Abandoned):
                self._pass_on(actor)
        actor.leave.wait(PATIENCE)

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "call":
            if not frame.f_code.co_filename.startswith(_SOURCE):
                return None
        elif event == "line":
            self.point()
        return self._trace


class ScheduledLock:
    """Stands in for threading.Lock.

    Attributes:
        taken: whether somebody has it.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.taken = False
        self.awaited = False
        self._scheduler = scheduler

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        scheduler = self._scheduler
        scheduler.point()
        deadline = None if timeout < 0 else scheduler.now + timeout
        while self.taken:
            if not blocking or not scheduler.in_run():
                assert not blocking, "a lock is still taken"
                return False
            left = None if deadline is None else max(0.0, deadline - scheduler.now)
            self.awaited = True
            try:
                if not scheduler.block(self, left):
                    return False
            finally:
                self.awaited = False
        self.taken = True
        return True

    def release(self) -> None:
        if not self.taken:
            raise RuntimeError("release unlocked lock")
        self.taken = False
        self._scheduler.point()

    def locked(self) -> bool:
        return self.taken

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class ScheduledGate(ScheduledLock):
    """A lock that is a gate: those who wait are served first come, first served."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        scheduler.gates.append(self)

    def release(self) -> None:
        for gate in self._scheduler.gates:
            if gate is self:
                break
            if gate.awaited and gate.taken:
                self._scheduler.blame("a waiter was served before one that came earlier")
        super().release()


class ScheduledThread:
    """Stands in for threading.Thread: an actor that a run's threads start."""

    ident: int | None = None

    def __init__(
        self, scheduler: Scheduler, target: Callable[..., None], args: tuple[Any, ...]
    ) -> None:
        self._scheduler = scheduler
        self._work = partial(target, *args)
        self._runs = ScheduledLock(scheduler)

    def start(self) -> None:
        assert self._scheduler.in_run(), "only a run's threads start threads"
        self.ident = id(self)
        self._runs.taken = True
        self._scheduler.actor("started", self._run)

    def _run(self) -> None:
        self._scheduler.started[threading.get_ident()] = self
        try:
            self._work()
        finally:
            self._runs.release()

    def join(self, timeout: float) -> None:
        if self.ident is None:
            raise RuntimeError("cannot join thread before it is started")
        if self._runs.acquire(timeout=timeout):
            self._runs.release()


class Door:
    """Only tells which thread is inside; it is the lock behind it that keeps others out."""

    def __init__(self) -> None:
        self._inside: set[int] = set()

    def __enter__(self) -> None:
        self._inside.add(threading.get_ident())

    def __exit__(self, *_: object) -> None:
        self._inside.discard(threading.get_ident())

    def _is_owned(self) -> bool:
        return threading.get_ident() in self._inside


class _Threading:
    """Stands in for the module `threading` in the thread runtime."""

    TIMEOUT_MAX = threading.TIMEOUT_MAX
    local = threading.local

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def Thread(  # noqa: N802
        self, *, target: Callable[..., None], args: tuple[Any, ...], daemon: bool, name: str
    ) -> ScheduledThread:
        return ScheduledThread(self._scheduler, target, args)

    def current_thread(self) -> ScheduledThread | threading.Thread:
        this = threading.current_thread()
        return self._scheduler.started.get(threading.get_ident(), this)

    def RLock(self) -> Any:  # noqa: N802
        # The pool has it only around a lock that is a scheduled one.
        return Door()

    def Lock(self) -> ScheduledLock:  # noqa: N802
        caller = sys._getframe(1).f_code.co_name
        return (ScheduledGate if caller == "gate" else ScheduledLock)(self._scheduler)


class _Time:
    """Stands in for the module `time` there."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def monotonic(self) -> float:
        return self._scheduler.now

    def sleep(self, seconds: float) -> None:
        never = ScheduledLock(self._scheduler)
        never.acquire()
        never.acquire(timeout=seconds)


@contextmanager
def scheduled(scheduler: Scheduler) -> Iterator[None]:
    """Have pools that are made and used in this block ask the scheduler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anypool._runtimes.thread.threading", _Threading(scheduler))
        patch.setattr("anypool._runtimes.thread.time", _Time(scheduler))
        yield
