"""Ledger: the slots of a pool, and all decisions on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Generic
from weakref import ref

from typing_extensions import TypeVar

from .._core.errors import PoolClosedError
from .._core.histogram import Tally
from .._core.lease import Lease
from .._core.record import ConnectionRecord
from .._core.waiter import Waiter
from .guard import has_gil, listed
from .leases import Leases
from .statistics import Statistics
from .surroundings import NO_CALLS, Calls, Interrupting, Surroundings

ConnT = TypeVar("ConnT")
T = TypeVar("T")

_NO_GUARD = nullcontext()


class Ledger(Generic[ConnT]):
    """Knows all slots of a pool: who has which, and which are idle.

    A decision is a plain method that changes the books and says what is to be done: which
    connections to close, which slots to connect. It is called through ``decide()``, and
    never waits. There are no counters beside the books that an interrupted step could leave
    wrong.

    Attributes:
        guarded: whether threads use the pool, and no GIL has them take turns.
        opened: whether the pool was opened, and not closed.
        closed: whether it was closed.
        generation: dispose() begins a new one, and with on_disconnect="pool" so does an
            error that means a lost connection; slots of an older one are given up.
        known: all slots that count, wherever they are just now.
        connecting: those that get their connection in the background, and since when.
        unstarted: those that are about to.
        dropped: those that nobody is there to return.
        closers: the gates of those who wait for what is out.
        wants_look: whether somebody should have a look at the pool.
    """

    __slots__ = (
        "__weakref__",
        "blocking",
        "calls",
        "closed",
        "closers",
        "connecting",
        "dropped",
        "generation",
        "guarded",
        "known",
        "label",
        "leases",
        "name",
        "opened",
        "statistics",
        "surroundings",
        "unstarted",
        "wants_look",
    )

    def __init__(
        self,
        surroundings: Surroundings,
        calls: Calls = NO_CALLS,
        *,
        name: str = "Pool",
        timed: bool = False,
    ) -> None:
        """Make an empty ledger.

        Args:
            surroundings: the clock and the lock: a runtime.
            calls: what is to be called.
            name: the pool's class, for errors.
            timed: whether to note when connections go out and come back.
        """
        self.name = self.label = name
        self.surroundings = surroundings
        self.blocking = surroundings.blocking
        self.guarded = self.blocking and not has_gil()
        self.statistics = Statistics(timed)
        self.leases: Leases[ConnT] = Leases(calls.on_drop)
        self.calls = calls
        self.opened = self.closed = self.wants_look = False
        self.generation = 0
        self.known: dict[ref[ConnectionRecord[ConnT]], None] = {}
        self.connecting: dict[ref[ConnectionRecord[ConnT]], float] = {}
        self.unstarted: deque[ConnectionRecord[ConnT]] = deque()
        self.dropped: deque[ConnectionRecord[ConnT]] = deque()
        self.closers: list[Any] = []

    # How decisions are made.

    def decide(self, decision: Callable[..., T], *args: Any) -> T:
        """Call one of the decisions with the books locked.

        Raises:
            Interrupting: this very thread is in the middle of another.
        """
        # The "with" is on one line, so that a tracer's interrupt can't strike between the
        # end of the decision and the release of the lock.
        around = self.surroundings
        if not self.blocking:
            result = decision(*args)
        elif around.door._is_owned():
            raise Interrupting(
                f"{self.name}: a finalizer or signal handler used the pool while its own "
                "thread was in the middle of doing so"
            )
        else:
            try:
                with around.door, around.lock: result = decision(*args)  # fmt: skip # noqa: E701
            except BaseException:
                self.calls.on_decided()
                raise
        if self.unstarted or self.wants_look or (self.dropped and self.blocking):
            self.calls.on_decided()
        return result

    @property
    def guard(self) -> AbstractContextManager[Any]:
        """Let one thread at a time do what would otherwise be atomic by the GIL."""
        guard: AbstractContextManager[Any]
        guard = self.surroundings.door if self.guarded else _NO_GUARD
        return guard

    def is_deciding(self) -> bool:
        """Tell whether this very thread is in the middle of a decision, as a finalizer or
        signal handler may find it."""
        return self.blocking and bool(self.surroundings.door._is_owned())

    # What each kind of pool decides in its own way.

    def claim(self, lease: Lease[ConnT], may_wait: bool, first: bool) -> Any:
        """Give the lease a slot; or return the Waiter that it became.

        Args:
            lease: gets a slot.
            may_wait: whether it may wait for one.
            first: whether it has waited already, and goes before all others.

        Returns:
            None, or the waiter. If the lease may not wait: a waiter that is in no queue.
        """
        raise NotImplementedError

    def take_back(self, record: ConnectionRecord[ConnT]) -> bool:
        """Take a slot back. False: it isn't wanted; close its connection, then forget()."""
        raise NotImplementedError

    def empty(self) -> list[ConnectionRecord[ConnT]]:
        """Take all idle slots out of the pool, and begin a new generation."""
        raise NotImplementedError

    def is_home(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether the pool itself has this slot, or somebody else by now."""
        return False

    def is_in_use(self, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether a thread may be at work on the slot, perhaps this very one, so that
        a finalizer must not wait for that."""
        return False

    def records(self) -> Iterable[ConnectionRecord[ConnT]]:
        """Return all slots that have or may have a connection."""
        leases = self.leases
        out, detached = listed(leases.out.values()), listed(leases.detached.values())
        return [*out, *detached, *listed(self.dropped)]

    def withdraw(self, lease_ref: Any) -> None:
        """Take a lease's waiter out of the queue; it is given nothing from now on."""

    def surplus(self) -> list[ConnectionRecord[ConnT]]:
        """Take what is of no use any more out of the idle slots."""
        return []

    def may_hold(self, record: ConnectionRecord[ConnT], data: Any) -> bool:
        """Tell whether a slot's connection may have a database of its own.

        Args:
            record: the slot.
            data: which database that is; True: one that has something in it.
        """
        return True

    def no_replacement(self) -> AbstractContextManager[None]:
        """Have what is given up in a block not replaced at once."""
        return nullcontext()

    # What all have in common.

    def admit(self, lease: Lease[ConnT], may_wait: bool, first: bool) -> Any:
        """The same as claim(), for a caller who may come too late.

        Raises:
            PoolClosedError: the pool is closed.
        """
        self.check_open()
        return self.claim(lease, may_wait, first)

    def check_open(self) -> None:
        if self.closed:
            raise PoolClosedError(
                f"{self.name}: this pool is closed; recreate() makes a new one"
            )

    def open(self) -> None:
        """Begin to look after the pool.

        Raises:
            PoolClosedError: the pool is closed.
        """
        self.check_open()
        self.opened = True

    def close(self) -> list[ConnectionRecord[ConnT]]:
        """Hand out nothing any more; return the idle slots."""
        self.closed, self.opened = True, False
        return self.empty()

    def want_look(self) -> None:
        """Have somebody look at the pool soon."""
        self.wants_look = True

    def age(self) -> None:
        """Have all connections replaced when they are next looked at."""
        self.generation += 1

    def begin_generation(self, after: int) -> bool:
        """Begin a new generation; False if that has been done already."""
        begun = self.generation == after
        self.generation += begun
        return begun

    def new_record(self) -> ConnectionRecord[ConnT]:
        """Make a slot."""
        record = self._uncounted_record()
        record._on_lost = self.calls.on_lost
        return record

    def _uncounted_record(self) -> ConnectionRecord[ConnT]:
        record: ConnectionRecord[ConnT] = ConnectionRecord(self.generation, None)
        self.known[ref(record)] = None
        return record

    def forget(self, record: ConnectionRecord[ConnT]) -> None:
        """A slot that was not wanted is gone."""
        record._on_lost = None
        self.known.pop(ref(record), None)
        self.statistics.take_over(record)
        while self.closers:
            with suppress(RuntimeError):  # a thread that was told already
                self.closers.pop().release()

    def end(self, lease: Lease[ConnT], own: bool = True) -> ConnectionRecord[ConnT] | None:
        """End a lease; return its record, which is the ender's to deal with.

        Args:
            lease: is over.
            own: whether its own caller ends it.
        """
        leases, key = self.leases, lease._ref
        record = leases.out.pop(key, None)
        if record is not None:
            self.note_use(record)
        elif key is not None:
            record = leases.detached.pop(key, None)
        leases.clear_caller(lease, own)
        lease._clear()
        return record

    def note_use(self, record: ConnectionRecord[ConnT]) -> None:
        """Note that a slot is not out any more."""
        if self.statistics.timed:
            now = self.surroundings.now()
            uses = record._uses
            if uses is None:
                uses = record._uses = Tally()
            uses.add(now - record._since)
            record._since = now

    def known_records(self) -> list[ConnectionRecord[ConnT]]:
        records = [reference() for reference in listed(self.known)]
        return [record for record in records if record is not None]

    def abandon(self) -> set[ConnectionRecord[ConnT]]:
        """Forget everything, for what is out can't come back from there; return it."""
        self.generation += 1
        records = {*self.records(), *self.known_records()}
        for record in records:
            record._on_lost = None
            self.statistics.take_over(record)
        self.clear()
        return records

    def clear(self) -> None:
        """Be empty."""
        self.leases.clear()
        self.known.clear()
        self.connecting.clear()
        self.unstarted.clear()
        self.dropped.clear()
        self.closers.clear()

    def hand_over(
        self, lease: Lease[ConnT], record: ConnectionRecord[ConnT], share: bool
    ) -> None:
        """Give the lease its slot's connection; see Leases.hand_over()."""
        if record._users < 2:
            record._since = self.surroundings.now()
        self.leases.hand_over(lease, record, share)

    # What views ask.

    def is_suspended(self) -> bool:
        return False

    def is_exhausted(self) -> bool:
        """Tell whether all slots are out, so that only a return helps who waits."""
        return False

    def limit(self) -> int | None:
        """Return how many connections there may be; None: no limit."""
        return None

    def waiting(self) -> list[Waiter[ConnT]]:
        """Return those who wait, in turn."""
        return []

    def slot_count(self) -> int:
        out = self.leases.records()
        return sum(r.connection is not None or r in out for r in self.known_records())

    def idle_count(self) -> int:
        out = self.leases.records()
        return sum(r.connection is not None and r not in out for r in self.known_records())

    def waiting_count(self) -> int:
        return 0

    def oldest_wait(self) -> float:
        return 0.0
