"""What the next caller finds of what MySQL's drivers were left in the middle of."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from anypool import ConnectionState
from anypool._core.resetmode import ResetMode
from anypool._drivers import mysql as mysql_driver

from .conftest import Live
from .mariadbd import private_server
from .servers import PASSWORD, PATIENCE, MariaDB, Server

pytestmark = pytest.mark.parametrize(
    "mode",
    [
        f"{driver}-{kind}"
        for driver in ("pymysql", "aiomysql", "asyncmy")
        for kind in ("async", "blocking")
    ],
    indirect=True,
)

RESETS: list[ResetMode | None] = ["rollback", "commit", "full", None]

MULTI_STATEMENTS = 1 << 16

BOUND = 4.0
"""Seconds in which each return must be over."""

XID = f"'anypool-{os.getpid()}'"

QUESTION = "SELECT 42"


def driver_of(mode: Live, pool: Any) -> Any:
    return (pool._pool if mode.blocking else pool)._parts.connector.driver


class Caller:
    """Has a connection, and leaves it in some state.

    Attributes:
        state: what it is in when it is left.
        kept: what somebody still refers to afterwards.
    """

    def __init__(self, mode: Live, pool: Any, connection: Any) -> None:
        self.mode = mode
        self.pool = pool
        self.connection = connection
        self.kept: list[Any] = []
        self.driver = driver_of(mode, pool)
        self.baseline = self.driver.baseline(connection)

    @property
    def state(self) -> ConnectionState:
        state: ConnectionState = self.driver.state(self.connection, self.baseline)
        return state

    async def call(self, method: str, *args: Any) -> Any:
        return await self.mode.go(self.pool.call(getattr(self.connection, method), *args))

    async def execute(self, *statements: str) -> None:
        for statement in statements:
            await self.mode.execute(self.pool, self.connection, statement)

    async def begin_reading(self, statement: str) -> None:
        """Read one row of an unbuffered cursor."""
        function = _begin_reading_async if self.mode.coroutines else _begin_reading
        kind = import_module(f"{self.mode.driver}.cursors").SSCursor
        call = self.pool.call(function, self.connection, kind, statement)
        self.kept.append(await self.mode.go(call))


def _begin_reading(connection: Any, kind: type, statement: str) -> Any:
    cursor = connection.cursor(kind)
    cursor.execute(statement)
    assert cursor.fetchone() == (1,)
    return cursor


async def _begin_reading_async(connection: Any, kind: type, statement: str) -> Any:
    cursor = connection.cursor(kind)
    cursor = await cursor if hasattr(cursor, "__await__") else cursor
    await cursor.execute(statement)
    assert await cursor.fetchone() == (1,)
    return cursor


async def leave_clean(caller: Caller) -> None:
    await caller.call("ping", False)
    assert caller.state is ConnectionState.CLEAN


async def leave_open(caller: Caller) -> None:
    await caller.mode.begin(caller.pool, caller.connection)
    assert caller.state is ConnectionState.OPEN


async def leave_changed(caller: Caller) -> None:
    await caller.mode.begin(caller.pool, caller.connection)
    await caller.call("rollback")
    await caller.call("autocommit", True)
    assert caller.state is ConnectionState.CHANGED


async def leave_changed_by_statement(caller: Caller) -> None:
    await caller.execute("SET autocommit = 1", "SELECT 1")
    assert caller.state is ConnectionState.CHANGED


async def leave_few_rows(caller: Caller) -> None:
    await caller.begin_reading("SELECT seq FROM seq_1_to_10")
    assert caller.state is ConnectionState.BUSY


async def leave_results(caller: Caller) -> None:
    await caller.call("query", "SELECT 1; SELECT 2; SELECT nothing")
    assert caller.state is ConnectionState.BUSY


async def leave_results_after_rows(caller: Caller) -> None:
    await caller.begin_reading("SELECT seq FROM seq_1_to_10; SELECT 2")
    assert caller.state is ConnectionState.BUSY


async def leave_two_phase(caller: Caller) -> None:
    await caller.execute(f"XA START {XID}")
    assert caller.state is ConnectionState.TWO_PHASE
    await caller.mode.begin(caller.pool, caller.connection)
    assert caller.state is ConnectionState.TWO_PHASE


async def leave_two_phase_ended(caller: Caller) -> None:
    await leave_two_phase(caller)
    await caller.execute(f"xa end {XID}")
    assert caller.state is ConnectionState.TWO_PHASE


async def leave_two_phase_prepared(caller: Caller) -> None:
    await leave_two_phase_ended(caller)
    await caller.execute(f"XA PREPARE {XID}")
    assert caller.state is ConnectionState.TWO_PHASE


async def leave_error(caller: Caller) -> None:
    with pytest.raises(Exception, match="nothing"):
        await caller.execute("SELECT nothing")
    with pytest.raises(Exception, match="nowhere"):
        await caller.call("query", "INSERT INTO nowhere VALUES (1)")
    assert caller.state is ConnectionState.OPEN


async def leave_own_commands(caller: Caller) -> None:
    """Those that the driver answers by reading in a way of its own."""
    await caller.call("show_warnings")
    charset = "set_character_set" if caller.mode.driver == "pymysql" else "set_charset"
    with pytest.raises(Exception):  # noqa: B017, PT011  # each driver has its own
        await caller.call(charset, "nonsense")
    if caller.mode.driver == "asyncmy":
        statement = await caller.call("prepare", "SELECT ?")
        await caller.mode.go(caller.pool.call(statement.execute, (1,)))
        with pytest.raises(Exception):  # noqa: B017, PT011  # "at most one row"
            await caller.call("prepare", "SELECT nothing")
        await caller.mode.go(caller.pool.call(statement.close))
    else:  # asyncmy 0.2.18 has none that works
        await caller.call(charset, "utf8mb4")
    assert caller.state is ConnectionState.OPEN


async def leave_unreadable_rows(caller: Caller) -> None:
    """The driver gives up in the middle of an answer."""
    name = "_decoders" if caller.mode.driver == "asyncmy" else "decoders"
    original = getattr(caller.connection, name)
    setattr(caller.connection, name, {**original, 8: _refuse})
    with pytest.raises(ValueError, match="unreadable"):
        await caller.call("query", "SELECT seq FROM seq_1_to_10")
    setattr(caller.connection, name, original)
    assert caller.state is ConnectionState.BUSY


def _refuse(value: object) -> None:
    raise ValueError("unreadable")


ALWAYS = ("pymysql", "aiomysql", "asyncmy")
BY_INTERRUPT = ("aiomysql", "asyncmy")

STATES: list[tuple[Any, tuple[str, ...]]] = [
    # How it is left, and which drivers keep the connection.
    (leave_clean, ALWAYS),
    (leave_open, ALWAYS),
    (leave_changed, ALWAYS),
    (leave_changed_by_statement, ALWAYS),
    (leave_few_rows, BY_INTERRUPT),
    (leave_results, ALWAYS),
    (leave_results_after_rows, BY_INTERRUPT),
    (leave_two_phase, ALWAYS),
    (leave_two_phase_ended, ALWAYS),
    (leave_two_phase_prepared, ()),
    (leave_error, ALWAYS),
    (leave_own_commands, ALWAYS),
    (leave_unreadable_rows, ()),
]


@pytest.fixture
def _no_two_phase(mariadb: Server) -> Iterator[None]:
    """Leave no prepared transaction on the server."""
    yield
    deadline = time.monotonic() + PATIENCE
    while XID.strip("'") in str(_recoverable(mariadb)):
        with suppress(Exception):  # its connection may be about to be closed
            mariadb.ask(f"XA ROLLBACK {XID}")
        assert time.monotonic() < deadline


def _recoverable(server: Server) -> Any:
    with server.admin.cursor() as cursor:
        cursor.execute("XA RECOVER")
        return cursor.fetchall()


@pytest.mark.parametrize("reset", RESETS, ids=str)
@pytest.mark.parametrize(
    ("leave", "kept_by"), STATES, ids=[leave.__name__ for leave, _ in STATES]
)
@pytest.mark.usefixtures("_no_two_phase")
async def test_state_that_is_left(
    mode: Live, leave: Any, kept_by: tuple[str, ...], reset: ResetMode | None
) -> None:
    pool = mode.pool(
        f"?client_flag={MULTI_STATEMENTS}",
        pool_size=1,
        max_overflow=0,
        reset_on_return=reset,
    )
    begun = leave in (leave_open, leave_two_phase, leave_two_phase_ended)
    prepared = leave is leave_two_phase_prepared
    changed = leave in (leave_changed, leave_changed_by_statement)
    async with mode.block(pool.connect()) as connection:
        session = await mode.session(pool, connection)
        await mode.go(pool.call(connection.rollback))
        caller = Caller(mode, pool, connection)
        await leave(caller)
        start = time.monotonic()
    assert time.monotonic() - start < BOUND
    async with mode.block(pool.connect()) as connection:
        if reset is None and (begun or prepared):
            # As it was left: what was begun is the application's to end.
            assert connection is caller.connection
            return
        assert await mode.execute(pool, connection, QUESTION) == 42
        is_kept = mode.driver in kept_by
        assert (await mode.session(pool, connection) == session) == is_kept
        autocommit = await mode.execute(pool, connection, "SELECT @@autocommit")
        assert autocommit == (changed and reset is None)
        assert connection.autocommit_mode == (leave is leave_changed and reset is None)
        for _ in range(0 if prepared else 2):
            await mode.go(pool.call(connection.rollback))
            await mode.execute(pool, connection, f"DELETE FROM {mode.server.table}")
            await mode.begin(pool, connection)
    in_doubt = XID.strip("'") in str(_recoverable(mode.server))
    assert in_doubt == prepared, "it is its transaction manager's to decide"


@pytest.mark.parametrize("reset", RESETS, ids=str)
async def test_too_many_rows_to_read(
    mode: Live, reset: ResetMode | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_driver, "REST_TIMEOUT", 0.1)
    pool = mode.pool(pool_size=1, max_overflow=0, reset_on_return=reset)
    async with mode.block(pool.connect()) as connection:
        caller = Caller(mode, pool, connection)
        await caller.begin_reading("SELECT seq FROM seq_1_to_1000000000")
        start = time.monotonic()
    assert time.monotonic() - start < BOUND
    assert caller.state is ConnectionState.CLOSED
    async with mode.block(pool.connect()) as connection:
        assert await mode.execute(pool, connection, QUESTION) == 42
    # What somebody still refers to does no harm, not even to itself.
    caller.kept.clear()


async def test_next_result_that_takes_long(
    mode: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_driver, "REST_TIMEOUT", 0.1)
    pool = mode.pool(f"?client_flag={MULTI_STATEMENTS}", pool_size=1, max_overflow=0)
    async with mode.block(pool.connect()) as connection:
        session = await mode.session(pool, connection)
        caller = Caller(mode, pool, connection)
        await caller.call("query", f"SELECT 1; {mode.server.sleep}")
        start = time.monotonic()
    assert time.monotonic() - start < BOUND
    mode.server.kill(session)
    async with mode.block(pool.connect()) as connection:
        assert await mode.execute(pool, connection, QUESTION) == 42


@pytest.mark.parametrize("reset", RESETS, ids=str)
async def test_statement_that_another_caller_waits_for(
    mode: Live, reset: ResetMode | None
) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0, reset_on_return=reset)
    failures: list[Exception] = []

    async def wait(connection: Any) -> None:
        try:
            await mode.go(pool.call(connection.query, mode.server.sleep))
        except Exception as error:
            failures.append(error)

    async with mode.group() as begin:
        async with mode.block(pool.connect()) as connection:
            session = await mode.session(pool, connection)
            caller = Caller(mode, pool, connection)
            begin(wait, connection)
            await mode.until(lambda: mode.server.ask(mode.server.is_asleep(session)))
            assert caller.state is ConnectionState.BUSY
            start = time.monotonic()
        async with mode.block(pool.connect()) as connection:
            assert await mode.execute(pool, connection, QUESTION) == 42
        assert time.monotonic() - start < BOUND
        await mode.until(lambda: failures)
    mode.server.kill(session)


async def test_prepared_statements(mode: Live) -> None:
    """asyncmy reads their answers in a way of its own."""
    if mode.driver != "asyncmy":
        pytest.skip("the others have none")
    pool = mode.pool("?stmt_cache_size=5", pool_size=1, max_overflow=0)
    several = "SELECT id = (SELECT 1 UNION SELECT %s) FROM (SELECT 1 AS id) AS one"

    async def execute(connection: Any, statement: str) -> None:
        async with connection.cursor() as cursor:
            await cursor.execute(statement, (2,))

    async def wait(connection: Any) -> None:
        with suppress(Exception):
            await mode.go(pool.call(execute, connection, "SELECT SLEEP(15 * %s)"))
        ended.append(True)

    ended: list[bool] = []
    async with mode.block(pool.connect()) as connection:
        session = await mode.session(pool, connection)
        caller = Caller(mode, pool, connection)
        for _ in range(3):  # from the cache in the end
            await mode.go(pool.call(execute, connection, QUESTION + " + %s"))
            assert caller.state is ConnectionState.OPEN
            with pytest.raises(Exception, match="more than 1 row"):
                await mode.go(pool.call(execute, connection, several))
            assert caller.state is ConnectionState.OPEN
    async with mode.group() as begin:
        async with mode.block(pool.connect()) as connection:
            assert await mode.session(pool, connection) == session
            begin(wait, connection)
            await mode.until(lambda: mode.server.ask(mode.server.is_asleep(session)))
            assert caller.state is ConnectionState.BUSY
        async with mode.block(pool.connect()) as connection:
            assert await mode.session(pool, connection) != session
        await mode.until(lambda: ended)
    mode.server.kill(session)


async def test_file_that_is_being_loaded(mode: Live, tmp_path: Path) -> None:
    if mode.driver == "asyncmy":
        pytest.skip("reads files in the event loop's thread, without a pause")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pool = mode.pool("?local_infile=true", pool_size=1, max_overflow=0)
    ended: list[bool] = []

    async def load(connection: Any) -> None:
        statement = f"LOAD DATA LOCAL INFILE '{pipe}' INTO TABLE {mode.server.table}"
        with suppress(Exception):
            await mode.go(pool.call(connection.query, statement))
        ended.append(True)

    async with mode.group() as begin:
        async with mode.block(pool.connect()) as connection:
            caller = Caller(mode, pool, connection)
            begin(load, connection)
            # The other end can be opened when the driver has opened this one.
            writers: list[int] = []
            await mode.until(lambda: _opened(pipe, writers))
            assert caller.state is ConnectionState.BUSY
            start = time.monotonic()
        async with mode.block(pool.connect()) as connection:
            assert await mode.execute(pool, connection, QUESTION) == 42
        assert time.monotonic() - start < BOUND
        os.close(writers[0])
        await mode.until(lambda: ended)


def _opened(pipe: Path, writers: list[int]) -> bool:
    with suppress(OSError):  # nobody reads yet
        writers.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    return bool(writers)


async def test_autocommit_that_is_the_servers_own(mode: Live) -> None:
    pool = mode.pool("?autocommit=none", pool_size=1, max_overflow=0)
    async with mode.block(pool.connect()) as connection:
        caller = Caller(mode, pool, connection)
        await caller.call("autocommit", False)
    async with mode.block(pool.connect()) as connection:
        assert connection is caller.connection
        assert await mode.execute(pool, connection, "SELECT @@autocommit") == 1
        assert connection.autocommit_mode is None


class Autocommitting:
    """A connect listener."""

    def connect(self, connection: Any, record: object) -> Any:
        return connection.autocommit(True)


class AutocommittingAsync:
    async def connect(self, connection: Any, record: object) -> None:
        await connection.autocommit(True)


@pytest.mark.parametrize("reset", ["rollback", "full"])
async def test_autocommit_that_a_listener_set(mode: Live, reset: ResetMode) -> None:
    listener = AutocommittingAsync() if mode.coroutines else Autocommitting()
    pool = mode.pool(
        pool_size=1, max_overflow=0, reset_on_return=reset, listeners=[listener]
    )
    for change in ("SELECT 1", "SET autocommit = 0", "SELECT 1"):
        async with mode.block(pool.connect()) as connection:
            assert await mode.execute(pool, connection, "SELECT @@autocommit") == 1
            await mode.execute(pool, connection, change)
    assert mode.proxy.connects == 1


async def test_full_reset_on_the_clients_side(mode: Live) -> None:
    """The original's settings hold, not the caller's."""
    pool = mode.pool(
        "?sql_mode='ANSI_QUOTES'" if mode.driver != "pymysql" else "?sql_mode=ANSI_QUOTES",
        pool_size=1,
        max_overflow=0,
        reset_on_return="full",
    )
    private = "_" if mode.driver == "asyncmy" else ""
    half_private = "" if mode.driver == "pymysql" else "_"
    cursors = import_module(f"{mode.driver}.cursors")
    kind = "_cursor_cls" if private else "cursorclass"
    changes = {
        f"{half_private}charset": "latin1",
        f"{half_private}encoding": "latin1",
        f"{private}use_unicode": False,
        f"{private}sql_mode": "'TRADITIONAL'",
        f"{private}init_command": "SET @mine = 1",
        f"{half_private}db": "information_schema",
        kind: cursors.DictCursor,
    }
    if mode.driver == "pymysql":
        changes["collation"] = "latin1_bin"
    question = "SELECT CONCAT(@@character_set_client, @@sql_mode, DATABASE(), 'ü')"
    async with mode.block(pool.connect()) as connection:
        before = {name: getattr(connection, name) for name in changes}
        answer = await mode.execute(pool, connection, question)
        assert "ANSI_QUOTES" in answer
        await mode.execute(pool, connection, "SET NAMES latin1")
        converters = getattr(connection, f"{private}decoders")
        setattr(connection, f"{private}decoders", {**converters, 3: _refuse})
        if mode.driver != "aiomysql":  # all of its connections have one dictionary
            getattr(connection, f"{private}encoders")[str] = _refuse
        for name, value in changes.items():
            setattr(connection, name, value)
    async with mode.block(pool.connect()) as connection:
        assert {name: getattr(connection, name) for name in changes} == before
        assert await mode.execute(pool, connection, question) == answer
        assert await mode.execute(pool, connection, QUESTION) == 42
        assert getattr(connection, f"{private}encoders")[str] is not _refuse
    assert mode.proxy.connects == 1


async def test_full_reset_of_locks_and_isolation(mode: Live) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0, reset_on_return="full")
    table = mode.server.table
    async with mode.block(pool.connect()) as connection:
        isolation = await mode.execute(pool, connection, "SELECT @@tx_isolation")
        for statement in (
            f"LOCK TABLES {table} WRITE",
            "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
        ):
            await mode.execute(pool, connection, statement)
    mode.server.ask(f"INSERT INTO {table} VALUES (1)")
    async with mode.block(pool.connect()) as connection:
        assert await mode.execute(pool, connection, "SELECT @@tx_isolation") == isolation
        await mode.execute(pool, connection, f"INSERT INTO {table} VALUES (2)")
    assert mode.proxy.connects == 1


READ_ONLY = "The MariaDB server is running with the --read-only option"


@pytest.mark.parametrize(
    ("number", "message", "lost"),
    [
        (1290, READ_ONLY, True),
        (1290, "The MySQL server is running with the --super-read-only option", True),
        (1290, "The MariaDB server is running with the --secure-file-priv option", False),
        (1792, "Cannot execute statement in a READ ONLY transaction", True),
        (1836, "Running in read-only mode", True),
        (3032, "The server is currently in offline mode", True),
        (1047, "WSREP has not yet prepared node for application use", True),
        (1047, "Unknown command", False),
        (1205, "Lock wait timeout exceeded; try restarting transaction", False),
        (1213, "Deadlock found when trying to get lock", False),
    ],
)
async def test_errors_of_failovers(
    mode: Live, number: int, message: str, lost: bool
) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0)
    signal = f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT"
    async with mode.block(pool.connect()) as connection:
        with pytest.raises(Exception, match=str(number)) as caught:
            statement = f"BEGIN NOT ATOMIC {signal} = '{message}'; END"
            await mode.execute(pool, connection, statement)
        assert driver_of(mode, pool).is_disconnect(caught.value, connection) == lost


async def test_read_only_transaction_of_the_callers_own(mode: Live) -> None:
    pool = mode.pool(pool_size=1, max_overflow=0)
    insert = f"INSERT INTO {mode.server.table} VALUES (1)"
    for begin, lost in (
        ("START TRANSACTION READ ONLY", False),
        ("SET SESSION TRANSACTION READ ONLY", True),
    ):
        async with mode.block(pool.connect()) as connection:
            await mode.execute(pool, connection, begin)
            with pytest.raises(Exception, match="1792") as caught:
                await mode.execute(pool, connection, insert)
            assert driver_of(mode, pool).is_disconnect(caught.value, connection) == lost
    assert mode.proxy.connects == 1


@pytest.fixture(scope="module")
def old_primary() -> Iterator[MariaDB]:
    """A server that will become read-only."""
    try:
        with private_server() as server:
            yield server
    except FileNotFoundError as error:
        pytest.skip(str(error))


async def test_primary_that_becomes_read_only(
    mode: Live, old_primary: MariaDB, mariadb: MariaDB
) -> None:
    """Its connections stay open, but the name leads elsewhere now."""
    insert = f"INSERT INTO {mariadb.table} VALUES"
    with mariadb.account(20) as name, old_primary.account(20):
        mode.proxy.lead_to(old_primary.host, old_primary.port)
        login = f"{name}:{quote(PASSWORD, safe='')}"
        pool = mode.pool(login=login, pool_size=4, on_disconnect="pool")
        leases = [await mode.go(pool.unique_connection()) for _ in range(4)]
        for lease in leases[2:]:
            await mode.go(lease.close())
        old_primary.ask("SET GLOBAL read_only = 1")
        try:
            mode.proxy.lead_to(mariadb.host, mariadb.port)
            errors = 0
            for number in range(8):
                try:
                    async with mode.block(pool.connect()) as connection:
                        await mode.execute(pool, connection, f"{insert} ({number})")
                        await mode.go(pool.call(connection.commit))
                except Exception as error:
                    assert "1290" in str(error)
                    errors += 1
            assert errors == 1
            for lease in leases[:2]:
                await mode.go(lease.close())
            for number in (8, 9, 10):
                async with mode.block(pool.connect()) as connection:
                    await mode.execute(pool, connection, f"{insert} ({number})")
                    await mode.go(pool.call(connection.commit))
            assert mariadb.ask(f"SELECT count(*) FROM {mariadb.table}") == 10
            await mode.go(pool.dispose())
        finally:
            old_primary.ask("SET GLOBAL read_only = 0")
            old_primary.until(old_primary.sessions_of(name), 0)
