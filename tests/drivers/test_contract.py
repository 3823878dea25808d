"""The named drivers, and one that nobody knows, through the contract kit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Iterator
from contextlib import closing, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import aiosqlite
import pytest

from anypool.testing import DriverContract

from .servers import Server


class _SQLite:
    """What both drivers of SQLite have in common: a database in a file."""

    path: Path

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "app.db"
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA journal_mode=wal")
            connection.execute("PRAGMA synchronous=off")
            connection.execute("CREATE TABLE t (id integer)")


class TestSQLite(_SQLite, DriverContract[sqlite3.Connection]):
    backends = ("asyncio", "trio")

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, check_same_thread=False)

    def use(self, connection: sqlite3.Connection, /) -> None:
        connection.execute("SELECT 1").fetchall()

    def make_open(self, connection: sqlite3.Connection, mark: int, /) -> None:
        connection.execute("INSERT INTO t VALUES (?)", (mark,))

    def is_there(self, connection: sqlite3.Connection, mark: int, /) -> bool:
        question = "SELECT count(*) FROM t WHERE id = ?"
        return bool(connection.execute(question, (mark,)).fetchone()[0])

    def make_changed(self, connection: sqlite3.Connection, /) -> None:
        connection.isolation_level = None

    def is_changed(self, connection: sqlite3.Connection, /) -> bool:
        return connection.isolation_level is None

    def make_session(self, connection: sqlite3.Connection, /) -> None:
        connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS mine (id integer)")
        connection.commit()

    def is_session(self, connection: sqlite3.Connection, /) -> bool:
        return bool(connection.execute("SELECT * FROM sqlite_temp_master").fetchall())


class TestAiosqlite(_SQLite, DriverContract[aiosqlite.Connection]):
    def connect(self) -> Awaitable[aiosqlite.Connection]:
        return aiosqlite.connect(self.path)

    async def use(self, connection: aiosqlite.Connection, /) -> None:
        await connection.execute_fetchall("SELECT 1")

    async def make_open(self, connection: aiosqlite.Connection, mark: int, /) -> None:
        await connection.execute("INSERT INTO t VALUES (?)", (mark,))

    async def is_there(self, connection: aiosqlite.Connection, mark: int, /) -> bool:
        question = "SELECT id FROM t WHERE id = ?"
        return bool(list(await connection.execute_fetchall(question, (mark,))))

    def make_changed(self, connection: aiosqlite.Connection, /) -> None:
        connection.isolation_level = None

    def is_changed(self, connection: aiosqlite.Connection, /) -> bool:
        return connection.isolation_level is None

    async def make_session(self, connection: aiosqlite.Connection, /) -> None:
        await connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS mine (id integer)")
        await connection.commit()

    async def is_session(self, connection: aiosqlite.Connection, /) -> bool:
        question = "SELECT * FROM sqlite_temp_master"
        return bool(list(await connection.execute_fetchall(question)))
