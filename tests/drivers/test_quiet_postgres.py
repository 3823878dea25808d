"""Whatever a caller leaves behind on PostgreSQL, the next one gets a quiet connection."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import asyncpg
import psycopg
import psycopg2
import psycopg2.extensions
import pytest

import anypool
from anypool import sync
from anypool._drivers import psycopg as psycopg_driver

from .conftest import Live, _execute, _execute_async
from .proxy import Proxy
from .servers import PATIENCE, Server

SOON = 4.0
"""Seconds within which a return has to come to an end."""

ROWS = "SELECT generate_series(1, 1000000)"


class Kind(NamedTuple):
    """A driver's connections, in a kind of pool."""

    driver: str
    coroutines: bool
    pool: str
    """The mode of the pool: blocking, or an event loop."""


KINDS = [
    Kind("psycopg", False, "blocking"),
    Kind("psycopg", False, "asyncio"),
    Kind("psycopg", False, "trio"),
    Kind("psycopg", True, "asyncio"),
    Kind("psycopg", True, "uvloop"),
    Kind("psycopg", True, "blocking"),
    Kind("psycopg2", False, "blocking"),
    Kind("psycopg2", False, "asyncio"),
    Kind("psycopg2", False, "trio"),
    Kind("asyncpg", True, "asyncio"),
    Kind("asyncpg", True, "uvloop"),
    Kind("asyncpg", True, "blocking"),
]


class Quiet(Live):
    """Both kinds of drivers in both kinds of pools, and what callers still refer to.

    Attributes:
        undoings: what lets go of that, at last; called with nothing.
    """

    def __init__(self, kind: Kind, server: Server, proxy: Proxy) -> None:
        super().__init__(kind.driver, kind.pool == "blocking", server, proxy)
        self.name = kind.pool
        self.coroutines = kind.coroutines
        self.undoings: list[Callable[[], Any]] = []

    def creator(self, **settings: Any) -> Any:
        """Return a function that connects through the proxy."""
        url = self.server.url
        arguments: dict[str, Any] = {
            "host": self.server.host,
            "port": self.proxy.port,
            "user": url.user,
            "password": url.password,
        }
        arguments["database" if self.driver == "asyncpg" else "dbname"] = url.database
        arguments |= settings
        connect: Any = {
            ("psycopg", False): psycopg.connect,
            ("psycopg", True): psycopg.AsyncConnection.connect,
            ("psycopg2", False): psycopg2.connect,
            ("asyncpg", True): asyncpg.connect,
        }[self.driver, self.coroutines]
        if not self.coroutines:
            return lambda: connect(**arguments)

        async def connecting() -> Any:
            return await connect(**arguments)

        return connecting

    def pool(self, query: str = "", /, login: str = "", **options: Any) -> Any:
        options = {"pool_size": 1, "max_overflow": 0, "timeout": PATIENCE} | options
        creator = options.pop("creator", None) or self.creator()
        pool = (sync if self.blocking else anypool).QueuePool(creator, **options)
        self.made.append(pool)
        return pool

    async def use(self, pool: Any, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function, blocking or not, where the connection may be used."""
        return await self.go(pool.call(function, *args))

    async def undo(self, pool: Any) -> None:
        """Let go of what was still referred to."""
        for undoing in self.undoings:
            with suppress(Exception):
                await self.use(pool, undoing)
        self.undoings.clear()
        gc.collect()

    async def rollback(self, pool: Any, connection: Any) -> None:
        if self.driver != "asyncpg":
            await self.use(pool, connection.rollback)

    async def new_session(self, pool: Any, connection: Any) -> Any:
        session = await self.session(pool, connection)
        await self.rollback(pool, connection)
        return session


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(map(str, kind)))
def mode(
    request: pytest.FixtureRequest, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Quiet]:
    """Each driver in each kind of pool."""
    # Generators that are suspended take all of it, and there are many here.
    monkeypatch.setattr(psycopg_driver, "LOCK_TIMEOUT", 0.1)
    proxy = Proxy(postgres.host, postgres.port)
    postgres.ask(f"DELETE FROM {postgres.table}")
    mode = Quiet(request.param, postgres, proxy)
    yield mode
    proxy.close()
    gc.collect()


# What callers leave behind. Each is called with the mode and the connection, where the
# latter may be used, and may be a coroutine function.

Leave = Callable[[Quiet, Any], Awaitable[None] | None]


def _insert(mode: Quiet) -> str:
    return f"INSERT INTO {mode.server.table} VALUES (4711)"


def _executes(*statements: str) -> Leave:
    """Execute statements, whether they succeed or not."""

    def run(mode: Quiet, connection: Any) -> None:
        for statement in statements:
            with suppress(Exception):
                _execute(connection, statement.format(insert=_insert(mode)))

    async def run_async(mode: Quiet, connection: Any) -> None:
        for statement in statements:
            with suppress(Exception):
                text = statement.format(insert=_insert(mode))
                if mode.driver == "asyncpg":
                    await connection.execute(text)
                else:
                    await _execute_async(connection, text)

    return lambda mode, connection: (run_async if mode.coroutines else run)(
        mode, connection
    )


def _either(blocking: Leave, coroutine: Leave) -> Leave:
    return lambda mode, connection: (coroutine if mode.coroutines else blocking)(
        mode, connection
    )


def _stream(mode: Quiet, connection: Any) -> None:
    rows = connection.cursor().stream(ROWS)
    next(rows)
    mode.undoings.append(rows.close)


async def _stream_async(mode: Quiet, connection: Any) -> None:
    rows = connection.cursor().stream(ROWS)
    await anext(rows)
    mode.undoings.append(rows.aclose)


def _notifies(mode: Quiet, connection: Any) -> None:
    for statement in ("LISTEN quiet", "NOTIFY quiet", "COMMIT"):
        connection.execute(statement)
    notes = connection.notifies()
    next(notes)
    mode.undoings.append(notes.close)


async def _notifies_async(mode: Quiet, connection: Any) -> None:
    for statement in ("LISTEN quiet", "NOTIFY quiet", "COMMIT"):
        await connection.execute(statement)
    notes = connection.notifies()
    await anext(notes)
    mode.undoings.append(notes.aclose)


def _enters(enter: Callable[[Quiet, Any], Any], then: str = "") -> Leave:
    """Enter a block, and never leave it."""

    def run(mode: Quiet, connection: Any) -> None:
        block = enter(mode, connection)
        inside = block.__enter__()
        if then:
            getattr(inside, then)()
        mode.undoings.append(lambda: block.__exit__(None, None, None))

    async def run_async(mode: Quiet, connection: Any) -> None:
        block = enter(mode, connection)
        inside = await block.__aenter__()
        if then:
            await getattr(inside, then)()
        mode.undoings.append(lambda: block.__aexit__(None, None, None))

    return _either(run, run_async)


def _two_phase(mode: Quiet, connection: Any, prepare: bool = False) -> None:
    connection.tpc_begin(connection.xid(1, "quiet", "b"))
    _execute(connection, _insert(mode))
    if prepare:
        with pytest.raises(Exception, match="prepared transactions are disabled"):
            connection.tpc_prepare()


async def _two_phase_async(mode: Quiet, connection: Any, prepare: bool = False) -> None:
    await connection.tpc_begin(connection.xid(1, "quiet", "b"))
    await _execute_async(connection, _insert(mode))
    if prepare:
        with pytest.raises(Exception, match="prepared transactions are disabled"):
            await connection.tpc_prepare()


def _prepared(mode: Quiet, connection: Any) -> Any:
    function: Any = _two_phase_async if mode.coroutines else _two_phase
    return function(mode, connection, True)


async def _transaction_object(mode: Quiet, connection: Any) -> None:
    await connection.transaction().start()
    await connection.execute(_insert(mode))


async def _transaction_object_past(mode: Quiet, connection: Any) -> None:
    await connection.transaction().start()
    await connection.execute("COMMIT")


async def _half_read_cursor(mode: Quiet, connection: Any) -> None:
    await connection.transaction().start()
    rows = aiter(connection.cursor(ROWS))
    await anext(rows)
    mode.undoings.append(lambda: anext(rows))


async def _copy_out(mode: Quiet, connection: Any) -> None:
    begun, end = asyncio.Event(), asyncio.Event()

    async def sink(data: bytes) -> None:
        begun.set()
        await end.wait()

    await _under_way(mode, connection.copy_from_query(ROWS, output=sink), begun, end)


async def _copy_in(mode: Quiet, connection: Any) -> None:
    begun, end = asyncio.Event(), asyncio.Event()

    async def source() -> Any:
        yield b"1\n"
        begun.set()
        await end.wait()
        yield b"2\n"

    work = connection.copy_to_table(mode.server.table, source=source())
    await _under_way(mode, work, begun, end)


async def _under_way(mode: Quiet, work: Any, begun: Any, end: Any) -> None:
    task = asyncio.ensure_future(work)
    await begun.wait()

    async def undo() -> None:
        end.set()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.done()
        task.exception()

    mode.undoings.append(undo)


async def _timed_out(mode: Quiet, connection: Any) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(connection.execute(mode.server.sleep), 0.05)


class State(NamedTuple):
    """What a caller leaves behind.

    Attributes:
        leave: does so.
        drivers: with which drivers there is such a thing.
        busy: those with which something is under way, so that even without a reset the
            next caller must not get it.
        closed: those with which the connection can't be kept.
    """

    leave: Leave
    drivers: str
    busy: bool = False
    closed: bool = False


def _copying(direction: str) -> Callable[[Quiet, Any], Any]:
    def enter(mode: Quiet, connection: Any) -> Any:
        what = (
            f"({ROWS}) TO STDOUT"
            if direction == "out"
            else f"{mode.server.table} FROM STDIN"
        )
        return connection.cursor().copy(f"COPY {what}")

    return enter


STATES = {
    "nothing": State(_executes(), "psycopg psycopg2 asyncpg"),
    "transaction": State(_executes("{insert}"), "psycopg psycopg2"),
    "begin": State(_executes("BEGIN", "{insert}"), "psycopg psycopg2 asyncpg"),
    "failed": State(_executes("BEGIN", "{insert}", "{insert}"), "psycopg psycopg2 asyncpg"),
    "own commit": State(_executes("SELECT 1", "COMMIT"), "psycopg psycopg2"),
    "server cursor": State(
        _executes(f"DECLARE half CURSOR FOR {ROWS}", "FETCH half"), "psycopg psycopg2"
    ),
    "stream": State(_either(_stream, _stream_async), "psycopg", True, True),
    "notifies": State(_either(_notifies, _notifies_async), "psycopg", True, True),
    "copy out": State(_enters(_copying("out"), "read"), "psycopg", True, True),
    "copy in": State(_enters(_copying("in")), "psycopg", True, True),
    "pipeline": State(
        _enters(lambda mode, connection: connection.pipeline(), "sync"),
        "psycopg",
        True,
        True,
    ),
    "block": State(
        _enters(lambda mode, connection: connection.transaction()), "psycopg", True, True
    ),
    "two-phase": State(_either(_two_phase, _two_phase_async), "psycopg psycopg2"),
    "not prepared": State(_prepared, "psycopg psycopg2"),
    "transaction object": State(_transaction_object, "asyncpg"),
    "transaction object past": State(_transaction_object_past, "asyncpg"),
    "cursor": State(_half_read_cursor, "asyncpg"),
    "copy to a sink": State(_copy_out, "asyncpg", True, True),
    "copy from a source": State(_copy_in, "asyncpg", True, True),
    "timed out": State(_timed_out, "asyncpg", True),
}

COMMITTED = {"transaction", "begin", "two-phase", "transaction object"}
"""What reset_on_return="commit" finds something to commit in."""


async def _finds(mode: Quiet, pool: Any, connection: Any) -> None:
    """Be the next caller, for whom everything has to work."""
    for number in (1, 2, 3):
        assert await mode.execute(pool, connection, f"SELECT {number}") == number
    await mode.rollback(pool, connection)
    mode.server.ask(f"DELETE FROM {mode.server.table}")  # which no lock holds up
    await mode.begin(pool, connection)
    if mode.driver == "asyncpg":
        await mode.execute(pool, connection, "ROLLBACK")
        await mode.use(pool, _commit_asyncpg, connection)
    else:
        await mode.rollback(pool, connection)
        assert mode.server.ask(f"SELECT count(*) FROM {mode.server.table}") == 0
        await mode.begin(pool, connection)
        await mode.use(pool, connection.commit)
    assert mode.server.ask(f"SELECT count(*) FROM {mode.server.table}") == 1 - (
        mode.driver == "asyncpg"
    )


async def _commit_asyncpg(connection: Any) -> None:
    async with connection.transaction():
        await connection.execute("SELECT 1")
    assert not connection.is_in_transaction()


@pytest.mark.parametrize("reset", ["rollback", "commit", "full", None])
@pytest.mark.parametrize("name", STATES)
async def test_what_was_left_behind(mode: Quiet, name: str, reset: Any) -> None:
    state = STATES[name]
    if mode.driver not in state.drivers.split():
        pytest.skip("there is no such thing")
    pool = mode.pool(reset_on_return=reset)
    async with mode.block(pool.connect()) as connection:
        session = await mode.new_session(pool, connection)
        await mode.use(pool, state.leave, mode, connection)
        start = time.monotonic()
    async with mode.block(pool.connect()) as connection:
        assert time.monotonic() - start < SOON
        if reset is not None or state.busy:
            rows = mode.server.ask(f"SELECT count(*) FROM {mode.server.table}")
            assert rows == (reset == "commit" and name in COMMITTED)
            await _finds(mode, pool, connection)
            await mode.undo(pool)  # which is not felt here
            mode.server.ask(f"DELETE FROM {mode.server.table}")
            await _finds(mode, pool, connection)
        else:
            await mode.undo(pool)
            await mode.use(pool, _executes("ROLLBACK"), mode, connection)
        assert (await mode.session(pool, connection) == session) == (not state.closed)
