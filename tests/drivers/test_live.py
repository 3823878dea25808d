"""What every driver must do, on a real server, in both kinds of pools."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio
import anyio.lowlevel
import asyncpg
import psycopg
import pytest
from psycopg.errors import QueryCanceled

import anypool
from anypool._drivers.asyncpg import AsyncpgDriver

from ..support.opened import inner
from .absent import module_of
from .conftest import DRIVERS, Live
from .proxy import Proxy
from .servers import PATIENCE, MariaDB, Postgres, Server

if TYPE_CHECKING:
    import psycopg2
else:
    psycopg2 = module_of("psycopg2")


class Setting:
    """A connect listener that executes a statement."""

    def __init__(self, statement: str) -> None:
        self._statement = statement

    def connect(self, connection: Any, record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(self._statement)
        cursor.close()
        connection.commit()


class AsyncSetting:
    """The same for async drivers."""

    def __init__(self, statement: str) -> None:
        self._statement = statement

    async def connect(self, connection: Any, record: object) -> None:
        if not hasattr(connection, "cursor") or not hasattr(connection, "commit"):
            await connection.execute(self._statement)  # asyncpg
            return
        async with connection.cursor() as cursor:
            await cursor.execute(self._statement)
        await connection.commit()


async def _works(mode: Live, pool: Any) -> None:
    async with mode.block(pool.connect()) as connection:
        assert await mode.execute(pool, connection, "SELECT 1") == 1


async def test_open_transaction(mode: Live) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0)
    first = None
    async with mode.block(pool.connect()) as connection:
        first = await mode.session(pool, connection)
        await mode.begin(pool, connection)
    assert mode.server.ask(f"SELECT count(*) FROM {mode.server.table}") == 0
    # No lock of it is left, either.
    mode.server.ask(f"INSERT INTO {mode.server.table} VALUES (4711)")
    async with mode.block(pool.connect()) as connection:
        assert await mode.session(pool, connection) == first, "reset, and not replaced"


async def test_commit_on_return(mode: Live) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0, reset_on_return="commit")
    async with mode.block(pool.connect()) as connection:
        await mode.begin(pool, connection)
    assert mode.server.ask(f"SELECT count(*) FROM {mode.server.table}") == 1


async def test_error_in_transaction(mode: Live) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0)
    for swallow in (True, False):
        try:
            async with mode.block(pool.connect()) as connection:
                first = await mode.session(pool, connection)
                await mode.begin(pool, connection)
                try:
                    await mode.begin(pool, connection)  # a duplicate key
                except Exception:
                    if not swallow:
                        raise
        except Exception as error:
            assert not swallow, error
        async with mode.block(pool.connect()) as connection:
            assert await mode.session(pool, connection) == first
            count = f"SELECT count(*) FROM {mode.server.table}"
            assert await mode.execute(pool, connection, count) == 0


async def test_snapshot_of_a_read_is_given_up(mode: Live) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0)
    count = f"SELECT count(*) FROM {mode.server.table}"
    for expected in (0, 1, 2):
        async with mode.block(pool.connect()) as connection:
            assert await mode.execute(pool, connection, count) == expected
        mode.server.ask(f"INSERT INTO {mode.server.table} VALUES ({expected})")


@pytest.mark.parametrize("autocommit", [False, True], ids=["", "autocommit"])
async def test_nothing_is_sent_when_nothing_is_open(mode: Live, autocommit: bool) -> None:
    pool = mode.pool(*mode.autocommit(autocommit), pool_size=1, max_overflow=0)
    change = f"INSERT INTO {mode.server.table} VALUES"
    for statements in (
        (),
        ("BEGIN", "SELECT 1", "COMMIT"),
        ("BEGIN", "ROLLBACK"),
        (f"{change} (1)", "COMMIT"),
        ("SELECT 1", f"{change} (2)", "ROLLBACK"),
        ("BEGIN", f"{change} (3)", "COMMIT"),
        *([("SELECT 1",), (f"{change} (4)",)] if autocommit else []),
    ):
        async with mode.block(pool.connect()) as connection:
            for statement in statements:
                await mode.execute(pool, connection, statement)
            sent = mode.proxy.sent
        if mode.driver == "psycopg2" and statements and not autocommit:
            # It takes the transaction for open still, and needs to be told.
            assert mode.proxy.sent > sent, statements
        else:
            assert mode.proxy.sent == sent, statements
    assert mode.proxy.connects == 1
    if mode.driver != "asyncpg":
        async with mode.block(pool.connect()) as connection:
            await mode.execute(pool, connection, "SELECT 1")
            await mode.go(pool.call(connection.commit))
            sent = mode.proxy.sent
        assert mode.proxy.sent == sent


async def test_something_is_sent_when_something_may_be_open(mode: Live) -> None:
    pool = mode.pool(*mode.autocommit(True), pool_size=1, max_overflow=0)
    table = mode.server.table
    hidden: list[tuple[str, ...]] = [
        ("BEGIN", f"SELECT id FROM {table}"),
        ("BEGIN", f"DELETE FROM {table}"),
    ]
    if isinstance(mode.server, MariaDB):
        # One statement, which begins a transaction and fails. Errors bring no flags.
        begun = f"START TRANSACTION; INSERT INTO {table} VALUES (1); INSERT INTO nowhere"
        hidden += [(f"BEGIN NOT ATOMIC {begun} VALUES (1); END",)]
    for statements in hidden:
        async with mode.block(pool.connect()) as connection:
            with suppress(Exception):
                for statement in statements:
                    await mode.execute(pool, connection, statement)
            sent = mode.proxy.sent
        assert mode.proxy.sent > sent, statements
        # No lock is left, and no row.
        mode.server.ask(f"INSERT INTO {table} VALUES (1)")
        mode.server.ask(f"DELETE FROM {table}")
    assert mode.proxy.connects == 1


async def test_killed_while_idle(mode: Live) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0)
    async with mode.block(pool.connect()) as connection:
        session = await mode.session(pool, connection)
    mode.server.kill(session)
    caught: list[Exception] = []
    try:
        async with mode.block(pool.connect()) as connection:
            try:
                await mode.execute(pool, connection, "SELECT 1")
            except Exception as error:
                driver = inner(pool)._parts.connector.driver
                assert driver.is_disconnect(error, connection)
                caught.append(error)
                raise
    except Exception as error:
        assert caught == [error]
    # The pool may have noticed before it handed the connection out. Now all is well.
    await _works(mode, pool)


async def test_killed_in_mid_query(mode: Live) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0)

    def kill(session: int) -> None:
        mode.server.until(mode.server.is_asleep(session), 1)
        mode.server.kill(session)

    connection = None
    with pytest.raises(Exception) as caught:  # noqa: PT011  # each driver has its own
        async with mode.block(pool.connect()) as connection:
            session = await mode.session(pool, connection)
            killer = threading.Thread(target=kill, args=(session,))
            killer.start()
            try:
                await mode.execute(pool, connection, mode.server.sleep)
            finally:
                killer.join(PATIENCE)
    driver = inner(pool)._parts.connector.driver
    assert driver.is_disconnect(caught.value, connection)
    async with mode.block(pool.connect()) as connection:
        elsewhere = ConnectionResetError("by some other server")
        assert not driver.is_disconnect(elsewhere, connection)
    await _works(mode, pool)


async def test_cancelled_in_mid_query(mode: Live) -> None:
    if mode.blocking:
        pytest.skip("threads can't be cancelled")
    pool = mode.pool(pool_size=1, max_overflow=0)
    sessions: list[int] = []
    start = 0.0

    async def sleep() -> None:
        async with pool.connect() as connection:
            sessions.append(await mode.session(pool, connection))
            await mode.execute(pool, connection, mode.server.sleep)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleep)
        with anyio.fail_after(PATIENCE):
            while not sessions or not mode.server.ask(mode.server.is_asleep(sessions[0])):
                await anyio.sleep(0.005)
        start = time.monotonic()
        tasks.cancel_scope.cancel()
    # In the middle of nothing, the next caller finds a connection that answers.
    async with pool.connect() as connection:
        for number in (1, 2, 3):
            assert await mode.execute(pool, connection, f"SELECT {number}") == number
    assert time.monotonic() - start < 4


@pytest.mark.parametrize("leaves", [False, True], ids=["inside", "leaving"])
async def test_time_limit_on_a_statement(mode: Live, leaves: bool) -> None:
    """A cancellation that the block's end doesn't show, or shows as a plain error."""
    if mode.blocking:
        pytest.skip("threads can't be cancelled")
    pool = mode.pool(pool_size=1, max_overflow=0)
    start = time.monotonic()
    with suppress(TimeoutError):
        async with pool.connect() as connection:
            session = await mode.session(pool, connection)
            with anyio.fail_after(0.1) if leaves else anyio.move_on_after(0.1):
                await mode.execute(pool, connection, mode.server.sleep)
    async with pool.connect() as connection:
        for number in (1, 2, 3):
            assert await mode.execute(pool, connection, f"SELECT {number}") == number
    assert time.monotonic() - start < 4
    if mode.server.ask(mode.server.is_asleep(session)):
        mode.server.kill(session)  # its connection is closed, but it goes on


async def test_full_reset(mode: Live) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0, reset_on_return="full")
    for change, question in mode.server.session:
        async with mode.block(pool.connect()) as connection:
            before = await mode.execute(pool, connection, question)
            await mode.execute(pool, connection, change)
            if mode.server.dialect == "postgresql" and mode.driver != "asyncpg":
                # So that a rollback alone would not do.
                await mode.execute(pool, connection, "COMMIT")
            assert await mode.execute(pool, connection, question) != before, change
        async with mode.block(pool.connect()) as connection:
            assert await mode.execute(pool, connection, question) == before, change
    assert mode.proxy.connects == 1, "the session was reset, and not replaced"


async def test_full_reset_keeps_what_the_listener_set(mode: Live) -> None:
    settings = {
        "postgresql": ("SET application_name = 'mine'", "SHOW application_name"),
        "mysql": ("SET @mine = 'mine'", "SELECT @mine"),
    }
    change, question = settings[mode.server.dialect]

    listener = AsyncSetting(change) if mode.coroutines else Setting(change)
    pool = mode.pool(
        pool_size=1, max_overflow=0, reset_on_return="full", listeners=[listener]
    )
    for _ in range(3):
        async with mode.block(pool.connect()) as connection:
            assert await mode.execute(pool, connection, question) == "mine"
            await mode.execute(pool, connection, change.replace("= 'mine'", "= 'yours'"))
            assert await mode.execute(pool, connection, "SELECT 1") == 1


async def test_full_reset_says_once_more_what_the_driver_said(mode: Live) -> None:
    """Whatever its connect function was told."""
    if not isinstance(mode.server, MariaDB):
        pytest.skip("PostgreSQL's sessions keep what they began with")
    settings = "?sql_mode=ANSI&init_command=SET%20@mine=4711&autocommit=none"
    collates = mode.driver == "pymysql"  # the only one that can be told
    if collates:
        settings += "&collation=utf8mb4_bin"
    pool = mode.pool(settings, pool_size=1, max_overflow=0, reset_on_return="full")
    for _ in range(2):
        async with mode.block(pool.connect()) as connection:
            collation = await mode.execute(
                pool, connection, "SELECT @@collation_connection"
            )
            assert (collation == "utf8mb4_bin") == collates
            assert "ANSI" in await mode.execute(pool, connection, "SELECT @@sql_mode")
            assert await mode.execute(pool, connection, "SELECT @mine") == 4711
            await mode.execute(pool, connection, "SET sql_mode = '', @mine = 1")
    assert mode.proxy.connects == 1


async def test_full_reset_without_a_database(mode: Live) -> None:
    """Once one has been chosen, there is no way back to none."""
    if not isinstance(mode.server, MariaDB):
        pytest.skip("in PostgreSQL there is always one")
    dsn = mode.server.dsn(mode.driver, mode.proxy.port).rpartition("/")[0]
    pool = mode.pools.create_pool(dsn, pool_size=1, max_overflow=0, reset_on_return="full")
    mode.made.append(pool)
    for connects, statement in (
        (1, "SELECT 1"),
        (1, "USE information_schema"),
        (2, "DO 1"),
    ):
        async with mode.block(pool.connect()) as connection:
            assert await mode.execute(pool, connection, "SELECT DATABASE()") is None
            assert mode.proxy.connects == connects
            await mode.execute(pool, connection, statement)


async def test_full_reset_in_a_database_with_an_odd_name(mode: Live) -> None:
    if not isinstance(mode.server, MariaDB):
        pytest.skip("PostgreSQL's sessions keep their database")
    name = f"{mode.server.table}`s"
    dsn = mode.server.dsn(mode.driver, mode.proxy.port).rpartition("/")[0]
    mode.server.ask(f"CREATE DATABASE `{name.replace('`', '``')}`")
    try:
        pool = mode.pools.create_pool(f"{dsn}/{quote(name)}", reset_on_return="full")
        mode.made.append(pool)
        for _ in range(2):
            async with mode.block(pool.connect()) as connection:
                assert await mode.execute(pool, connection, "SELECT DATABASE()") == name
                await mode.execute(pool, connection, "USE information_schema")
    finally:
        mode.server.ask(f"DROP DATABASE `{name.replace('`', '``')}`")
    assert mode.proxy.connects == 1


async def test_repeated_statements_after_full_reset(mode: Live) -> None:
    """A driver's own cache of prepared statements must not outlive them."""
    pool = mode.pool(pool_size=1, max_overflow=0)
    async with mode.block(pool.connect()) as connection:
        driver = inner(pool)._parts.connector.driver
        for _ in range(3):
            for _ in range(10):
                assert await mode.execute(pool, connection, "SELECT 42") == 42
            await mode.go(pool.call(driver.reset, connection, "full"))
    pool = mode.pool(pool_size=1, max_overflow=0, reset_on_return="full")
    for count in (1, 10, 10):
        async with mode.block(pool.connect()) as connection:
            for _ in range(count):
                assert await mode.execute(pool, connection, "SELECT 42") == 42
            await mode.execute(pool, connection, "COMMIT")  # so that no rollback is made
    assert mode.proxy.connects == 2


@pytest.mark.parametrize("autocommit", [False, True], ids=["", "autocommit"])
async def test_ping(mode: Live, autocommit: bool) -> None:
    pool = mode.pool(*mode.autocommit(autocommit), pool_size=1, max_overflow=0)
    async with mode.block(pool.connect()) as connection:
        driver = inner(pool)._parts.connector.driver
        baseline = driver.baseline(connection)
        before = driver.state(connection, baseline)
        sent = mode.proxy.sent
        await mode.go(pool.call(driver.ping, connection))
        assert mode.proxy.sent > sent
        assert driver.state(connection, baseline) == before
        assert driver.is_open(connection)
        mode.proxy.cut()
        with pytest.raises(Exception):  # noqa: B017, PT011  # each driver has its own
            await mode.go(pool.call(driver.ping, connection))


@pytest.mark.parametrize("how", ["ping", "full"])
@pytest.mark.parametrize("autocommit", [False, True], ids=["", "autocommit"])
async def test_autocommit_stays_as_it_was(mode: Live, autocommit: bool, how: str) -> None:
    pool = mode.pool(
        *mode.autocommit(autocommit),
        pool_size=1,
        max_overflow=0,
        pre_ping=how == "ping",
        reset_on_return="full" if how == "full" else "rollback",
    )
    for number in (1, 2, 3):
        async with mode.block(pool.connect()) as connection:
            change = f"INSERT INTO {mode.server.table} VALUES ({number})"
            await mode.execute(pool, connection, change)
    persists = autocommit or mode.driver == "asyncpg"
    assert mode.server.ask(f"SELECT count(*) FROM {mode.server.table}") == 3 * persists
    assert mode.proxy.connects == 1


async def test_closed_by_its_user(mode: Live) -> None:
    """That is no news of the server: the other connections stay."""
    pool = mode.pool(pool_size=2, max_overflow=0, on_disconnect="pool")
    async with mode.block(pool.unique_connection()):
        async with mode.block(pool.unique_connection()) as connection:
            await mode.go(pool.call(connection.close))
    assert pool.stats().closed == {"reset": 1}
    async with mode.block(pool.unique_connection()):
        await _works(mode, pool)
    assert mode.proxy.connects == 3


async def test_terminated(mode: Live) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0)
    async with mode.block(pool.connect()) as connection:
        session = await mode.session(pool, connection)
        driver = inner(pool)._parts.connector.driver
        assert driver.terminate(connection)
        table = "pg_stat_activity WHERE pid"
        if isinstance(mode.server, MariaDB):
            table = "information_schema.processlist WHERE id"
        await mode.until(
            lambda: not mode.server.ask(f"SELECT count(*) FROM {table} = {session}")
        )
        await mode.until(lambda: not driver.is_open(connection))
        state = driver.state(connection, driver.baseline(connection))
        assert state is anypool.ConnectionState.CLOSED
        assert driver.terminate(connection), "once more does no harm"
    await _works(mode, pool)


async def test_interrupt(mode: Live) -> None:
    """A statement that runs is stopped; nothing is done where none does."""
    if mode.driver != "psycopg":
        pytest.skip("the others can't, or do it by themselves")
    pool = mode.pool(pool_size=1, max_overflow=0)
    async with mode.block(pool.connect()) as connection:
        session = await mode.session(pool, connection)
        driver = inner(pool)._parts.connector.driver
        start = time.monotonic()
        stopped: list[bool] = []

        async def sleep() -> None:
            with pytest.raises(QueryCanceled):
                await mode.execute(pool, connection, mode.server.sleep)
            stopped.append(True)

        async with mode.group() as begin:
            begin(sleep)
            await mode.until(lambda: mode.server.ask(mode.server.is_asleep(session)))
            # More than once: a server was seen to take no notice of a cancel. A pool would
            # close the connection then.
            while not stopped and time.monotonic() - start < PATIENCE / 2:
                await mode.go(driver.interrupt(connection))
                if not mode.blocking:
                    await anyio.lowlevel.checkpoint()
        assert time.monotonic() - start < PATIENCE
        await mode.go(driver.interrupt(connection))
        await mode.go(pool.call(connection.rollback))
        assert await mode.session(pool, connection) == session


@pytest.mark.parametrize("how", ["psycopg", "psycopg with an old libpq", "psycopg2"])
def test_cancelled_call_in_a_thread(
    how: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement is stopped if the driver can do so; or else the connection goes."""
    connect: Any = psycopg2.connect if how == "psycopg2" else psycopg.connect
    if how == "psycopg with an old libpq":
        monkeypatch.setattr(psycopg.capabilities, "has_cancel_safe", lambda: False)
    url = postgres.url
    parts = {"host": postgres.host, "port": postgres.port, "dbname": url.database}
    parts |= {"user": url.user, "password": url.password}

    def execute(connection: Any, statement: str) -> Any:
        cursor = connection.cursor()
        cursor.execute(statement)
        return cursor.fetchone()[0]

    async def main() -> None:
        pool = anypool.QueuePool(lambda: connect(**parts), pool_size=1, max_overflow=0)
        async with pool.connect() as first:
            session = await pool.call(execute, first, Postgres.my_session)

        async def sleep() -> None:
            async with pool.connect() as connection:
                await pool.call(execute, connection, postgres.sleep)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleep)
            with anyio.fail_after(PATIENCE):
                while not postgres.ask(postgres.is_asleep(session)):
                    await anyio.sleep(0.005)
            start = time.monotonic()
            tasks.cancel_scope.cancel()
        async with pool.connect() as connection:
            assert await pool.call(execute, connection, "SELECT 1") == 1
            assert (connection is first) == (how == "psycopg")
        assert time.monotonic() - start < PATIENCE
        await pool.dispose()
        if how != "psycopg":
            postgres.kill(session)  # its connection is closed, but it goes on

    anyio.run(main)


async def test_pipeline_that_is_not_ended(mode: Live) -> None:
    """What is still to come through it is not known."""
    if mode.driver != "psycopg":
        pytest.skip("psycopg's pipelines")
    pool = mode.pool(pool_size=1, max_overflow=0)
    pipelines: list[Any] = []
    async with mode.block(pool.connect()) as first:
        pipelines.append(first.pipeline())
        enter = "__enter__" if mode.blocking else "__aenter__"
        await mode.go(getattr(pipelines[0], enter)())
    async with mode.block(pool.connect()) as connection:
        assert connection is not first
        assert first.closed
    await _works(mode, pool)


async def test_transaction_object_that_is_not_ended(mode: Live) -> None:
    """The next caller's is none inside of it."""
    if mode.driver != "asyncpg":
        pytest.skip("asyncpg's transaction objects")
    pool = mode.pool(pool_size=1, max_overflow=0)
    for _ in range(2):
        async with mode.block(pool.connect()) as connection:
            await mode.go(pool.call(connection.transaction().start))
    assert mode.proxy.connects == 1


async def test_full_reset_forgets_who_listens(mode: Live) -> None:
    if mode.driver != "asyncpg":
        pytest.skip("asyncpg's listeners")
    pool = mode.pool(pool_size=1, max_overflow=0, reset_on_return="full")
    heard: list[str] = []
    for caller in ("first", "second"):

        def hear(*_: object, caller: str = caller) -> None:
            heard.append(caller)

        async with mode.block(pool.connect()) as connection:
            await mode.go(pool.call(connection.add_listener, "leftover", hear))
            connection.add_log_listener(hear)
            if caller == "second":
                await mode.execute(pool, connection, "NOTIFY leftover")
                await mode.execute(pool, connection, "DO $$BEGIN RAISE NOTICE ''; END$$")
                await mode.until(lambda: len(heard) > 1)
                await mode.execute(pool, connection, "SELECT 1")  # all have been told now
    assert heard == ["second", "second"]
    assert mode.proxy.connects == 1


@pytest.mark.parametrize("driver", ["asyncpg", "aiomysql", "asyncmy"])
@pytest.mark.filterwarnings(
    # Of asyncio's transports, and of aiomysql's connection, whose finalizer needs its loop.
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_loop_that_was_closed_without_a_word(
    driver: str, request: pytest.FixtureRequest
) -> None:
    """Its connections can't be closed any more, but their sockets are shut down."""
    server: Server = request.getfixturevalue(DRIVERS[driver])
    mode = Live(driver, False, server, Proxy(server.host, server.port))
    pool = mode.pool(pool_size=1, max_overflow=0)
    kept: list[Any] = []

    async def use() -> None:
        async with pool.connect() as connection:
            kept.append(connection)
            await _works(mode, pool)

    async def use_again() -> None:
        await use()
        await pool.dispose()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
    loop.close()
    assert mode.proxy.open == 1
    asyncio.run(use_again())
    asyncio.run(mode.until(lambda: not mode.proxy.open))
    assert mode.proxy.connects == 2
    mode.proxy.close()
    kept.clear()
    gc.collect()


async def test_server_gone_and_back(mode: Live) -> None:
    pool = mode.pool(pool_size=2, max_overflow=0)
    await _works(mode, pool)
    mode.proxy.refuse()
    for _ in range(3):
        with pytest.raises(Exception):  # noqa: B017, PT011  # each driver has its own
            await _works(mode, pool)
    mode.proxy.resume()
    await _works(mode, pool)
    assert pool.checkedout() == 0


async def test_connect_that_hangs(mode: Live) -> None:
    # What runs in a thread can't be stopped by the pool; the drivers have limits of their
    # own for that. psycopg takes two seconds at least.
    limits = {"asyncpg": "", "pymysql": "?connect_timeout=1&read_timeout=1"}
    limit = limits.get(mode.driver, "?connect_timeout=2")
    pool = mode.pool(limit, pool_size=1, max_overflow=0, timeout=0.3)
    mode.proxy.stall()
    start = time.monotonic()
    with pytest.raises(Exception) as caught:  # noqa: PT011  # the pool's, or the driver's
        await _works(mode, pool)
    assert time.monotonic() - start < 4
    if not mode.blocking or mode.driver == "asyncpg":
        assert isinstance(caught.value, anypool.PoolTimeoutError)
        assert time.monotonic() - start < 2
    mode.proxy.cut()
    mode.proxy.resume()
    await mode.until(lambda: pool.checkedout() == 0)
    await _works(mode, pool)


async def test_wrong_password_is_not_shown(
    mode: Live, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "anypool")
    server = mode.server
    dsn = (
        f"{server.dialect}+{mode.driver}://anypool_nobody:SECRET%40word@{server.host}:"
        f"{mode.proxy.port}/anypool_nowhere"
    )
    pool = mode.pools.create_pool(dsn, echo="debug")
    mode.made.append(pool)
    with pytest.raises(Exception) as caught:  # noqa: PT011  # each driver has its own
        await _works(mode, pool)
    assert not isinstance(caught.value, anypool.PoolError)
    shown = [repr(pool), pool.status(), repr(caught.value), str(caught.value), caplog.text]
    assert not any("SECRET" in text for text in shown)
    assert "Error on connect" in caplog.text


async def test_unread_rows(mode: Live) -> None:
    if mode.driver not in ("pymysql", "aiomysql", "asyncmy"):
        pytest.skip("only MySQL's unbuffered cursors leave rows on the wire")
    pool = mode.pool("?autocommit=true", pool_size=1, max_overflow=0)
    cursors = __import__(f"{mode.driver}.cursors").cursors

    def leave(connection: Any) -> None:
        connection.cursor(cursors.SSCursor).execute("SELECT 1 UNION SELECT 2")

    async def leave_async(connection: Any) -> None:
        cursor = connection.cursor(cursors.SSCursor)
        cursor = await cursor if hasattr(cursor, "__await__") else cursor
        await cursor.execute("SELECT 1 UNION SELECT 2")

    async with mode.block(pool.connect()) as connection:
        await mode.go(pool.call(leave_async if mode.coroutines else leave, connection))
    async with mode.block(pool.connect()) as connection:
        assert await mode.execute(pool, connection, "SELECT 3") == 3


async def test_transaction_in_a_result_that_nobody_fetched(mode: Live) -> None:
    """Of several statements in one command, the first one's result tells nothing of it."""
    if not isinstance(mode.server, MariaDB):
        pytest.skip("only MySQL's drivers fetch them one by one")
    several = 1 << 16  # CLIENT_MULTI_STATEMENTS
    pool = mode.pool(f"?autocommit=true&client_flag={several}", pool_size=1, max_overflow=0)
    table = mode.server.table
    for statement in ("SELECT 1", f"SELECT 1; BEGIN; INSERT INTO {table} VALUES (1)"):
        async with mode.block(pool.connect()) as connection:
            await mode.go(pool.call(connection.query, statement))
    async with mode.block(pool.connect()) as connection:
        rows = f"SELECT count(*) FROM {table}"
        assert await mode.execute(pool, connection, rows) == 0
    assert mode.proxy.connects == 1


async def test_connection_keeps_no_context(mode: Live) -> None:
    """It outlives the request that happened to open it."""
    pool = mode.pool(pool_size=1)
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")

    class Request:
        pass

    async def request() -> None:
        variable.set(reference())
        async with pool.connect():
            pass  # a statement may keep it: asyncpg has a timer for each that it caches

    mine = Request()
    reference = weakref.ref(mine)
    context = contextvars.copy_context()
    if mode.blocking:
        context.run(variable.set, mine)
        lease = context.run(pool.connect)
        context.run(lease.close)
        del lease
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(request)
    del mine, context
    await mode.settle()
    await mode.until(lambda: gc.collect() >= 0 and reference() is None)
    async with mode.block(pool.connect()) as connection:
        await mode.session(pool, connection)
    assert mode.proxy.connects == 1


def test_closing_a_connection_of_asyncpgs_keeps_no_context(postgres: Postgres) -> None:
    """Its time limit for that has a timer, which asyncio forgets only at its end."""
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")

    class Mine:
        pass

    async def request(connection: Any) -> weakref.ref[Mine]:
        mine = Mine()
        variable.set(mine)
        await AsyncpgDriver().close(connection)
        return weakref.ref(mine)

    async def main() -> None:
        login = postgres.url
        made = await contextvars.Context().run(
            asyncio.create_task,
            asyncpg.connect(
                host=postgres.host,
                port=postgres.port,
                user=login.user,
                password=login.password,
                database=login.database,
            ),
        )
        # What is cancelled is forgotten early if it is next; so something else is.
        other = asyncio.get_running_loop().call_later(PATIENCE / 10, print)
        alive = await asyncio.create_task(request(made))
        await anyio.lowlevel.checkpoint()
        gc.collect()
        assert alive() is None
        other.cancel()

    asyncio.run(main())
