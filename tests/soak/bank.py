"""Bank: accounts in a database, whose sum shows whether a transaction was ever torn."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import aiosqlite
import anyio

ACCOUNTS = 20
MONEY = 1000 * ACCOUNTS
NAME = f"soak_{os.getpid()}"
SUM = f"SELECT sum(money) FROM {NAME}"
ROWS = f"SELECT id FROM {NAME}"
SLEEP = "SELECT pg_sleep(20)"


class Bank:
    """An SQLite file.

    Attributes:
        kept: what callers still refer to when they have returned their connections.
        take, put: the statements that move money; the first also begins a transaction.
    """

    take = f"UPDATE {NAME} SET money = money - 1 WHERE id = {{}}"
    put = f"UPDATE {NAME} SET money = money + 1 WHERE id = {{}}"

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self.kept: list[Any] = []
        with closing(self.connect()) as connection:
            connection.execute("PRAGMA journal_mode = wal")
            connection.execute(f"CREATE TABLE {NAME} (id integer, money integer)")
            connection.executemany(
                f"INSERT INTO {NAME} VALUES (?, 1000)",
                [(number,) for number in range(ACCOUNTS)],
            )
            connection.commit()

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=0.2, check_same_thread=False)
        connection.execute("PRAGMA synchronous = off")
        return connection

    async def connect_async(self) -> aiosqlite.Connection:
        connection = await aiosqlite.connect(self._path, timeout=0.2)
        await connection.execute("PRAGMA synchronous = off")
        return connection

    def is_clean(self, connection: Any) -> bool:
        """Tell whether no transaction is open, and all is as it was at first."""
        return not connection.in_transaction and connection.isolation_level == ""

    def leave(self, connection: Any, number: int) -> None:
        """Change something, or begin something and don't end it."""
        if number == 0:
            connection.isolation_level = None
        else:
            rows = connection.execute(ROWS)
            self.kept.append(rows)
            rows.fetchone()

    async def leave_async(self, connection: Any, number: int, tasks: Any) -> None:
        """The same in an event loop."""
        if number == 0:
            connection.isolation_level = None
        else:
            rows = await connection.execute(ROWS)
            self.kept.append(rows)
            await rows.fetchone()

    def let_go(self) -> None:
        """Refer to nothing any more."""
        self.kept.clear()

    async def let_go_async(self) -> None:
        self.kept.clear()

    def total(self) -> int:
        with closing(self.connect()) as connection:
            (total,) = connection.execute(SUM).fetchone()
            return int(total)


class PostgresBank:
    """A table of a PostgreSQL server, behind a proxy."""

    take, put = Bank.take, Bank.put

    def __init__(self, server: Any, proxy: Any) -> None:
        self.server = server
        self.proxy = proxy
        self.kept: list[Any] = []
        server.ask(f"DROP TABLE IF EXISTS {NAME}")
        server.ask(f"CREATE TABLE {NAME} (id integer, money integer)")
        server.ask(
            f"INSERT INTO {NAME} SELECT g, 1000 FROM generate_series(0, {ACCOUNTS - 1}) g"
        )

    @property
    def _where(self) -> dict[str, Any]:
        url = self.server.url
        return {
            "host": "127.0.0.1",
            "port": self.proxy.port,
            "user": url.user,
            "password": url.password,
            "dbname": url.database,
            "connect_timeout": 2,
            "application_name": NAME,
        }

    def connect(self) -> Any:
        import psycopg

        return psycopg.connect(**self._where)

    async def connect_async(self) -> Any:
        import psycopg

        return await psycopg.AsyncConnection.connect(**self._where)

    def is_clean(self, connection: Any) -> bool:
        idle = connection.info.transaction_status == 0
        return bool(idle and not connection.autocommit and not connection.lock.locked())

    def leave(self, connection: Any, number: int) -> None:
        if number == 0:
            connection.autocommit = True
        elif number == 1:
            rows = connection.cursor().stream(ROWS)
            self.kept.append(rows)
            next(rows)
        else:
            thread = threading.Thread(target=_sleep, args=(connection,))
            thread.start()
            self.kept.append(thread)
            while thread.is_alive() and not connection.lock.locked():
                thread.join(0.001)

    async def leave_async(self, connection: Any, number: int, tasks: Any) -> None:
        if number == 0:
            await connection.set_autocommit(True)
        elif number == 1:
            rows = connection.cursor().stream(ROWS)
            self.kept.append(rows)
            await anext(rows)
        else:
            tasks.start_soon(_sleep_async, connection)
            with anyio.CancelScope(shield=True):  # or else it would begin after the return
                await anyio.sleep(0.001)

    def let_go(self) -> None:
        while self.kept:
            kept = self.kept.pop()
            with suppress(Exception):
                kept.join() if isinstance(kept, threading.Thread) else kept.close()

    async def let_go_async(self) -> None:
        while self.kept:
            with suppress(Exception):
                await self.kept.pop().aclose()

    def total(self) -> int:
        return int(self.server.ask(SUM))

    def disturb(self, number: int) -> None:
        """Do what networks and administrators do."""
        if number == 0:
            self.proxy.cut()
        elif number == 1:
            self.proxy.stall()
        elif number == 2:
            self.server.ask(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                f" WHERE application_name = '{NAME}'"
            )

    def close(self) -> None:
        self.proxy.close()
        self.server.ask(f"DROP TABLE {NAME}")
        self.server.close()


def _sleep(connection: Any) -> None:
    with suppress(Exception):
        connection.execute(SLEEP)


async def _sleep_async(connection: Any) -> None:
    with suppress(Exception):
        await connection.execute(SLEEP)
