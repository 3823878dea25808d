"""Drivers that nobody told anypool of: what generic drivers make of them."""

from __future__ import annotations

import asyncio
import errno
import sys
from types import ModuleType
from typing import Any

import anyio
import pytest

import anypool
from anypool import sync
from anypool._drivers.registry import driver_for


class Error(Exception):
    """As PEP 249 wants it."""


class OperationalError(Error):
    """Says nothing about whether the connection is lost."""


class IntegrityError(Error):
    """About data."""


class ProgrammingError(Error):
    """About the program."""


class Session:
    """A server's side of a connection, and the client's, with the bare minimum."""

    def __init__(self) -> None:
        self.alive = True
        self.statements: list[str] = []

    def execute(self, statement: str) -> None:
        if not self.alive:
            raise OperationalError("it did not work")
        self.statements.append(statement)

    def close(self) -> None:
        self.alive = False


class Minimal(Session):
    """A DB-API connection whose rollback() has nothing to do, and so notices nothing."""

    def rollback(self) -> None:
        """Do nothing."""

    def cursor(self) -> Any:
        return self

    def fetchall(self) -> list[Any]:
        return []


class WithoutMethods(Session):
    """As apsw's: transactions by statements only."""

    in_transaction = False

    def cursor(self) -> Any:
        return self

    def execute(self, statement: str) -> None:
        super().execute(statement)
        self.in_transaction = statement == "BEGIN"

    def close(self) -> None:
        """Be a cursor's, here."""


class Refusing(Session):
    """As aiopg's: rollback() is there, but not for use."""

    closed = False

    async def rollback(self) -> None:
        raise ProgrammingError("can't be used here")

    async def execute(self, statement: str) -> None:  # type: ignore[override]
        super().execute(statement)

    async def close(self) -> None:  # type: ignore[override]
        self.closed = True


class Line:
    """No database, but a line to a peer that answers in turn."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Answering(Line):
    """One whose peer answers a ping."""

    def __init__(self) -> None:
        self.pings = 0

    def ping(self) -> None:
        self.pings += 1


class AsyncDBAPI:
    """DB-API 2.0 with coroutines: statements are a cursor's."""

    def __init__(self) -> None:
        self.session = Session()

    async def rollback(self) -> None:
        """Do nothing."""

    async def cursor(self) -> Any:
        return AsyncCursor(self.session)

    async def close(self) -> None:
        """Do nothing."""


class AsyncCursor:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def execute(self, statement: str) -> None:
        self._session.execute(statement)

    async def close(self) -> None:
        self._session.statements.append("closed")


class WithLoop(Refusing):
    """As aiopg's: asks for the event loop before there is anything to await."""

    def __init__(self) -> None:
        asyncio.get_running_loop()
        super().__init__()

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self


def fail(pool: sync.Pool[Any], error: Exception) -> None:
    with pytest.raises(type(error)):
        with pool.connect():
            raise error


def test_an_error_that_says_nothing_costs_a_ping() -> None:
    pool = sync.QueuePool(Minimal, pool_size=1)
    for error in (ValueError(), IntegrityError()):
        fail(pool, error)
        with pool.connect() as first:
            assert first.statements == []
    fail(pool, OperationalError())
    with pool.connect() as connection:
        assert connection is first
        assert connection.statements == ["SELECT 1"]
    with pytest.raises(OperationalError):
        with pool.connect() as connection:
            connection.alive = False
            connection.execute("SELECT 2")
    with pool.connect() as connection:
        assert connection is not first
    pool.dispose()


class Closable(Minimal):
    """Tells that it is closed, but not by its rollback()."""

    closed = False

    def close(self) -> None:
        self.closed = True


class AsyncClosable(Refusing):
    async def rollback(self) -> None:
        """Do nothing."""


def test_closed_by_its_user() -> None:
    async def connect() -> AsyncClosable:
        return AsyncClosable()

    for creator in (Closable, connect):
        pool: sync.QueuePool[Any] = sync.QueuePool(creator, pool_size=1)
        with pool.connect() as first:
            pass
        with pool.connect() as connection:
            assert connection is first
            pool.call(connection.close)
        with pool.connect() as connection:
            assert connection is not first
        pool.dispose()


def test_transactions_by_statements() -> None:
    pool = sync.QueuePool(WithoutMethods, pool_size=1)
    with pool.connect() as first:
        first.execute("BEGIN")
    with pool.connect() as connection:
        assert connection is first
        assert connection.statements == ["BEGIN", "rollback"]
    with pool.connect() as connection:
        assert connection.statements == ["BEGIN", "rollback"]


async def _refused_rollback() -> None:
    async def connect() -> Refusing:
        return Refusing()

    pool = anypool.QueuePool(connect, pool_size=1)
    async with pool.connect() as first:
        pass
    async with pool.connect() as connection:
        assert connection is first
        assert connection.statements == ["rollback"]
    await pool.dispose()


def test_a_rollback_that_is_not_for_use() -> None:
    anyio.run(_refused_rollback)


@pytest.mark.parametrize(
    ("error", "survives"),
    [
        (ValueError(), True),
        (TimeoutError(), False),  # the answer may still come, for the next caller
        (BrokenPipeError(), False),
        (OSError("no route"), False),
    ],
)
def test_lines(error: Exception, survives: bool) -> None:
    pool = sync.QueuePool(Line, pool_size=1)
    with pool.connect() as first:
        pass
    fail(pool, error)
    with pool.connect() as connection:
        assert (connection is first) == survives
    with pool.connect() as connection:
        connection.close()
    with pool.connect() as other:
        assert other is not connection, "its user closed it"
    pool.dispose()


async def _streams() -> None:
    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send(await stream.receive())

    async with anyio.create_task_group() as tasks:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.start_soon(listener.serve, answer)
        pool = anypool.QueuePool(lambda: anyio.connect_tcp("127.0.0.1", port), pool_size=1)
        async with pool.connect() as first:
            pass
        with pytest.raises(anyio.EndOfStream):
            async with pool.connect() as stream:
                assert stream is first
                await stream.send(b"once")
                assert await stream.receive() == b"once"
                await stream.receive()
        async with pool.connect() as stream:
            assert stream is not first
            await stream.send(b"again")
            assert await stream.receive() == b"again"
            await stream.aclose()
        async with pool.connect() as other:
            assert other is not stream
        await pool.dispose()
        tasks.cancel_scope.cancel()
    await listener.aclose()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_streams_of_anyio(backend: str) -> None:
    anyio.run(_streams, backend=backend)


def test_a_creator_that_asks_for_the_event_loop() -> None:
    async def main() -> None:
        pool = anypool.QueuePool(lambda: WithLoop(), pool_size=1)
        async with pool.connect() as connection:
            await connection.execute("SELECT 1")
        await pool.dispose()

    anyio.run(main)
    pool = sync.QueuePool(lambda: WithLoop(), pool_size=1)
    with pool.connect() as first:
        pool.call(first.execute, "SELECT 1")
    with pool.connect() as connection:
        assert connection is first
    pool.dispose()


def test_a_line_of_which_nothing_bad_is_known_is_kept_by_its_ping() -> None:
    pool = sync.QueuePool(Answering, pool_size=1)
    with pool.connect() as first:
        pass
    fail(pool, OSError("no route"))
    with pool.connect() as line:
        assert (line, line.pings) == (first, 1)
    pool.dispose()
    pool = sync.QueuePool(Answering, pool_size=1, pre_ping=True)
    for pings in (0, 1, 2):
        with pool.connect() as line:
            assert line.pings == pings
    pool.dispose()


@pytest.mark.parametrize("creator", [Minimal, Line])
def test_a_session_that_nothing_resets_is_replaced(creator: Any) -> None:
    pool = sync.QueuePool(creator, pool_size=1, reset_on_return="full")
    with pool.connect() as first:
        pass
    with pool.connect() as connection:
        assert connection is not first
    pool.dispose()


def test_closed_by_its_user_and_says_so_by_errors() -> None:
    pool = sync.QueuePool(Embedded, pool_size=1)
    with pool.connect() as first:
        pass
    with pool.connect() as connection:
        assert connection is first
        connection.close()
    with pool.connect() as connection:
        assert connection is not first
    pool.dispose()


class Embedded(Session):
    """As apsw's: has no state any more when it is closed."""

    @property
    def in_transaction(self) -> bool:
        if not self.alive:
            raise OperationalError("closed")
        return False

    def cursor(self) -> Any:
        return self


async def _channels() -> None:
    async def connect() -> Channel:
        return Channel()

    pool = anypool.QueuePool(connect, pool_size=1, pre_ping=True)
    async with pool.connect() as first:
        pass
    with pytest.raises(OSError, match="no route"):
        async with pool.connect() as channel:
            assert channel is first, "there is no way to ping it"
            raise OSError("no route")
    async with pool.connect() as channel:
        assert channel is not first
    await pool.dispose()

    pool = anypool.QueuePool(AnsweringChannel.connect, pool_size=1, pre_ping=True)
    for pings in (0, 1):
        async with pool.connect() as channel:
            assert channel.pings == pings
    with pytest.raises(OSError, match="no route"):
        async with pool.connect() as channel:
            assert channel.pings == 2
            raise OSError("no route")
    async with pool.connect() as channel:
        assert channel.pings == 4, "once on return, once before the checkout"
    await pool.dispose()


class Channel:
    """An async line."""

    pings = 0

    async def aclose(self) -> None:
        """Do nothing."""


class AnsweringChannel(Channel):
    @classmethod
    async def connect(cls) -> Channel:
        return cls()

    async def ping(self) -> None:
        self.pings += 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_channels(backend: str) -> None:
    anyio.run(_channels, backend=backend)


async def _no_statements() -> None:
    async def connect() -> Transactional:
        return Transactional()

    pool = anypool.QueuePool(connect, pool_size=1, pre_ping=True)
    for rollbacks in (0, 2, 4):
        async with pool.connect() as connection:
            assert connection.rollbacks == rollbacks
    await pool.dispose()


class Transactional(Channel):
    """A store, say: it has transactions and no statements."""

    rollbacks = 0

    async def rollback(self) -> None:
        self.rollbacks += 1


def test_transactions_without_statements() -> None:
    anyio.run(_no_statements)


def test_pings_without_a_transaction_to_end() -> None:
    pool = sync.QueuePool(Statements, pool_size=1, pre_ping=True)
    for statements in ([], ["SELECT 1"]):
        with pool.connect() as connection:
            assert connection.statements == statements
    pool.dispose()


class Statements(Session):
    """A DB-API connection that knows of no transactions."""

    def cursor(self) -> Any:
        return Cursor(self)


class Cursor:
    def __init__(self, session: Session) -> None:
        self.execute = session.execute

    def fetchall(self) -> list[Any]:
        return []

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_pings_by_an_asynchronous_cursor(backend: str) -> None:
    async def connect() -> AsyncDBAPI:
        return AsyncDBAPI()

    async def main() -> None:
        pool = anypool.QueuePool(connect, pool_size=1, pre_ping=True)
        async with pool.connect() as first:
            pass
        async with pool.connect() as connection:
            assert connection is first
            assert connection.session.statements == ["SELECT 1", "closed"]
            connection.session.alive = False
        async with pool.connect() as connection:
            assert connection is not first
        await pool.dispose()

    anyio.run(main, backend=backend)


class StateError(Error):
    """As PostgreSQL's drivers have it."""

    def __init__(self, state: str) -> None:
        self.sqlstate = state


def caused(error: Exception, cause: Exception) -> Exception:
    """Give an error a cause, as ``raise ... from`` does."""
    error.__cause__ = cause
    return error


MYSQL_LOSSES = (0, 1053, 1927, 2006, 2013, 2014, 2055, 4031)
POSTGRESQL_LOSSES = ("08000", "08006", "57P01", "57P02", "57P04", "57P05", "25P03")


@pytest.mark.parametrize(
    ("error", "closed", "lost"),
    [
        (OperationalError(), False, False),
        (OperationalError(), True, True),
        (caused(OperationalError(), ConnectionResetError()), False, True),
        (caused(OperationalError(), ValueError()), False, False),
        (caused(ValueError(), ConnectionResetError()), False, False),
        (OSError(errno.ETIMEDOUT, "timed out"), False, False),
        (OSError(errno.ETIMEDOUT, "timed out"), True, True),
        (TimeoutError(), True, False),  # that of some scope
        (OperationalError({"C": "57P01"}), False, True),  # pg8000's
        (OperationalError({"C": "23505"}), False, False),
        *((OperationalError(code, "lost"), False, True) for code in MYSQL_LOSSES),
        *((OperationalError(code, "no loss"), False, False) for code in (1054, 1926, 2005)),
        *((StateError(state), False, True) for state in POSTGRESQL_LOSSES),
        *((StateError(state), False, False) for state in ("23505", "57014", "0A000")),
    ],
)
def test_which_errors_mean_a_loss(error: Exception, closed: bool, lost: bool) -> None:
    connection = Closable()
    connection.closed = closed
    assert driver_for(connection, awaited=False).is_disconnect(error, connection) == lost


class Hidden(Session):
    """Its methods are plain ones, and return what has to be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[str] = []

    def rollback(self) -> Any:
        return self._end("rollback")

    def commit(self) -> Any:
        return self._end("commit")

    async def _end(self, how: str) -> None:
        self.ended.append(how)

    def close(self) -> Any:
        return self._close()

    async def _close(self) -> None:
        super().close()


class Declared(Hidden):
    """Its methods are coroutine methods, which a blocking creator can't tell of."""

    async def rollback(self) -> None:
        self.ended.append("rollback")

    async def commit(self) -> None:
        self.ended.append("commit")

    async def close(self) -> None:  # type: ignore[override]  # another kind of session
        await self._close()


@pytest.mark.parametrize("how", ["rollback", "commit"])
@pytest.mark.parametrize("kind", ["QueuePool", "NullPool"])
@pytest.mark.parametrize("connection_type", [Hidden, Declared])
def test_what_methods_return_is_awaited(
    connection_type: type[Hidden], kind: str, how: Any
) -> None:
    pool: sync.Pool[Any] = getattr(sync, kind)(connection_type, reset_on_return=how)
    for _ in range(2):
        with pool.connect() as connection:
            pass
    assert connection.ended == [how] * len(connection.ended)
    assert len(connection.ended) == (2 if kind == "QueuePool" else 1)
    pool.close()
    assert not connection.alive

    async def main() -> None:
        pool: anypool.Pool[Any] = getattr(anypool, kind)(
            connection_type, reset_on_return=how
        )
        for _ in range(2):
            async with pool.connect() as connection:
                pass
        assert connection.ended == [how] * (2 if kind == "QueuePool" else 1)
        await pool.close()
        assert not connection.alive

    anyio.run(main)


@pytest.mark.filterwarnings("ignore:.*get_event_loop_policy.*:DeprecationWarning")
def test_creator_that_asks_for_a_loop_in_the_old_way() -> None:
    def create() -> Any:
        loop = asyncio.get_event_loop_policy().get_event_loop()
        connecting = loop.create_future()
        connecting.set_result(Minimal())
        return connecting

    async def main() -> None:
        pool = anypool.QueuePool(create)
        async with pool.connect() as connection:
            assert connection.alive
        await pool.close()

    asyncio.run(main())


@pytest.mark.parametrize("error", [TimeoutError, OperationalError])
def test_connection_whose_time_was_up_is_not_the_next_callers(
    error: type[Exception],
) -> None:
    """An answer may still be on its way there, and a ping would take it for its own.

    Whatever the error that comes afterwards.
    """
    pool = sync.QueuePool(Minimal, pool_size=1, max_overflow=0)
    with pytest.raises(error), pool.connect() as first:
        with pytest.raises(TimeoutError), pool.connect():
            raise TimeoutError
        raise error
    with pool.connect() as connection:
        assert connection is not first
    assert not first.alive


def test_errors_that_a_drivers_package_takes_from_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = ModuleType("wrapper")
    module.Error = LookupError  # type: ignore[attr-defined]  # a made-up module
    monkeypatch.setitem(sys.modules, "wrapper", module)
    connection: Any = type("Connection", (), {"__module__": "wrapper.client"})()
    is_disconnect = driver_for(connection, awaited=False).is_disconnect
    assert is_disconnect(KeyError(2013), connection)
    assert not is_disconnect(KeyError(1062), connection)
    assert not is_disconnect(ValueError(2013), connection)


class Unsure(Minimal):
    """Says nothing about itself, by all the means there are."""

    @property
    def closed(self) -> bool:
        raise RuntimeError

    def is_closed(self) -> bool:
        raise RuntimeError


class Moody(WithoutMethods):
    """Says whether it is closed for as long as it is not."""

    moody = False

    @property
    def closed(self) -> bool:
        if self.moody:
            raise RuntimeError
        return False


class Counting(Minimal):
    """As psycopg2's: counts how it was closed."""

    closed = 0


class Polite(Minimal):
    """A driver's that can be asked in a plain method."""

    gone = False

    def is_closed(self) -> bool:
        return self.gone


class Open(Minimal):
    """As MySQLdb's."""

    open = 1


class Socket(Minimal):
    """As pg8000's."""

    _usock: Any = object()


class Stream(Minimal):
    """As trio's."""

    def __init__(self) -> None:
        super().__init__()
        self.socket = self
        self.number = 3

    def fileno(self) -> int:
        return self.number


class AsyncAnswer(Minimal):
    """One that has to be awaited is no answer."""

    def is_closed(self) -> Any:
        async def answer() -> bool:
            return True

        return answer()


@pytest.mark.parametrize(
    ("creator", "name", "value"),
    [
        (Closable, "closed", True),
        (Counting, "closed", 1),
        (Polite, "gone", True),
        (Open, "open", 0),
        (Socket, "_usock", None),
        (Stream, "number", -1),
    ],
)
def test_connections_that_look_closed_are_replaced(
    creator: Any, name: str, value: object
) -> None:
    pool = sync.QueuePool(creator, pool_size=1)
    with pool.connect() as first:
        pass
    with pool.connect() as connection:
        assert connection is first
        setattr(connection, name, value)
    with pool.connect() as connection:
        assert connection is not first
    pool.dispose()


@pytest.mark.parametrize("creator", [Unsure, AsyncAnswer, Moody])
def test_connections_that_do_not_say_are_taken_for_open(creator: Any) -> None:
    pool = sync.QueuePool(creator, pool_size=1)
    with pool.connect() as first:
        pass
    for _ in range(2):
        with pool.connect() as connection:
            assert connection is first
            connection.moody = True
    pool.dispose()
