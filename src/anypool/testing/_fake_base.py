"""What both kinds of fake connections have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from ._script import Call, FakeError, FakeLostConnection, Operation, Script


class Database(Protocol):
    """A fake database; see FakeDatabase."""

    _script: Script

    def _adopt(self, connection: FakeBase) -> None: ...


class FakeBase:
    """What both kinds of fake connections have in common.

    Attributes:
        number: counts the connections of a FakeDatabase, from 1; 0 for those of none.
        calls: all that was done to it, in order, by callers and by the pool.
        in_transaction: whether a transaction is open. A statement begins one, unless
            `autocommit` is on.
        autocommit: as many drivers have it; a pool puts that of a FakeConnection back.
        busy: set it, and the connection has an answer that nobody has read, as that of a
            half-read cursor: a pool closes such a one when it returns.
        closed: whether it is closed.
    """

    def __init__(self, database: Database | None = None) -> None:
        self.number: int = 0
        self.calls: list[Call] = []
        self.in_transaction: bool = False
        self.autocommit: bool = False
        self.busy: bool = False
        self.closed: bool = False
        self._lost = False
        self._script = Script(None if database is None else database._script)
        if database is not None:
            database._adopt(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number}>"

    @property
    def unread_result(self) -> bool:
        """The same as `busy`, under the name by which pools know it."""
        return self.busy

    @property
    def statements(self) -> list[str]:
        """The statements that were executed, in order."""
        return [call.statement for call in self.calls if call.operation == "execute"]

    def count(self, operation: Operation) -> int:
        """Return how often something was done to this connection."""
        return sum(call.operation == operation for call in self.calls)

    def answer(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Have a statement, to the letter, give these rows. Others give none."""
        self._script.answer(statement, rows)

    def fail(self, operation: Operation, error: BaseException, times: int = 1) -> None:
        """Have an operation raise an error, the next so many times it is tried."""
        self._script.fail(operation, error, times)

    def lose(self) -> None:
        """Have the server end this connection: whatever is tried raises
        FakeLostConnection, which pools take for what it is."""
        self._lost = True

    def terminate(self) -> None:
        """Close at once; pools do so where they can't wait."""
        self.calls.append(Call("close"))
        self.closed = True

    def _do(self, operation: Operation, statement: str = "", parameters: Any = ()) -> None:
        if operation != "close" and self.closed:
            raise FakeError(f"{operation} on {self!r}, which is closed")
        self.calls.append(Call(operation, statement, parameters))
        if self._lost and operation != "close":
            raise FakeLostConnection(f"{operation} on {self!r}: the server is gone")
        self._script.check(operation)

    def _execute(self, statement: str, parameters: Any) -> list[Sequence[Any]] | None:
        self._do("execute", statement, parameters)
        if not self.autocommit:
            self.in_transaction = True
        return self._script.rows_of(statement)

    def _end(self, operation: Operation) -> None:
        self._do(operation)
        self.in_transaction = False

    def _close(self) -> None:
        self.in_transaction = False
        self.closed = True
        self._do("close")
