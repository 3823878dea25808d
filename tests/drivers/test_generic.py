"""Drivers that nobody told anypool of: what generic drivers make of them."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

import anypool
from anypool import sync


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
