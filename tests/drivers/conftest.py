"""Live modes: every driver, under both kinds of pools, on a real server.

The servers are those of ANYPOOL_POSTGRES and ANYPOOL_MARIADB. Without a server its tests
are skipped; they fail if ANYPOOL_REQUIRE_SERVERS is set.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import anypool
from anypool import sync
from anypool._core.url import DatabaseURL

from ..support.modes import Mode
from .absent import reason
from .proxy import Proxy
from .servers import MariaDB, Postgres, Server

POSTGRES = os.environ.get("ANYPOOL_POSTGRES", "postgresql://postgres@127.0.0.1/postgres")
MARIADB = os.environ.get("ANYPOOL_MARIADB", "mysql://root@127.0.0.1/test")

DRIVERS = {
    "psycopg": "postgres",
    "psycopg2": "postgres",
    "asyncpg": "postgres",
    "pymysql": "mariadb",
    "aiomysql": "mariadb",
    "asyncmy": "mariadb",
}


class Live(Mode):
    """A driver, in async pools or in blocking ones.

    Attributes:
        server: the server.
        proxy: stands before it, for the pools of this mode.
    """

    def __init__(self, driver: str, blocking: bool, server: Server, proxy: Proxy) -> None:
        self.driver = driver
        self.name = "blocking" if blocking else "asyncio"
        self.blocking = blocking
        self.pools: Any = sync if blocking else anypool
        self.server = server
        self.proxy = proxy
        self.made: list[Any] = []
        # Whether the driver's own methods have to be awaited.
        self.coroutines = driver in ("asyncpg", "aiomysql", "asyncmy") or (
            driver == "psycopg" and not blocking
        )

    def pool(self, query: str = "", /, login: str = "", **options: Any) -> Any:
        """Make a pool of connections that go through the proxy."""
        dsn = self.server.dsn(self.driver, self.proxy.port, query, login)
        pool = self.pools.create_pool(dsn, **options)
        self.made.append(pool)
        return pool

    def autocommit(self, on: bool) -> tuple[str]:
        """Return a URL's arguments that turn autocommit on, or off as is the default."""
        if not on or self.driver == "asyncpg":  # which knows nothing else
            return ("",)
        return ("?autocommit=true",)

    async def execute(self, pool: Any, connection: Any, statement: str) -> Any:
        """Execute a statement; return the first column of the first row, if any."""
        if self.driver == "asyncpg":
            function: Any = _fetch_value
        else:
            function = _execute_async if self.coroutines else _execute
        return await self.go(pool.call(function, connection, statement))

    async def begin(self, pool: Any, connection: Any) -> None:
        """Open a transaction, with one row in it."""
        if self.driver == "asyncpg":
            await self.execute(pool, connection, "BEGIN")
        await self.execute(
            pool, connection, f"INSERT INTO {self.server.table} VALUES (4711)"
        )

    async def session(self, pool: Any, connection: Any) -> Any:
        """Return what identifies the connection on the server."""
        assert isinstance(self.server, (Postgres, MariaDB))
        return await self.execute(pool, connection, self.server.my_session)

    def run(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def work() -> None:
            try:
                await function()
            finally:
                self.proxy.resume()
                for pool in self.made:
                    await self.go(pool.dispose())

        super().run(work)
        self.made.clear()


async def _fetch_value(connection: Any, statement: str) -> Any:
    return await connection.fetchval(statement)


async def _execute_async(connection: Any, statement: str) -> Any:
    async with connection.cursor() as cursor:
        await cursor.execute(statement)
        row = await cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def _execute(connection: Any, statement: str) -> Any:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None
    finally:
        cursor.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of drivers that can't be had here."""
    for driver in ("duckdb", "psycopg2"):
        why = reason(driver)
        if why is not None:
            for item in items:
                if driver in item.nodeid.lower() and "/drivers/" in item.nodeid:
                    item.add_marker(pytest.mark.skip(reason=why))


def _server(kind: type[Server], url: str) -> Iterator[Server]:
    try:
        server = kind(url)
    except Exception as error:
        reason = f"no {kind.__name__} at {DatabaseURL(url)}: {type(error).__name__}"
        if os.environ.get("ANYPOOL_REQUIRE_SERVERS"):
            pytest.fail(reason)
        pytest.skip(reason)
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The PostgreSQL server."""
    yield from _server(Postgres, POSTGRES)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """The MariaDB server."""
    yield from _server(MariaDB, MARIADB)


@pytest.fixture(
    params=[f"{driver}-{kind}" for driver in DRIVERS for kind in ("async", "blocking")]
)
def mode(request: pytest.FixtureRequest) -> Iterator[Live]:
    """Each driver, in each kind of pool."""
    driver, _, kind = request.param.partition("-")
    server: Server = request.getfixturevalue(DRIVERS[driver])
    proxy = Proxy(server.host, server.port)
    server.ask(f"DELETE FROM {server.table}")
    yield Live(driver, kind == "blocking", server, proxy)
    proxy.close()
    gc.collect()
