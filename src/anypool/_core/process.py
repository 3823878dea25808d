"""The process: what a forked child has to leave to its parent.

Python drops the thread-local variables of the parent's other threads before it calls any
hook in the child. What is finalized then is the parent's.
"""

from __future__ import annotations

import os
from typing import Any


class Process:
    """This process, and what it has of its parent's."""

    # Finalizers call this even while the interpreter exits, when a module's globals may be
    # gone: so whatever it needs is its own.

    def __init__(self) -> None:
        self._getpid = os.getpid
        self._pid = os.getpid()
        self._spared: list[Any] = []

    def is_strange(self) -> bool:
        """Tell whether this is a forked child in which no hook of ours has run yet."""
        return self._getpid() != self._pid

    def spare(self, *things: Any) -> None:
        """Keep the parent's things for ever.

        A driver's own finalizer might say goodbye on a socket that both processes share.
        """
        self._spared.append(things)

    def settle(self) -> None:
        """Take what comes from now on for this process's own."""
        self._pid = self._getpid()


process = Process()
