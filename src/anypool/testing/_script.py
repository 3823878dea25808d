"""What fake connections are told to answer, and what was asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

Operation: TypeAlias = Literal[
    "connect", "execute", "fetch", "commit", "rollback", "ping", "close"
]
"""What can be made to fail."""


class FakeError(Exception):
    """An error of a fake database: a statement that it refuses, a connection misused."""


class FakeLostConnection(FakeError, ConnectionError):
    """The fake server is gone; pools take it for a lost connection."""


class Call(NamedTuple):
    """Something that was done to a connection, in the order in which it was done."""

    operation: Operation
    statement: str = ""
    parameters: Any = ()


class Script:
    """Answers and errors, for one connection or for all of a database."""

    def __init__(self, parent: Script | None = None) -> None:
        self._parent = parent
        self._answers: dict[str, list[Sequence[Any]]] = {}
        self._errors: dict[Operation, list[BaseException]] = {}

    def answer(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        self._answers[statement] = list(rows)

    def fail(self, operation: Operation, error: BaseException, times: int) -> None:
        self._errors.setdefault(operation, []).extend([error] * times)

    def rows_of(self, statement: str) -> list[Sequence[Any]] | None:
        """Return the answer to a statement; None if it is not a question."""
        if statement in self._answers:
            return list(self._answers[statement])
        return None if self._parent is None else self._parent.rows_of(statement)

    def check(self, operation: Operation) -> None:
        """Raise what this operation was told to raise next, if anything."""
        errors = self._errors.get(operation)
        if errors:
            raise errors.pop(0)
        if self._parent is not None:
            self._parent.check(operation)
