"""Whatever a caller leaves behind on PostgreSQL, the next one gets a quiet connection."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import psycopg
import pytest
from psycopg.adapt import AdaptersMap
from psycopg.rows import dict_row
from psycopg.types.numeric import IntLoader
from psycopg.types.string import TextLoader

import anypool
from anypool import sync
from anypool._drivers import asyncpg as asyncpg_driver
from anypool._drivers import psycopg as psycopg_driver
from anypool._drivers.originals import is_read_only

from ..support.bounds import proof
from .absent import module_of
from .conftest import Live, _execute, _execute_async, _fetch_value
from .proxy import Proxy
from .servers import PATIENCE, Server

if TYPE_CHECKING:
    import psycopg2
    import psycopg2.extensions
else:
    psycopg2 = module_of("psycopg2")
    module_of("psycopg2.extensions")

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
    # On a busy machine, what can be cancelled may take its time.
    for driver in (psycopg_driver, asyncpg_driver):
        monkeypatch.setattr(driver, "CANCEL_TIMEOUT", SOON)
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


def _two_phase(mode: Quiet, connection: Any) -> None:
    connection.tpc_begin(connection.xid(1, "quiet", "b"))
    _execute(connection, _insert(mode))


async def _two_phase_async(mode: Quiet, connection: Any) -> None:
    await connection.tpc_begin(connection.xid(1, "quiet", "b"))
    await _execute_async(connection, _insert(mode))


def _prepare(mode: Quiet, connection: Any) -> None:
    _two_phase(mode, connection)
    connection.tpc_prepare()


async def _prepare_async(mode: Quiet, connection: Any) -> None:
    await _two_phase_async(mode, connection)
    await connection.tpc_prepare()


def _not_prepared(mode: Quiet, connection: Any) -> Any:
    if _can_prepare(mode):
        pytest.skip("the server does prepare transactions")
    return _either(_not_prepared_blocking, _not_prepared_async)(mode, connection)


def _not_prepared_blocking(mode: Quiet, connection: Any) -> None:
    with pytest.raises(Exception, match="prepared transactions are disabled"):
        _prepare(mode, connection)


async def _not_prepared_async(mode: Quiet, connection: Any) -> None:
    with pytest.raises(Exception, match="prepared transactions are disabled"):
        await _prepare_async(mode, connection)


def _can_prepare(mode: Quiet) -> bool:
    return bool(mode.server.ask("SHOW max_prepared_transactions") != "0")


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
    "not prepared": State(_not_prepared, "psycopg psycopg2"),
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


def _cell(kind: Kind, first: bool, *values: Any) -> Any:
    """Return a case; other event loops than asyncio's have the first of each kind only, but
    in `make proof`."""
    again = kind.pool in ("trio", "uvloop") and not first
    return pytest.param(
        kind,
        *values,
        id="-".join(map(str, (*kind, *values))),
        marks=[proof] if again else [],
    )


@pytest.mark.parametrize(
    ("mode", "name", "reset"),
    [
        _cell(kind, reset == "rollback", name, reset)
        for kind in KINDS
        for name, state in STATES.items()
        if kind.driver in state.drivers.split()
        for reset in ("rollback", "commit", "full", None)
    ],
    indirect=["mode"],
)
async def test_what_was_left_behind(
    mode: Quiet, name: str, reset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = STATES[name]
    if state.closed:
        # However long it is waited for.
        monkeypatch.setattr(psycopg_driver, "LOCK_TIMEOUT", 0.02)
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


async def _let_go(mode: Quiet, connection: Any) -> None:
    async for _ in connection.cursor().stream(ROWS):
        break


@pytest.mark.parametrize("reset", ["rollback", "commit", "full", None])
async def test_stream_that_nobody_refers_to(
    mode: Quiet, reset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop closes it, by and by."""
    if mode.driver != "psycopg" or not mode.coroutines:
        pytest.skip("there is no such thing")
    monkeypatch.setattr(psycopg_driver, "LOCK_TIMEOUT", PATIENCE)
    pool = mode.pool(reset_on_return=reset)
    async with mode.block(pool.connect()) as connection:
        session = await mode.new_session(pool, connection)
        await mode.use(pool, _let_go, mode, connection)
    async with mode.block(pool.connect()) as connection:
        if reset is None:
            await mode.use(pool, connection.rollback)
        await _finds(mode, pool, connection)
        assert await mode.session(pool, connection) == session


@pytest.mark.parametrize("reset", ["rollback", "commit", "full"])
async def test_prepared_transaction(mode: Quiet, reset: Any) -> None:
    """It stays on the server, and the next caller is free of it."""
    if mode.driver == "asyncpg" or not _can_prepare(mode):
        pytest.skip("no transaction can be prepared")
    pool = mode.pool(reset_on_return=reset)
    prepare = _either(_prepare, _prepare_async)
    prepared = "SELECT gid FROM pg_prepared_xacts ORDER BY prepared DESC"
    try:
        async with mode.block(pool.connect()) as connection:
            session = await mode.new_session(pool, connection)
            await mode.use(pool, prepare, mode, connection)
        async with mode.block(pool.connect()) as connection:
            assert mode.server.ask(prepared) is not None
            kept = await mode.session(pool, connection) == session
            assert kept == (mode.driver == "psycopg" or reset == "full")
            await mode.rollback(pool, connection)
            mode.server.ask(f"ROLLBACK PREPARED '{mode.server.ask(prepared)}'")
            await _finds(mode, pool, connection)
    finally:
        if mode.server.ask(prepared) is not None:
            mode.server.ask(f"ROLLBACK PREPARED '{mode.server.ask(prepared)}'")


@pytest.mark.parametrize("reset", ["rollback", "commit", "full", None])
async def test_statement_of_somebody_else(
    mode: Quiet, reset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is under way when the block ends."""
    monkeypatch.setattr(psycopg_driver, "LOCK_TIMEOUT", SOON)
    pool = mode.pool(reset_on_return=reset)
    errors: list[BaseException] = []

    def sleep(connection: Any) -> None:
        try:
            if mode.coroutines:
                pool.call(_sleep, mode, connection)
            else:
                _execute(connection, mode.server.sleep)
        except BaseException as error:
            errors.append(error)

    async with mode.block(pool.connect()) as connection:
        session = await mode.new_session(pool, connection)
        thread = task = None
        if mode.coroutines and not mode.blocking:
            task = asyncio.ensure_future(_sleep(mode, connection))
        else:
            thread = threading.Thread(target=sleep, args=(connection,))
            thread.start()
        await mode.until(lambda: mode.server.ask(mode.server.is_asleep(session)))
        start = time.monotonic()
    async with mode.block(pool.connect()) as connection:
        assert time.monotonic() - start < SOON
        if mode.driver == "psycopg" and reset is None:
            await mode.rollback(pool, connection)  # what None leaves to the next caller
        await _finds(mode, pool, connection)
        kept = await mode.session(pool, connection) == session
        assert kept == _can_be_interrupted(mode, connection)
    if thread is not None:
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert len(errors) == 1
    if task is not None:
        with pytest.raises(Exception, match=r"cancel" if kept else r"closed"):
            await task
    if not kept:
        mode.server.kill(session)  # it goes on there


def _can_be_interrupted(mode: Quiet, connection: Any) -> bool:
    if mode.driver == "asyncpg":
        return hasattr(connection._protocol, "_drain_cancels")  # asyncpg 0.32
    return mode.driver == "psycopg"


async def _sleep(mode: Quiet, connection: Any) -> None:
    await (_fetch_value if mode.driver == "asyncpg" else _execute_async)(
        connection, mode.server.sleep
    )


# What callers change on the client's side.

SETTINGS: dict[str, tuple[tuple[str, Any], ...]] = {
    "autocommit": (("autocommit", True),),
    "isolation level": (("isolation_level", 3),),
    "read-only": (("read_only", True),),
    "deferrable": (("deferrable", True),),
    "all": (
        ("isolation_level", 3),
        ("read_only", True),
        ("deferrable", True),
        ("autocommit", True),
    ),
    "session": (("autocommit", True), ("isolation_level", 3), ("read_only", True)),
}


def _change(mode: Quiet, connection: Any, changes: Any) -> None:
    for name, value in changes:
        if mode.driver == "psycopg2":
            setattr(connection, name.replace("_only", "only"), value)
        else:
            setattr(connection, name, value)


async def _change_async(mode: Quiet, connection: Any, changes: Any) -> None:
    for name, value in changes:
        await getattr(connection, f"set_{name}")(value)


def _settings(mode: Quiet, connection: Any) -> tuple[Any, ...]:
    read_only = "readonly" if mode.driver == "psycopg2" else "read_only"
    return tuple(
        getattr(connection, name)
        for name in ("autocommit", "isolation_level", read_only, "deferrable")
    )


def _no_asyncpg(mode: Quiet) -> None:
    if mode.driver == "asyncpg":
        pytest.skip("it has no such settings")


@pytest.mark.parametrize(
    ("mode", "name", "reset", "open_"),
    [
        _cell(kind, reset == "rollback" and open_, name, reset, open_)
        for kind in KINDS
        if kind.driver != "asyncpg"
        for name in SETTINGS
        for reset in ("rollback", "commit", "full")
        for open_ in (False, True)
    ],
    indirect=["mode"],
)
async def test_changes_are_put_back(
    mode: Quiet, name: str, reset: Any, open_: bool
) -> None:
    pool = mode.pool(reset_on_return=reset)
    async with mode.block(pool.connect()) as connection:
        before = _settings(mode, connection)
        session = await mode.new_session(pool, connection)
        change: Any = _change_async if mode.coroutines else _change
        await mode.use(pool, change, mode, connection, SETTINGS[name])
        assert _settings(mode, connection) != before
        if open_:
            await mode.use(pool, _executes("BEGIN", "SELECT 1"), mode, connection)
    for _ in range(2):
        async with mode.block(pool.connect()) as connection:
            assert _settings(mode, connection) == before
            await _finds(mode, pool, connection)
            for question in ("transaction_isolation", "default_transaction_isolation"):
                level = await mode.execute(pool, connection, f"SHOW {question}")
                assert level == "read committed"
            assert await mode.session(pool, connection) == session
            mode.server.ask(f"DELETE FROM {mode.server.table}")


@pytest.mark.parametrize("reset", ["rollback", "full"])
async def test_what_the_creator_and_listeners_chose_stays(mode: Quiet, reset: Any) -> None:
    """It is what callers' changes are taken back to."""
    _no_asyncpg(mode)
    change: Any = _change_async if mode.coroutines else _change

    class Chooses:
        def connect(self, connection: Any, record: object) -> Any:
            return change(mode, connection, (("isolation_level", 3), ("autocommit", True)))

    pool = mode.pool(reset_on_return=reset, listeners=[Chooses()])
    for _ in range(3):
        async with mode.block(pool.connect()) as connection:
            assert _settings(mode, connection)[:2] == (True, 3)
            changes = (("isolation_level", 4), ("autocommit", False))
            await mode.use(pool, change, mode, connection, changes)
    assert mode.proxy.connects == 1


async def test_no_reset_leaves_changes_to_the_next_caller(mode: Quiet) -> None:
    _no_asyncpg(mode)
    pool = mode.pool(reset_on_return=None)
    async with mode.block(pool.connect()) as connection:
        change: Any = _change_async if mode.coroutines else _change
        await mode.use(pool, change, mode, connection, SETTINGS["autocommit"])
    async with mode.block(pool.connect()) as connection:
        assert connection.autocommit
    assert mode.proxy.connects == 1


# What a full reset puts back beside that.

PYTHON_SIDE: dict[str, tuple[str, ...]] = {
    "psycopg": (
        "row_factory",
        "cursor_factory",
        "server_cursor_factory",
        "prepare_threshold",
        "prepared_max",
        "_notice_handlers",
        "_notify_handlers",
    ),
    "psycopg2": ("cursor_factory", "encoding", "string_types", "binary_types", "notices"),
    "asyncpg": ("_log_listeners", "_termination_listeners", "_query_loggers", "_listeners"),
}


def _python_side(mode: Quiet, connection: Any) -> list[Any]:
    values = [getattr(connection, name) for name in PYTHON_SIDE[mode.driver]]
    return [
        value.copy() if isinstance(value, (list, dict, set)) else value for value in values
    ]


def _heard(*news: object) -> None:
    raise AssertionError("somebody else's")


def _spoil(mode: Quiet, connection: Any) -> None:
    if mode.driver == "psycopg":
        _spoil_psycopg(connection, psycopg.ClientCursor, psycopg.ServerCursor)
        return
    connection.set_client_encoding("LATIN1")
    connection.cursor_factory = psycopg2.extensions.cursor
    text = psycopg2.extensions.new_type((25,), "TEXT", lambda value, cursor: "spoilt")
    psycopg2.extensions.register_type(text, connection)
    _execute(connection, "DO $$ BEGIN RAISE NOTICE 'x'; END $$")
    assert connection.notices


async def _spoil_async(mode: Quiet, connection: Any) -> None:
    if mode.driver == "psycopg":
        cursors = psycopg.AsyncClientCursor, psycopg.AsyncServerCursor
        _spoil_psycopg(connection, *cursors)
        return
    connection.add_log_listener(_heard)
    connection.add_termination_listener(_heard)
    connection.add_query_logger(print)
    await connection.add_listener("quiet", _heard)
    for kind in ("text", "int4"):
        await connection.set_type_codec(
            kind, schema="pg_catalog", encoder=str, decoder=lambda value: "spoilt"
        )


def _spoil_psycopg(connection: Any, client: Any, server: Any) -> None:
    connection.row_factory = dict_row
    connection.cursor_factory = client
    connection.server_cursor_factory = type("Odd", (server,), {})
    connection.prepare_threshold = None
    connection.prepared_max = 7
    connection.add_notice_handler(_heard)
    connection.add_notify_handler(_heard)
    connection.adapters.register_loader("text", IntLoader)


class Handlers:
    """A connect listener that adds a listener of its own to the connection."""

    def connect(self, connection: Any, record: object) -> None:
        if isinstance(connection, asyncpg.Connection):
            connection.add_log_listener(print)
        elif hasattr(connection, "add_notice_handler"):
            connection.add_notice_handler(print)


async def test_full_reset_of_the_python_side(mode: Quiet) -> None:
    pool = mode.pool(reset_on_return="full", listeners=[Handlers()])
    question = "SELECT 'plain'::text"
    spoil: Any = _spoil_async if mode.coroutines else _spoil
    async with mode.block(pool.connect()) as connection:
        before = _python_side(mode, connection)
        await mode.use(pool, spoil, mode, connection)
        after = _python_side(mode, connection)
        for name, one, other in zip(PYTHON_SIDE[mode.driver], before, after, strict=True):
            assert one != other or name == "binary_types", name
    for _ in range(2):
        async with mode.block(pool.connect()) as connection:
            assert _python_side(mode, connection) == before
            assert await mode.execute(pool, connection, question) == "plain"
            assert await mode.execute(pool, connection, "SELECT 1") == 1
    assert mode.proxy.connects == 1


async def test_full_reset_of_adapters(mode: Quiet) -> None:
    """Those that the connection was made with stay, the caller's go."""
    if mode.driver != "psycopg":
        pytest.skip("it has no such thing")
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_loader("int4", TextLoader)
    creator = mode.creator(context=_Context(adapters))
    pool = mode.pool(reset_on_return="full", creator=creator)
    for _ in range(3):
        async with mode.block(pool.connect()) as connection:
            assert await mode.execute(pool, connection, "SELECT 1") == "1"
            assert await mode.execute(pool, connection, "SELECT '2'::text") == "2"
            register = connection.adapters.register_loader
            register("text", IntLoader)
            assert await mode.execute(pool, connection, "SELECT '2'::text") == 2
    assert mode.proxy.connects == 1


class _Context:
    connection = None

    def __init__(self, adapters: AdaptersMap) -> None:
        self.adapters = adapters


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1250"])
async def test_full_reset_of_the_encoding(mode: Quiet, encoding: str) -> None:
    """The original's comes back, whichever way the caller's came."""
    if mode.driver == "asyncpg":
        pytest.skip("it speaks nothing but UTF-8")
    pool = mode.pool(reset_on_return="full", creator=mode.creator(client_encoding="LATIN2"))
    own = (f"SET client_encoding TO '{encoding}'", "COMMIT")
    for ways in (own, (), own):
        async with mode.block(pool.connect()) as connection:
            assert await mode.execute(pool, connection, "SHOW client_encoding") == "LATIN2"
            assert await mode.execute(pool, connection, "SELECT chr(337)") == "ő"
            await mode.rollback(pool, connection)
            if ways or mode.driver != "psycopg2":
                await mode.use(pool, _executes(*own), mode, connection)
            else:
                await mode.use(pool, connection.set_client_encoding, encoding)
    assert mode.proxy.connects == 1


async def test_full_reset_of_dates(mode: Quiet) -> None:
    """psycopg2 reads dates in one style only, and sets that by itself."""
    pool = mode.pool(reset_on_return="full")
    question = "SELECT DATE '2024-02-03'"
    async with mode.block(pool.connect()) as connection:
        before = await mode.execute(pool, connection, question)
        await mode.use(pool, _executes("SET datestyle TO German"), mode, connection)
    async with mode.block(pool.connect()) as connection:
        assert await mode.execute(pool, connection, question) == before
    assert mode.proxy.connects == 1


async def test_full_reset_of_notifications_not_yet_read(mode: Quiet) -> None:
    if mode.driver == "asyncpg":
        pytest.skip("it keeps none")
    pool = mode.pool(reset_on_return="full")
    async with mode.block(pool.connect()) as connection:
        statements = ("LISTEN quiet", "NOTIFY quiet, 'secret'", "COMMIT", "SELECT 1")
        await mode.use(pool, _executes(*statements), mode, connection)
        assert _notes(connection)
    async with mode.block(pool.connect()) as connection:
        assert not _notes(connection)
    assert mode.proxy.connects == 1


def _notes(connection: Any) -> Any:
    if isinstance(connection, psycopg2.extensions.connection):
        return connection.notifies
    return connection._notifies_backlog


# Failovers.


async def test_standby_that_was_the_primary(mode: Quiet) -> None:
    """Each caller sees one error at most, and the connections to it are given up."""
    made: list[object] = []
    default = "default_transaction_read_only"
    old: Any = (
        {"server_settings": {default: "on"}}
        if mode.driver == "asyncpg"
        else {"options": f"-c {default}=on"}
    )
    old_one, new_one = mode.creator(**old), mode.creator()

    def connect() -> Any:
        made.append(None)
        return old_one() if len(made) <= 2 else new_one()

    async def connect_async() -> Any:
        return await connect()

    pool = mode.pool(
        creator=connect_async if mode.coroutines else connect,
        pool_size=2,
        on_disconnect="pool",
    )
    async with mode.block(pool.unique_connection()):
        async with mode.block(pool.unique_connection()):
            assert len(made) == 2
    failures = 0
    for number in range(6):
        try:
            async with mode.block(pool.connect()) as connection:
                await mode.execute(
                    pool, connection, f"INSERT INTO {mode.server.table} VALUES ({number})"
                )
        except Exception as error:
            code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
            assert code == "25006"
            failures += 1
    assert failures == 1


OWN_WISH = {
    "begin": ("BEGIN READ ONLY",),
    "session": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "COMMIT",
        "BEGIN",
    ),
}


@pytest.mark.parametrize("how", [*OWN_WISH, "setting", "autocommit"])
async def test_transaction_that_its_user_wants_to_be_read_only(
    mode: Quiet, how: str
) -> None:
    """The same error, but no failover."""
    pool = mode.pool(on_disconnect="pool", reset_on_return="full")
    for _ in range(2):
        with pytest.raises(Exception, match="read-only transaction"):
            async with mode.block(pool.connect()) as connection:
                if how in OWN_WISH:
                    await mode.use(pool, _executes(*OWN_WISH[how]), mode, connection)
                else:
                    _no_asyncpg(mode)
                    change: Any = _change_async if mode.coroutines else _change
                    changes = (("autocommit", how == "autocommit"), ("read_only", True))
                    await mode.use(pool, change, mode, connection, changes)
                    if how == "autocommit" and mode.driver == "psycopg":
                        await mode.use(pool, _executes("BEGIN READ ONLY"), mode, connection)
                await mode.execute(pool, connection, _insert(mode))
    async with mode.block(pool.connect()) as connection:
        await mode.execute(pool, connection, _insert(mode))
    assert mode.proxy.connects == 1


@pytest.mark.parametrize(
    ("standby", "default", "from_the_start", "expected"),
    [
        ("on", "off", False, True),
        ("off", "off", True, False),
        ("off", "on", True, True),
        ("off", "on", False, False),
        (None, None, False, True),
    ],
)
def test_what_the_server_reports_of_itself(
    standby: str | None, default: str | None, from_the_start: bool, expected: bool
) -> None:
    reports = {"in_hot_standby": standby, "default_transaction_read_only": default}
    assert is_read_only(reports.get, from_the_start) == expected
