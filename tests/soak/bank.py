"""Bank: accounts in a database, whose sum shows whether a transaction was ever torn."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite

ACCOUNTS = 20
MONEY = 1000 * ACCOUNTS
NAME = f"soak_{os.getpid()}"
SUM = f"SELECT sum(money) FROM {NAME}"


class Bank:
    """An SQLite file.

    Attributes:
        take, put: the statements that move money; the first also begins a transaction.
    """

    take = f"UPDATE {NAME} SET money = money - 1 WHERE id = {{}}"
    put = f"UPDATE {NAME} SET money = money + 1 WHERE id = {{}}"

    def __init__(self, path: Path) -> None:
        self._path = str(path)
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
        """Tell whether no transaction is open."""
        return not connection.in_transaction

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
        return bool(connection.info.transaction_status == 0)

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
