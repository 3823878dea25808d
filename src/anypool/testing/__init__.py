"""For tests: a contract that drivers have to keep, fake connections, and a driven clock.

Needs nothing but anypool itself; the contract's tests are made to be collected by pytest.
"""

from ._clock import Clock, driven
from ._contract import DriverContract
from ._cursors import FakeAsyncCursor, FakeCursor
from ._fakes import FakeAsyncConnection, FakeConnection, FakeDatabase
from ._script import FakeError, FakeLostConnection, Operation
from ._waiting import wait_until, wait_until_async

__all__ = [
    "Clock",
    "DriverContract",
    "FakeAsyncConnection",
    "FakeAsyncCursor",
    "FakeConnection",
    "FakeCursor",
    "FakeDatabase",
    "FakeError",
    "FakeLostConnection",
    "Operation",
    "driven",
    "wait_until",
    "wait_until_async",
]
