"""A driver that no pool knows, on top of sqlite3, and what a pool could be told of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from anypool import CannotReset, ConnectionState, ResetMode
from anypool.testing import DriverContract


class ToyError(Exception):
    """The root of its errors, as PEP 249 wants one."""


class GoneError(ToyError, ConnectionError):
    """Its server has ended the connection."""


class Toy:
    """A connection.

    Attributes:
        closed: whether it is closed.
        dead: whether its server has ended it.
        autocommit: noted, and no more than that.
        unread_result: whether there are rows that nobody has read.
    """

    def __init__(self, path: Path) -> None:
        self.closed = self.dead = self.autocommit = self.unread_result = False
        self.inner = sqlite3.connect(path, check_same_thread=False)

    def cursor(self) -> sqlite3.Cursor:
        self._check()
        return self.inner.cursor()

    def commit(self) -> None:
        self._check()
        self.inner.commit()

    def rollback(self) -> None:
        self._check()
        self.inner.rollback()

    def close(self) -> None:
        self.closed = True
        self.inner.close()

    def _check(self) -> None:
        if self.closed:
            raise ToyError("closed")
        if self.dead:
            raise GoneError("gone")


class ToyDriver:
    """Tells all there is to tell."""

    blocking = True

    def baseline(self, connection: Toy, /) -> bool:
        return connection.autocommit

    def holds_data(self, connection: Toy, /) -> bool:
        return False

    def state(self, connection: Toy, baseline: Any, /) -> ConnectionState:
        if connection.closed:
            return ConnectionState.CLOSED
        if connection.unread_result:
            return ConnectionState.BUSY
        if connection.autocommit is not baseline:
            return ConnectionState.CHANGED
        open_ = connection.inner.in_transaction
        return ConnectionState.OPEN if open_ else ConnectionState.CLEAN

    def reset(self, connection: Toy, mode: ResetMode, /) -> Any:
        if mode == "full":
            raise CannotReset
        getattr(connection, mode)()

    def restore(self, connection: Toy, baseline: Any, /) -> Any:
        connection.autocommit = baseline

    def interrupt(self, connection: Toy, /) -> Any:
        raise CannotReset

    def ping(self, connection: Toy, /) -> Any:
        connection.cursor().execute("SELECT 1").close()

    def close(self, connection: Toy, /) -> Any:
        connection.close()

    def terminate(self, connection: Toy, /) -> bool:
        connection.close()
        return True

    def is_open(self, connection: Toy, /) -> bool:
        return not connection.closed

    def is_disconnect(self, error: BaseException, connection: Toy, /) -> bool:
        return isinstance(error, GoneError)


class ToyContract(DriverContract[Toy]):
    """The hooks for it; `path` is a file of the test's."""

    path: Path

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.make_file(tmp_path)

    def make_file(self, directory: Path) -> None:
        self.path = directory / "toy.db"
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA synchronous=off")
            connection.execute("PRAGMA journal_mode=wal")
            connection.execute("CREATE TABLE t (id integer)")

    def connect(self) -> Toy:
        return Toy(self.path)

    def use(self, connection: Toy, /) -> None:
        connection.cursor().execute("SELECT 1").close()

    def make_open(self, connection: Toy, mark: int, /) -> None:
        connection.cursor().execute("INSERT INTO t VALUES (?)", (mark,))

    def is_there(self, connection: Toy, mark: int, /) -> bool:
        question = "SELECT id FROM t WHERE id = ?"
        return bool(connection.cursor().execute(question, (mark,)).fetchall())

    def make_changed(self, connection: Toy, /) -> None:
        connection.autocommit = True

    def is_changed(self, connection: Toy, /) -> bool:
        return connection.autocommit

    def make_busy(self, connection: Toy, /) -> None:
        connection.unread_result = True

    def make_dead(self, connection: Toy, /) -> None:
        connection.dead = True
