"""Parts: what a pool is put together from."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._parts.announcer import Announcer
from .._parts.background import Background
from .._parts.checkins import Checkins
from .._parts.checkouts import Checkouts
from .._parts.closer import Closer
from .._parts.connector import Connector
from .._parts.deadlocks import Deadlocks
from .._parts.diagnosis import Diagnosis
from .._parts.inspector import Inspector
from .._parts.resetter import Resetter
from .._parts.sharing import (
    SharedCheckins,
    SharedCheckouts,
    SharedCloser,
    SharedInspector,
    SharedResetter,
)


class Kinds(NamedTuple):
    """Which kind of each part a class of pools has."""

    closer: type[Closer[Any]] = Closer
    inspector: type[Inspector[Any]] = Inspector
    resetter: type[Resetter[Any]] = Resetter
    checkins: type[Checkins[Any]] = Checkins
    checkouts: type[Checkouts[Any]] = Checkouts


SHARED = Kinds(
    SharedCloser, SharedInspector, SharedResetter, SharedCheckins, SharedCheckouts
)
"""For pools whose slots are not one caller's at a time."""


class Parts(NamedTuple):
    """The parts that are made before a pool's own."""

    background: Background
    announcer: Announcer[Any]
    closer: Closer[Any]
    connector: Connector[Any]
    inspector: Inspector[Any]
    checkins: Checkins[Any]
    diagnosis: Diagnosis
    deadlocks: Deadlocks
