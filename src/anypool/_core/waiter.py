"""Waiter: a caller's place in the queue for a connection."""

from __future__ import annotations

from types import CodeType
from typing import Any, Generic, Protocol, TypeAlias
from weakref import ref

from typing_extensions import TypeVar

from .record import ConnectionRecord

ConnT = TypeVar("ConnT")

Caller: TypeAlias = ref[Any]
"""The identity of a task or thread: a weak reference to it, or to what stands for it."""


class Gate(Protocol):
    """A private semaphore: one waiter passes it, once, when somebody releases it."""

    def release(self) -> None: ...


class Waiter(Generic[ConnT]):
    """A caller's place in the queue.

    Whoever frees a slot hands it to the first waiter directly: notes it as the lease's in
    the pool's books, puts it here, and opens the gate. So a slot that is under way to a
    waiter can't be overtaken, and if the waiter is gone by then, it knows what to pass on.
    """

    __slots__ = ("code", "gate", "lasti", "record", "ref", "since")

    # Where it waits: set by who has time for that.
    code: CodeType | None
    lasti: int

    def __init__(self, lease_ref: ref[Any], gate: Gate, since: float) -> None:
        self.ref = lease_ref
        self.gate = gate
        self.since = since
        self.record: ConnectionRecord[ConnT] | None = None
        self.code, self.lasti = None, -1
