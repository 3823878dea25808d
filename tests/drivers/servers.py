"""The servers that live tests run against, seen from the side of their administrator."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg
import pymysql

from anypool._core.url import DatabaseURL

T = TypeVar("T")

PASSWORD = "sesame/:@%?"
"""Of all accounts that tests make; special characters need percent signs in a URL."""

PATIENCE = 10.0
"""Seconds after which a test gives up waiting for what should have happened."""


def wait_for(condition: Callable[[], T | None]) -> T:
    """Wait until a condition holds; return what it says."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.005)
    return answer


class Server:
    """A database server, and a table of this test run in it.

    Attributes:
        url: where it is, and as whom to log in.
        table: the name of a table with one column of integers, called id.
        sleep: a statement that takes 30 seconds.
    """

    dialect: str
    port: int
    sleep: str
    session: tuple[tuple[str, str], ...]
    """Statements that change the session's state, each with a question that shows it: a
    query whose answer differs from a new session's."""

    def __init__(self, url: str) -> None:
        self.url = DatabaseURL(url)
        self.host = self.url.host or "127.0.0.1"
        self.port = self.url.port or self.port
        self.table = f"anypool_{os.getpid()}"
        self.admin = self.connect()
        self.ask(f"DROP TABLE IF EXISTS {self.table}")
        self.ask(f"CREATE TABLE {self.table} (id integer PRIMARY KEY)")

    def connect(self) -> Any:
        raise NotImplementedError

    def ask(self, statement: str) -> Any:
        """Execute a statement; return the first column of the first row, if any."""
        with closing(self.admin.cursor()) as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def until(self, statement: str, answer: object) -> None:
        """Wait until a question has that answer."""
        wait_for(lambda: self.ask(statement) == answer)

    def dsn(self, driver: str, port: int, query: str = "", login: str = "") -> str:
        """Return a URL for create_pool().

        Args:
            driver: its name there.
            port: of the server, or of what stands before it.
            query: arguments, with the question mark.
            login: user and password, with a colon; the tests' own if there is none.
        """
        if not login:
            login = quote(self.url.user or "")
            if self.url.password:
                login += f":{quote(self.url.password, safe='')}"
        database = self.url.database
        return f"{self.dialect}+{driver}://{login}@{self.host}:{port}/{database}{query}"

    @contextmanager
    def account(self, limit: int) -> Iterator[str]:
        """Make an account that can have but a few connections; give its name."""
        name = f"{self.table}_few"
        self.make_account(name, limit)
        try:
            yield name
        finally:
            self.ask(f"DROP USER {name}")

    def make_account(self, name: str, limit: int) -> None:
        raise NotImplementedError

    def sessions_of(self, name: str) -> str:
        """Return a question how many sessions an account has."""
        raise NotImplementedError

    def kill(self, session: int) -> None:
        """End a session, and wait until it has ended."""
        raise NotImplementedError

    def is_asleep(self, session: int) -> str:
        """Return a question whether a session executes the sleep statement."""
        raise NotImplementedError

    def close(self) -> None:
        self.ask(f"DROP TABLE IF EXISTS {self.table}")
        self.admin.close()


class Postgres(Server):
    dialect = "postgresql"
    port = 5432
    sleep = "SELECT pg_sleep(30)"
    my_session = "SELECT pg_backend_pid()"
    session = (
        ("SET work_mem = '7MB'", "SHOW work_mem"),
        ("SET ROLE pg_monitor", "SELECT current_user"),
        (
            "CREATE TEMPORARY TABLE leftover (id integer)",
            "SELECT count(*) FROM pg_class WHERE relname = 'leftover'"
            " AND relnamespace = pg_my_temp_schema()",
        ),
        (
            "SELECT pg_advisory_lock(4711)",
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            " AND objid = 4711 AND pid = pg_backend_pid()",
        ),
        ("LISTEN leftover", "SELECT count(*) FROM pg_listening_channels()"),
        (
            "PREPARE leftover AS SELECT 1",
            "SELECT count(*) FROM pg_prepared_statements WHERE name = 'leftover'",
        ),
    )

    def connect(self) -> Any:
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.url.user,
            password=self.url.password,
            dbname=self.url.database,
            autocommit=True,
            connect_timeout=5,
        )

    def make_account(self, name: str, limit: int) -> None:
        self.ask(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT {limit}")

    def sessions_of(self, name: str) -> str:
        return f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{name}'"

    def kill(self, session: int) -> None:
        self.ask(f"SELECT pg_terminate_backend({session})")
        self.until(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {session}", 0)

    def is_asleep(self, session: int) -> str:
        return (
            f"SELECT count(*) FROM pg_stat_activity WHERE pid = {session}"
            " AND state = 'active' AND wait_event = 'PgSleep'"
        )


class MariaDB(Server):
    dialect = "mysql"
    port = 3306
    # Under a name of its own, so that an index can't make it disappear.
    sleep = "SELECT SLEEP(30)"
    my_session = "SELECT CONNECTION_ID()"
    session = (
        ("SET SESSION wait_timeout = 4711", "SELECT @@wait_timeout"),
        ("SET @leftover = 1", "SELECT @leftover"),
        ("SET NAMES latin1", "SELECT @@character_set_client"),
        ("SELECT GET_LOCK('leftover', 1)", "SELECT IS_USED_LOCK('leftover')"),
        ("USE information_schema", "SELECT DATABASE()"),
    )

    def connect(self) -> Any:
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.url.user,
            password=self.url.password or "",
            database=self.url.database or None,
            autocommit=True,
            connect_timeout=5,
        )

    def make_account(self, name: str, limit: int) -> None:
        options = f"IDENTIFIED BY '{PASSWORD}' WITH MAX_USER_CONNECTIONS {limit}"
        self.ask(f"CREATE USER {name} {options}")
        self.ask(f"GRANT ALL ON {self.url.database}.* TO {name}")

    def sessions_of(self, name: str) -> str:
        return f"SELECT count(*) FROM information_schema.processlist WHERE user = '{name}'"

    def kill(self, session: int) -> None:
        self.ask(f"KILL {session}")
        self.until(
            f"SELECT count(*) FROM information_schema.processlist WHERE id = {session}", 0
        )

    def is_asleep(self, session: int) -> str:
        return (
            f"SELECT count(*) FROM information_schema.processlist WHERE id = {session}"
            " AND state = 'User sleep'"
        )
