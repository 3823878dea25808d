"""What a part is given here: a runtime that does nothing by itself, a driver that fails.

Coroutines are driven by hand. What is begun in the background waits in a list until a test
has it run, and time passes when a test says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from inspect import isawaitable
from typing import Any
from weakref import ref

from typing_extensions import TypeVar

from anypool._core.disconnects import Disconnects
from anypool._core.driver import CLEAN
from anypool._core.log import PoolLog
from anypool._ledgers.ledger import Ledger
from anypool._ledgers.queue import QueueLedger
from anypool._ledgers.surroundings import Calls
from anypool._parts.announcer import Announcer
from anypool._parts.background import Background
from anypool._parts.closer import Closer
from anypool._parts.connector import Connector
from anypool._parts.inspector import Inspector, QueueInspector

from .surroundings import Caller, Connection, Surroundings

T = TypeVar("T")


class Fault(Exception):
    """Raised by a step."""


class Interrupt(BaseException):
    """Raised by a step."""


class Cancelled(BaseException):
    """Thrown into what is cut short."""


class Never:
    """Is awaited by a step that never ends."""

    def __await__(self) -> Generator[Never, Any, None]:
        yield self


class Driver:
    """Notes what is done to connections, and fails where a test says so.

    Attributes:
        steps: what was done, in order.
        fail: what a step raises, by its name; Never: it doesn't end.
        fail_once: the same, the next time only.
        states: what state() says, one after the other; then CLEAN.
        opened: whether connections look open.
        abrupt: whether a connection can be closed without waiting.
        data: what holds_data() says.
    """

    def __init__(self, *, blocking: bool = False) -> None:
        self.blocking = blocking
        self.steps: list[str] = []
        self.fail: dict[str, Any] = {}
        self.fail_once: dict[str, Any] = {}
        self.states: deque[Any] = deque()
        self.opened = True
        self.abrupt = True
        self.data: Any = False

    def step(self, what: str) -> Any:
        self.steps.append(what)
        fault = self.fail_once.pop(what, self.fail.get(what))
        if isinstance(fault, BaseException):
            raise fault
        return fault

    def baseline(self, connection: Any) -> Any:
        return f"baseline {self.steps.count('connect listener')}"

    def holds_data(self, connection: Any) -> Any:
        fault = self.fail.get("holds data")
        if isinstance(fault, BaseException):
            raise fault
        return self.data if fault is None else fault

    def state(self, connection: Any, baseline: Any) -> Any:
        return self.states.popleft() if self.states else CLEAN

    def reset(self, connection: Any, mode: Any) -> Any:
        return self.step(f"reset {mode}")

    def restore(self, connection: Any, baseline: Any) -> Any:
        return self.step("restore")

    def interrupt(self, connection: Any) -> Any:
        return self.step("interrupt")

    def ping(self, connection: Any) -> Any:
        return self.step("ping")

    def close(self, connection: Any) -> Any:
        return self.step("close")

    def terminate(self, connection: Any) -> bool:
        self.step("terminate")
        return self.abrupt

    def is_open(self, connection: Any) -> bool:
        return self.opened

    def is_disconnect(self, error: BaseException, connection: Any) -> bool:
        return isinstance(error, ConnectionError)


class Runtime(Surroundings):
    """A place where only what a test has run is run.

    Attributes:
        begun: work in the background, which has not begun yet.
        limits: the seconds of each limit that was set.
        in_threads: what would have been called in a thread.
    """

    can_watch = False

    def __init__(self, *, blocking: bool) -> None:
        super().__init__(blocking=blocking)
        self.begun: deque[tuple[Coroutine[Any, Any, None], Any]] = deque()
        self.limits: list[float | None] = []
        self.in_threads: list[Any] = []
        self.me = Caller()

    def caller(self) -> Any:
        return self.me

    async def call(self, blocking: bool, function: Callable[..., Any], *args: Any) -> Any:
        if blocking:
            self.in_threads.append(function)
        result = function(*args)
        return await result if isawaitable(result) else result

    async def open(
        self, record: Any, creator: Any, *, inline: bool, start: Any, discard: Any
    ) -> bool:
        connection = creator()
        if not inline:
            self.in_threads.append(creator)
        awaited = isawaitable(connection)
        record.connection = await connection if awaited else connection
        return awaited

    async def within(self, seconds: float | None, work: Any) -> bool:
        self.limits.append(seconds)
        if seconds is None:
            await work
            return True
        return await _Within(work)

    async def complete(self, work: Any) -> None:
        await work

    def mutex(self) -> Any:
        return Mutex()

    async def wait(self, gate: Any, timeout: float | None) -> None:
        while not gate.released:
            await Never()

    def start(self, work: Any, *, vital: bool = False, keep: object = None) -> bool:
        self.begun.append((work, None))
        return True

    def spawn(self, work: Any, done: Any = None, keep: object = None) -> bool:
        self.begun.append((work, done))
        return True

    def post(self, callback: Callable[[], object]) -> bool:
        callback()
        return True

    def run_all(self) -> int:
        """Run what waits in the background to its end; return how much that was."""
        count = 0
        while self.begun:
            count += 1
            self.run_next()
        return count

    def run_next(self) -> None:
        work, done = self.begun.popleft()
        drive(work)
        if done is not None:
            done()

    def drop_all(self) -> None:
        while self.begun:
            self.begun.popleft()[0].close()


class Mutex:
    """A lock that nobody has to wait for."""

    def __init__(self) -> None:
        self.held = False

    def locked(self) -> bool:
        return self.held

    def __enter__(self) -> None:
        assert not self.held
        self.held = True

    def __exit__(self, *_: object) -> None:
        self.held = False

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()


class _Within:
    """Runs work that is cut short at the first step that doesn't end, if there is one."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._work = work

    def __await__(self) -> Generator[Any, Any, bool]:
        waits = False
        try:
            self._work.send(None)
            waits = True
            self._work.throw(Cancelled())
        except (StopIteration, Cancelled):
            return not waits
        yield "after it was cut short"
        return False


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    try:
        step = work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise AssertionError(f"it waits, for {step}")


def begin(work: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine up to where it waits."""
    try:
        work.send(None)
    except StopIteration:
        raise AssertionError("it has ended") from None


def cut_short(work: Coroutine[Any, Any, Any]) -> None:
    """Cancel a coroutine that waits."""
    try:
        work.throw(Cancelled())
    except Cancelled:
        return
    raise AssertionError("the cancellation was swallowed")


class Stage:
    """Everything that a part may need, around one driver.

    Attributes:
        told: what listeners were told, in order.
        made: the connections that the creator made.
        fault: what the creator raises, or what is awaited before it returns.
    """

    def __init__(
        self,
        *,
        blocking: bool = False,
        driver: Driver | None = None,
        ledger: Callable[[Any, Calls], Ledger[Any]] | None = None,
        listeners: Any = (),
        creator: Any = None,
        closer: type[Closer[Any]] = Closer,
        inspector: type[Inspector[Any]] = QueueInspector,
        timed: bool = True,
        lose_all: bool = False,
        ping_after: float = 100.0,
        **options: Any,
    ) -> None:
        self.runtime = Runtime(blocking=blocking)
        self.driver = driver or Driver()
        self.made: list[Any] = []
        self.fault: Any = None
        self.pool = Caller()  # what background work keeps alive
        self.decided = 0
        calls = Calls(self._note_decision, None, lambda record: None)
        if ledger is None:
            queue: QueueLedger[Any] = QueueLedger(
                self.runtime, calls, timed=timed, min_size=options.pop("min_size", 0)
            )
            queue.set_size(options.pop("pool_size", 3), options.pop("max_overflow", 0))
            self.ledger: Any = queue
        else:
            self.ledger = ledger(self.runtime, calls)
        log = PoolLog("Parts", None, None)
        self.background = Background(self.runtime, ref(self.pool))
        self.announcer: Announcer[Any] = Announcer(self.runtime, listeners, log)
        self.closer = closer(
            self.ledger,
            self.background,
            self.announcer,
            Disconnects(None, log),
            lose_all=lose_all,
        )
        self.connector: Connector[Any] = Connector(
            creator or self._create,
            self.ledger,
            self.background,
            self.announcer,
            self.closer,
            driver=None if options.pop("unknown", False) else self.driver,
            recycle=options.pop("recycle", -1),
            jitter=options.pop("jitter", None),
            quick=True,
            full=options.pop("full", False),
        )
        self.inspector = inspector(
            self.ledger, self.background, self.closer, log, ping_after=ping_after
        )
        assert not options, options

    def _note_decision(self) -> None:
        self.decided += 1

    def _create(self) -> Any:
        if isinstance(self.fault, BaseException):
            raise self.fault
        if self.fault is not None:
            return self._create_never()
        self.made.append(Connection())
        return self.made[-1]

    async def _create_never(self) -> Any:
        await self.fault

    def slot(self, *, out: bool = True, connected: bool = True) -> Any:
        """Return a slot of a QueueLedger, which nobody has, or which is idle."""
        record = self.ledger.decide(self.ledger.new_slot)
        if connected:
            drive(self.connector.connect(record))
        if not out:
            assert self.ledger.decide(self.ledger.take_back, record)
        return record

    @property
    def closed(self) -> dict[Any, int]:
        """How many connections were closed, by reason."""
        return dict(self.ledger.statistics.closed)

    def pass_time(self, seconds: float) -> None:
        self.runtime.time += seconds


class Told:
    """A listener that notes what it is told, and fails where a test says so."""

    def __init__(self, stage_or_steps: Any, *, fail: dict[str, Any] | None = None) -> None:
        self._steps = stage_or_steps
        self.fail = fail or {}

    def note(self, what: str) -> Any:
        self._steps.append(what)
        fault = self.fail.get(what)
        if isinstance(fault, BaseException):
            raise fault
        return fault


class ConnectTold(Told):
    def connect(self, connection: Any, record: Any) -> Any:
        return self.note("connect listener")


class FirstTold(Told):
    def first_connect(self, connection: Any, record: Any) -> Any:
        return self.note("first connect listener")


class CloseTold(Told):
    def close(self, connection: Any, record: Any) -> Any:
        return self.note("close listener")


class InvalidateTold(Told):
    def invalidate(self, connection: Any, record: Any, error: Any) -> Any:
        return self.note("invalidate listener")
