"""Servers that stop, start, end sessions and become read-only, under callers at work.

What is promised: with ``on_disconnect="pool"`` that costs each caller one error at most.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import anyio.to_thread
import pytest

from .conftest import DRIVERS, Live
from .mariadbd import private_server
from .postgresd import PostgresDaemon, private_postgres
from .proxy import Proxy
from .servers import MariaDB, Postgres, Server

CALLERS = 8


@pytest.fixture(scope="module")
def daemon() -> Iterator[PostgresDaemon]:
    try:
        with private_postgres() as daemon:
            yield daemon
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def own_mariadb() -> Iterator[MariaDB]:
    try:
        with private_server() as server:
            # Whoever may do everything may write to a read-only server as well.
            server.ask("CREATE USER writer")
            server.ask("GRANT ALL ON test.* TO writer")
            yield server
    except FileNotFoundError as error:
        pytest.skip(str(error))


def _live(request: pytest.FixtureRequest, server: Server) -> Iterator[Live]:
    driver, _, kind = request.param.partition("-")
    proxy = Proxy(server.host, server.port)
    server.ask(f"DELETE FROM {server.table}")
    yield Live(driver, kind == "blocking", server, proxy)
    proxy.close()
    gc.collect()


def _drivers(server: str) -> list[str]:
    names = [driver for driver, kind in DRIVERS.items() if kind == server]
    return [f"{driver}-{kind}" for driver in names for kind in ("async", "blocking")]


@pytest.fixture
def mode(request: pytest.FixtureRequest) -> Iterator[Live]:
    """A driver in a kind of pool, on a private server."""
    if DRIVERS[request.param.partition("-")[0]] == "postgres":
        yield from _live(request, request.getfixturevalue("daemon").server)
    else:
        yield from _live(request, request.getfixturevalue("own_mariadb"))


ON_POSTGRES = pytest.mark.parametrize("mode", _drivers("postgres"), indirect=True)
ON_MARIADB = pytest.mark.parametrize("mode", _drivers("mariadb"), indirect=True)


class Callers:
    """Eight of them, each writing numbers of its own, one transaction after the other.

    Attributes:
        errors: how many each has seen.
        accepted: the number that each has written last.
    """

    def __init__(self, mode: Live, pool: Any) -> None:
        self.mode = mode
        self.pool = pool
        self.errors = [0] * CALLERS
        self.accepted = [0] * CALLERS
        self.said: list[str] = []
        self._over = False

    async def work(self, me: int) -> None:
        number = 0
        while not self._over:
            number += 1
            await self._write(me, me * 1_000_000 + number, number)

    async def _write(self, me: int, value: int, number: int) -> None:
        mode, pool = self.mode, self.pool
        try:
            async with mode.block(pool.connect()) as connection:
                table = mode.server.table
                await mode.execute(
                    pool, connection, f"INSERT INTO {table} VALUES ({value})"
                )
                if mode.driver != "asyncpg":
                    await mode.go(pool.call(connection.commit))
        except Exception as error:
            self.errors[me] += 1
            self.said.append(f"{me}: {type(error).__name__}: {error}")
        else:
            self.accepted[me] = number

    async def through(self, upset: Callable[[], None]) -> None:
        """Let them work while something happens, and go on for a while after that."""
        async with self.mode.group() as start:
            for me in range(CALLERS):
                start(self.work, me)
            try:
                await self._progress()
                await self._aside(upset)
                await self._progress()
            finally:
                self._over = True
        assert max(self.errors) <= 1, "\n".join(self.said)
        # Connects that an opened pool makes in the background count as well.
        await self.mode.until(lambda: self.pool.checkedout() == 0)
        # From now on, nobody sees anything of it.
        for me in range(CALLERS):
            await self._write(me, me * 1_000_000 + 999_999, 0)
        assert max(self.errors) <= 1, "\n".join(self.said)

    async def _progress(self) -> None:
        """Wait until each caller has written three more."""
        before = list(self.accepted)
        await self.mode.until(
            lambda: (
                all(
                    now >= then + 3 for now, then in zip(self.accepted, before, strict=True)
                )
                or max(self.errors) > 1
            )
        )

    async def _aside(self, function: Callable[[], None]) -> None:
        """Call a function of the administrator's, while the callers go on."""
        if self.mode.blocking:
            function()
        else:
            await anyio.to_thread.run_sync(function)


def _pool(mode: Live, size: int, **options: Any) -> Any:
    login = "writer" if mode.server.dialect == "mysql" else ""
    return mode.pool(
        login=login, pool_size=size, max_overflow=0, on_disconnect="pool", **options
    )


SIZES = pytest.mark.parametrize("size", [3, CALLERS])


@ON_POSTGRES
@SIZES
async def test_all_sessions_are_ended(mode: Live, size: int) -> None:
    server = mode.server
    await Callers(mode, _pool(mode, size)).through(
        lambda: server.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    )


@ON_POSTGRES
async def test_restart(mode: Live, daemon: PostgresDaemon) -> None:
    """Whoever comes while the server is away waits for the next connect of an open pool."""

    def restart() -> None:
        mode.proxy.refuse()
        daemon.stop()
        daemon.start()
        mode.server = daemon.server
        mode.proxy.resume()

    pool = _pool(mode, CALLERS)
    await mode.go(pool.open())
    await Callers(mode, pool).through(restart)
    await mode.go(pool.close())
    mode.made.remove(pool)


@ON_POSTGRES
@SIZES
async def test_old_primary_that_is_read_only(
    mode: Live, size: int, postgres: Postgres
) -> None:
    """SQLSTATE 25006. Its name leads to another server by now, the connections don't."""
    old = mode.server
    postgres.ask(f"DROP TABLE IF EXISTS {old.table}")
    postgres.ask(f"CREATE TABLE {old.table} (id integer)")
    try:
        old.ask("ALTER SYSTEM SET default_transaction_read_only = on")
        old.ask("SELECT pg_reload_conf()")
        old.until("SHOW default_transaction_read_only", "on")
        pool = _pool(mode, size)
        leases = [await mode.go(pool.unique_connection()) for _ in range(size)]
        for lease in leases:
            await mode.go(lease.close())
        mode.proxy.lead_to(postgres.host, postgres.port)
        callers = Callers(mode, pool)
        await callers.through(lambda: None)
        assert sum(callers.errors) >= 1
    finally:
        old.ask("SET default_transaction_read_only = off")
        old.ask("ALTER SYSTEM RESET default_transaction_read_only")
        old.ask("SELECT pg_reload_conf()")
        old.ask("RESET default_transaction_read_only")
        old.until("SHOW default_transaction_read_only", "off")


@ON_MARIADB
@SIZES
async def test_mariadbs_sessions_are_ended(mode: Live, size: int) -> None:
    await Callers(mode, _pool(mode, size)).through(
        lambda: mode.server.ask("KILL USER writer")
    )


@ON_MARIADB
@SIZES
async def test_mariadb_that_becomes_read_only(
    mode: Live, size: int, mariadb: MariaDB
) -> None:
    """Error 1290."""
    old = mode.server
    mariadb.ask(f"DROP TABLE IF EXISTS {old.table}")
    mariadb.ask(f"CREATE TABLE {old.table} (id integer)")
    mariadb.ask("CREATE USER IF NOT EXISTS writer")
    mariadb.ask("GRANT ALL ON test.* TO writer")

    def demote() -> None:
        mode.proxy.lead_to(mariadb.host, mariadb.port)
        old.ask("SET GLOBAL read_only = 1")

    try:
        await Callers(mode, _pool(mode, size)).through(demote)
    finally:
        old.ask("SET GLOBAL read_only = 0")
        mariadb.ask("DROP USER writer")


@ON_MARIADB
async def test_mariadbs_wait_timeout(mode: Live) -> None:
    """The server ends what idles; one error tells of all."""
    old = mode.server.ask("SELECT @@global.wait_timeout")
    mode.server.ask("SET GLOBAL wait_timeout = 1")
    try:
        pool = _pool(mode, CALLERS)
        leases = [await mode.go(pool.unique_connection()) for _ in range(CALLERS)]
        for lease in leases:
            await mode.go(lease.close())
        mode.server.until(
            "SELECT count(*) FROM information_schema.processlist WHERE user = 'writer'", 0
        )
        callers = Callers(mode, pool)
        for me in range(CALLERS):
            await callers._write(me, me, 1)
        assert sum(callers.errors) <= 1
    finally:
        mode.server.ask(f"SET GLOBAL wait_timeout = {old}")
