"""What a ledger is given here: a clock that stands still, and gates that count."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Any

from anypool import PooledConnection
from anypool._ledgers.surroundings import Calls

CALLS = Calls(lambda: None, None, lambda record: None)
"""What a ledger calls: nobody."""


class Gate:
    """Counts how often it was released."""

    def __init__(self) -> None:
        self.released = 0

    def release(self) -> None:
        self.released += 1


class Surroundings:
    """No event loop and no threads: nothing here waits."""

    def __init__(self, *, blocking: bool = False) -> None:
        self.blocking = blocking
        self.lock: Any = threading.Lock() if blocking else nullcontext()
        self.door: Any = threading.RLock() if blocking else nullcontext()
        self.settled = True
        self.time = 0.0
        self.now = lambda: self.time

    def gate(self) -> Gate:
        return Gate()


class Owner:
    """What leases are made for."""

    _lease_type = PooledConnection


class Caller:
    """Stands for a task or thread."""


class Connection:
    """Stands for a driver's connection."""


class Driver:
    """Closes nothing."""

    def terminate(self, connection: object) -> bool:
        return True


def connect(record: Any, generation: int) -> None:
    """Give a slot a connection."""
    record._driver = Driver()
    record.connection, record._generation = Connection(), generation
