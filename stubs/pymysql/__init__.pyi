"""The part of PyMySQL that anypool and its tests use."""

from typing import Any

from . import connections as connections
from . import cursors as cursors

def connect(**kwargs: Any) -> connections.Connection: ...
