"""The named drivers, and one that nobody knows, through the contract kit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Iterator
from contextlib import closing, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import aiosqlite
import asyncpg
import psycopg
import pymysql
import pytest

from anypool.testing import DriverContract

from .absent import module_of
from .servers import Server
from .toy import ToyContract, ToyDriver

if TYPE_CHECKING:
    import duckdb
    import psycopg2
else:
    duckdb = module_of("duckdb")
    psycopg2 = module_of("psycopg2")


class _SQLite:
    """What both drivers of SQLite have in common: a database in a file."""

    path: Path

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "app.db"
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA synchronous=off")
            connection.execute("PRAGMA journal_mode=wal")
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
        connection.isolation_level = "EXCLUSIVE"  # None would commit, in another thread

    def is_changed(self, connection: aiosqlite.Connection, /) -> bool:
        return connection.isolation_level == "EXCLUSIVE"

    async def make_session(self, connection: aiosqlite.Connection, /) -> None:
        await connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS mine (id integer)")
        await connection.commit()

    async def is_session(self, connection: aiosqlite.Connection, /) -> bool:
        question = "SELECT * FROM sqlite_temp_master"
        return bool(list(await connection.execute_fetchall(question)))


class _Live:
    """What drivers of servers have in common; `server` is that of the tests."""

    server: Server

    @property
    def address(self) -> dict[str, Any]:
        url = self.server.url
        address = {"host": self.server.host, "port": self.server.port, "user": url.user}
        return address | {"password": url.password or ""}

    def insert(self, mark: int) -> str:
        return f"INSERT INTO {self.server.table} VALUES ({mark})"

    def find(self, mark: int) -> str:
        return f"SELECT count(*) FROM {self.server.table} WHERE id = {mark}"


class _Postgres(_Live):
    @pytest.fixture(autouse=True)
    def _server(self, postgres: Server) -> None:
        self.server = postgres

    @property
    def address(self) -> dict[str, Any]:
        return super().address | {"dbname": self.server.url.database}


class _MariaDB(_Live):
    @pytest.fixture(autouse=True)
    def _server(self, mariadb: Server) -> None:
        self.server = mariadb

    @property
    def address(self) -> dict[str, Any]:
        return super().address | {"db": self.server.url.database}

    begin_xa = "XA START 'contract'"


class _DBAPI(_Live, DriverContract[Any]):
    """Blocking drivers, as PEP 249 has them."""

    def ask(self, connection: Any, *statements: str) -> Any:
        """Execute statements; return the first column of the last one's first row."""
        with closing(connection.cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def use(self, connection: Any, /) -> None:
        assert self.ask(connection, "SELECT 42") == 42

    def make_open(self, connection: Any, mark: int, /) -> None:
        self.ask(connection, self.insert(mark))

    def is_there(self, connection: Any, mark: int, /) -> bool:
        return bool(self.ask(connection, self.find(mark)))


class _Coroutines(_Live, DriverContract[Any]):
    """The same with coroutines."""

    async def ask(self, connection: Any, *statements: str) -> Any:
        async with connection.cursor() as cursor:
            for statement in statements:
                await cursor.execute(statement)
            row = await cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    async def use(self, connection: Any, /) -> None:
        assert await self.ask(connection, "SELECT 42") == 42

    async def make_open(self, connection: Any, mark: int, /) -> None:
        await self.ask(connection, self.insert(mark))

    async def is_there(self, connection: Any, mark: int, /) -> bool:
        return bool(await self.ask(connection, self.find(mark)))


class TestPsycopg(_Postgres, _DBAPI):
    backends = ("asyncio", "trio")

    def connect(self) -> Any:
        return psycopg.connect(**self.address)

    def make_changed(self, connection: Any, /) -> None:
        connection.autocommit = True

    def is_changed(self, connection: Any, /) -> bool:
        return bool(connection.autocommit)

    def make_busy(self, connection: Any, /) -> Any:
        pipeline = connection.pipeline()
        pipeline.__enter__()
        return pipeline

    def make_two_phase(self, connection: Any, /) -> None:
        connection.tpc_begin("contract")

    def make_session(self, connection: Any, /) -> None:
        self.ask(connection, "SET work_mem = '7MB'", "COMMIT")

    def is_session(self, connection: Any, /) -> bool:
        return bool(self.ask(connection, "SHOW work_mem") == "7MB")

    def make_dead(self, connection: Any, /) -> None:
        self.server.kill(connection.info.backend_pid)


class TestAsyncPsycopg(_Postgres, _Coroutines):
    async def connect(self) -> Any:
        return await psycopg.AsyncConnection.connect(**self.address)

    async def make_changed(self, connection: Any, /) -> None:
        await connection.set_autocommit(True)

    def is_changed(self, connection: Any, /) -> bool:
        return bool(connection.autocommit)

    async def make_busy(self, connection: Any, /) -> Any:
        pipeline = connection.pipeline()
        await pipeline.__aenter__()
        return pipeline

    async def make_two_phase(self, connection: Any, /) -> None:
        await connection.tpc_begin("contract")

    async def make_session(self, connection: Any, /) -> None:
        await self.ask(connection, "SET work_mem = '7MB'", "COMMIT")

    async def is_session(self, connection: Any, /) -> bool:
        return bool(await self.ask(connection, "SHOW work_mem") == "7MB")

    def make_dead(self, connection: Any, /) -> None:
        self.server.kill(connection.info.backend_pid)


class TestPsycopg2(_Postgres, _DBAPI):
    over = False

    def connect(self) -> Any:
        return psycopg2.connect(**self.address)

    def make_changed(self, connection: Any, /) -> None:
        connection.autocommit = True

    def is_changed(self, connection: Any, /) -> bool:
        return bool(connection.autocommit)

    def make_session(self, connection: Any, /) -> None:
        self.ask(connection, "SET work_mem = '7MB'")
        connection.commit()

    def is_session(self, connection: Any, /) -> bool:
        return bool(self.ask(connection, "SHOW work_mem") == "7MB")

    def make_dead(self, connection: Any, /) -> None:
        self.server.kill(connection.info.backend_pid)


class TestAsyncpg(_Postgres, _Coroutines):
    async def connect(self) -> Any:
        address = self.address
        return await asyncpg.connect(database=address.pop("dbname"), **address)

    async def ask(self, connection: Any, *statements: str) -> Any:
        for statement in statements:
            value = await connection.fetchval(statement)
        return value

    async def make_open(self, connection: Any, mark: int, /) -> None:
        await self.ask(connection, "BEGIN", self.insert(mark))

    async def make_busy(self, connection: Any, /) -> Any:
        async def sleep() -> None:
            with suppress(Exception):
                await connection.execute(self.server.sleep)

        task = asyncio.create_task(sleep())
        await asyncio.sleep(0)  # it has sent the statement
        return task

    async def make_session(self, connection: Any, /) -> None:
        await self.ask(connection, "SET work_mem = '7MB'")

    async def is_session(self, connection: Any, /) -> bool:
        return bool(await self.ask(connection, "SHOW work_mem") == "7MB")

    def make_dead(self, connection: Any, /) -> None:
        self.server.kill(connection.get_server_pid())


class TestPyMySQL(_MariaDB, _DBAPI):
    over = False

    def connect(self) -> Any:
        address = self.address
        return pymysql.connect(database=address.pop("db"), **address)

    def make_changed(self, connection: Any, /) -> None:
        connection.autocommit(True)

    def is_changed(self, connection: Any, /) -> bool:
        return bool(self.ask(connection, "SELECT @@autocommit"))

    def make_busy(self, connection: Any, /) -> Any:
        cursor = connection.cursor(pymysql.cursors.SSCursor)
        cursor.execute("SELECT seq FROM seq_1_to_10")
        return cursor

    def make_two_phase(self, connection: Any, /) -> None:
        self.ask(connection, self.begin_xa)

    def make_session(self, connection: Any, /) -> None:
        self.ask(connection, "SET @leftover = 1")

    def is_session(self, connection: Any, /) -> bool:
        return bool(self.ask(connection, "SELECT @leftover"))

    def make_dead(self, connection: Any, /) -> None:
        self.server.kill(connection.thread_id())


class _AsyncMySQL(_MariaDB, _Coroutines):
    over = False
    package: ClassVar[str]

    async def connect(self) -> Any:
        return await import_module(self.package).connect(**self.address)

    async def make_changed(self, connection: Any, /) -> None:
        await connection.autocommit(True)

    async def is_changed(self, connection: Any, /) -> bool:
        return bool(await self.ask(connection, "SELECT @@autocommit"))

    async def make_busy(self, connection: Any, /) -> Any:
        cursor = connection.cursor(import_module(f"{self.package}.cursors").SSCursor)
        cursor = await cursor if hasattr(cursor, "__await__") else cursor
        await cursor.execute("SELECT seq FROM seq_1_to_10")
        return cursor

    async def make_two_phase(self, connection: Any, /) -> None:
        await self.ask(connection, self.begin_xa)

    async def make_session(self, connection: Any, /) -> None:
        await self.ask(connection, "SET @leftover = 1")

    async def is_session(self, connection: Any, /) -> bool:
        return bool(await self.ask(connection, "SELECT @leftover"))

    def make_dead(self, connection: Any, /) -> None:
        self.server.kill(connection.thread_id())


class TestAiomysql(_AsyncMySQL):
    package = "aiomysql"


class TestAsyncmy(_AsyncMySQL):
    package = "asyncmy"


@pytest.fixture(scope="module")
def duck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """While this one is open, others of the same database cost little."""
    connection = duckdb.connect(tmp_path_factory.mktemp("duck") / "app.duckdb")
    connection.execute("CREATE TABLE t (id bigint)")
    yield connection
    connection.close()


class TestDuckDB(DriverContract[duckdb.DuckDBPyConnection]):
    tells_open = False

    @pytest.fixture(autouse=True)
    def _file(self, duck: duckdb.DuckDBPyConnection) -> None:
        self.first = duck

    def connect(self) -> duckdb.DuckDBPyConnection:
        return self.first.cursor()

    def use(self, connection: duckdb.DuckDBPyConnection, /) -> None:
        connection.execute("SELECT 1").fetchall()

    def make_open(self, connection: duckdb.DuckDBPyConnection, mark: int, /) -> None:
        connection.begin()
        connection.execute("INSERT INTO t VALUES (?)", [mark])

    def is_there(self, connection: duckdb.DuckDBPyConnection, mark: int, /) -> bool:
        rows = connection.execute("SELECT id FROM t WHERE id = ?", [mark]).fetchall()
        return bool(rows)

    def make_session(self, connection: duckdb.DuckDBPyConnection, /) -> None:
        connection.execute("SET VARIABLE leftover = 1")

    def is_session(self, connection: duckdb.DuckDBPyConnection, /) -> bool:
        row = connection.execute("SELECT getvariable('leftover')").fetchone()
        return row is not None and row[0] is not None


class TestUnknownDriver(ToyContract):
    """Taken for any driver of PEP 249."""

    tells_open = False


class TestOwnDriver(ToyContract):
    """The same connections, and a driver that tells more."""

    driver = ToyDriver()
