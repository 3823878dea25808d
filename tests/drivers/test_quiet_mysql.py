"""What the next caller finds of what MySQL's drivers were left in the middle of."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from anypool import ConnectionState
from anypool._core.options import ResetMode

from .conftest import Live
from .mariadbd import private_server
from .servers import PATIENCE, MariaDB, Server

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
    return pool._pool._driver if mode.blocking else pool._driver


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
