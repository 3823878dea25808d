"""Creators of every form and of every driver with types, in both modes.

psycopg's connections have an Any in their type unless one says otherwise, which mypy may
take for a creator of anything.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, TypeVar, assert_type

import aiosqlite
import asyncpg
import duckdb
import psycopg
import psycopg2.extensions
import pymysql.connections
from psycopg.rows import DictRow, TupleRow

import anypool
from anypool import sync

ConnT = TypeVar("ConnT")

AsyncTuples = psycopg.AsyncConnection[TupleRow]
AsyncDicts = psycopg.AsyncConnection[DictRow]
Tuples = psycopg.Connection[TupleRow]
Dicts = psycopg.Connection[DictRow]


def open_blocking() -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect("dbname=app")


async def open_async() -> psycopg.AsyncConnection[tuple[Any, ...]]:
    return await psycopg.AsyncConnection.connect("dbname=app")


async def open_aiosqlite() -> aiosqlite.Connection:
    return await aiosqlite.connect("app.db")


def open_with(path: str) -> Tuples:
    return psycopg.connect(path)


async def open_async_with(path: str) -> AsyncTuples:
    return await psycopg.AsyncConnection.connect(path)


class Creator:
    """A callable object; its methods are creators, too."""

    def __call__(self) -> Tuples:
        return open_blocking()

    def method(self) -> Tuples:
        return open_blocking()

    @staticmethod
    def static() -> Tuples:
        return open_blocking()


class AsyncCreator:
    """The same, of coroutines."""

    async def __call__(self) -> AsyncTuples:
        return await open_async()

    async def method(self) -> AsyncTuples:
        return await open_async()

    @classmethod
    async def of_class(cls) -> AsyncTuples:
        return await open_async()


class Own:
    """A connection that is made by calling its class."""

    notes: dict[str, Any]


class Awaited:
    """A class whose call gives an awaitable, which is no coroutine."""

    def __await__(self) -> Generator[Any, None, AsyncTuples]:
        return open_async().__await__()


class Itself:
    """An awaitable that gives itself, as aiosqlite.Connection."""

    def __await__(self) -> Generator[Any, None, Itself]:
        raise NotImplementedError


class Pair(psycopg.Connection[Any]):
    """A subclass."""


def open_pair() -> Pair:
    return Pair.connect("dbname=app")


def open_row(row: type[ConnT]) -> psycopg.Connection[ConnT]:
    """A generic function."""
    raise NotImplementedError


def async_pools() -> None:
    assert_type(anypool.QueuePool(open_async), anypool.QueuePool[AsyncTuples])
    assert_type(anypool.QueuePool(open_blocking), anypool.QueuePool[Tuples])
    assert_type(
        anypool.QueuePool(lambda: psycopg.AsyncConnection.connect("dbname=app")),
        anypool.QueuePool[AsyncTuples],
    )
    assert_type(
        anypool.QueuePool(lambda: AsyncDicts.connect("dbname=app"), pool_size=2),
        anypool.QueuePool[AsyncDicts],
    )
    assert_type(anypool.QueuePool(lambda: open_async()), anypool.QueuePool[AsyncTuples])
    assert_type(
        anypool.QueuePool(lambda: psycopg.connect("dbname=app")), anypool.QueuePool[Tuples]
    )
    assert_type(
        anypool.QueuePool(lambda: Dicts.connect("dbname=app")), anypool.QueuePool[Dicts]
    )
    assert_type(
        anypool.QueuePool(partial(open_async_with, "dbname=app")),
        anypool.QueuePool[AsyncTuples],
    )
    assert_type(anypool.QueuePool(partial(open_with, "")), anypool.QueuePool[Tuples])
    assert_type(anypool.QueuePool(AsyncCreator()), anypool.QueuePool[AsyncTuples])
    assert_type(anypool.QueuePool(AsyncCreator().method), anypool.QueuePool[AsyncTuples])
    assert_type(anypool.QueuePool(AsyncCreator.of_class), anypool.QueuePool[AsyncTuples])
    assert_type(anypool.QueuePool(Creator()), anypool.QueuePool[Tuples])
    assert_type(anypool.QueuePool(Creator().method), anypool.QueuePool[Tuples])
    assert_type(anypool.QueuePool(Creator.static), anypool.QueuePool[Tuples])
    assert_type(anypool.QueuePool(Own), anypool.QueuePool[Own])
    assert_type(anypool.QueuePool(Awaited), anypool.QueuePool[AsyncTuples])
    assert_type(anypool.QueuePool(Itself), anypool.QueuePool[Itself])
    assert_type(anypool.QueuePool(open_pair), anypool.QueuePool[Pair])
    assert_type(
        anypool.QueuePool(lambda: open_row(int)), anypool.QueuePool[psycopg.Connection[int]]
    )
    assert_type(anypool.NullPool(open_async), anypool.NullPool[AsyncTuples])
    assert_type(anypool.NullPool(open_blocking), anypool.NullPool[Tuples])
    assert_type(anypool.StaticPool(open_async), anypool.StaticPool[AsyncTuples])
    assert_type(anypool.AssertionPool(open_async), anypool.AssertionPool[AsyncTuples])
    assert_type(
        anypool.SingletonTaskPool(open_async), anypool.SingletonTaskPool[AsyncTuples]
    )
    assert_type(anypool.SingletonTaskPool(open_blocking), anypool.SingletonTaskPool[Tuples])
    assert_type(anypool.QueuePool(open_async).recreate(), anypool.QueuePool[AsyncTuples])


def blocking_pools() -> None:
    assert_type(sync.QueuePool(open_async), sync.QueuePool[AsyncTuples])
    assert_type(sync.QueuePool(open_blocking), sync.QueuePool[Tuples])
    assert_type(
        sync.QueuePool(lambda: psycopg.AsyncConnection.connect("dbname=app")),
        sync.QueuePool[AsyncTuples],
    )
    assert_type(
        sync.QueuePool(lambda: psycopg.connect("dbname=app"), timeout=1),
        sync.QueuePool[Tuples],
    )
    assert_type(sync.QueuePool(lambda: Dicts.connect("")), sync.QueuePool[Dicts])
    assert_type(
        sync.QueuePool(partial(open_async_with, "dbname=app")), sync.QueuePool[AsyncTuples]
    )
    assert_type(sync.QueuePool(partial(open_with, "")), sync.QueuePool[Tuples])
    assert_type(sync.QueuePool(AsyncCreator()), sync.QueuePool[AsyncTuples])
    assert_type(sync.QueuePool(AsyncCreator().method), sync.QueuePool[AsyncTuples])
    assert_type(sync.QueuePool(Creator()), sync.QueuePool[Tuples])
    assert_type(sync.QueuePool(Own), sync.QueuePool[Own])
    assert_type(sync.QueuePool(Awaited), sync.QueuePool[AsyncTuples])
    assert_type(sync.QueuePool(Itself), sync.QueuePool[Itself])
    assert_type(sync.QueuePool(open_pair), sync.QueuePool[Pair])
    assert_type(sync.NullPool(open_async), sync.NullPool[AsyncTuples])
    assert_type(sync.StaticPool(open_blocking), sync.StaticPool[Tuples])
    assert_type(sync.AssertionPool(open_async), sync.AssertionPool[AsyncTuples])
    assert_type(sync.SingletonThreadPool(open_async), sync.SingletonThreadPool[AsyncTuples])
    assert_type(sync.SingletonThreadPool(open_blocking), sync.SingletonThreadPool[Tuples])
    assert_type(sync.QueuePool(open_async).recreate(), sync.QueuePool[AsyncTuples])
    assert_type(sync.QueuePool(open_async).async_pool, anypool.QueuePool[AsyncTuples])


def other_drivers() -> None:
    """What has no types of its own is typed by this project's stubs."""
    assert_type(
        anypool.QueuePool(lambda: asyncpg.connect("postgresql:///app")),
        anypool.QueuePool[asyncpg.Connection],
    )
    assert_type(
        anypool.QueuePool(partial(asyncpg.connect, "postgresql:///app")),
        anypool.QueuePool[asyncpg.Connection],
    )
    assert_type(
        anypool.QueuePool(partial(aiosqlite.connect, "app.db")),
        anypool.QueuePool[aiosqlite.Connection],
    )
    # What is awaited, and what it gives, are of the same class.
    assert_type(anypool.QueuePool(open_aiosqlite), anypool.QueuePool[aiosqlite.Connection])
    assert_type(
        sync.QueuePool(lambda: pymysql.connect(host="localhost")),
        sync.QueuePool[pymysql.connections.Connection],
    )
    assert_type(
        sync.QueuePool(lambda: psycopg2.connect("dbname=app")),
        sync.QueuePool[psycopg2.extensions.connection],
    )
    assert_type(
        sync.QueuePool(lambda: duckdb.connect("app.duckdb")),
        sync.QueuePool[duckdb.DuckDBPyConnection],
    )
    assert_type(
        sync.QueuePool(partial(sqlite3.connect, "app.db")),
        sync.QueuePool[sqlite3.Connection],
    )


def annotated() -> None:
    """Whoever says the type gets that one."""
    first: anypool.QueuePool[AsyncTuples] = anypool.QueuePool(open_async)
    assert_type(first, anypool.QueuePool[AsyncTuples])
    second: anypool.QueuePool[AsyncTuples] = anypool.QueuePool(
        lambda: psycopg.AsyncConnection.connect("dbname=app")
    )
    assert_type(second, anypool.QueuePool[AsyncTuples])
    third: sync.QueuePool[Tuples] = sync.QueuePool(partial(psycopg.connect, "dbname=app"))
    assert_type(third, sync.QueuePool[Tuples])
    assert_type(anypool.QueuePool[AsyncTuples](open_async), anypool.QueuePool[AsyncTuples])
    assert_type(sync.QueuePool[AsyncTuples](open_async), sync.QueuePool[AsyncTuples])
    assert_type(sync.QueuePool[Tuples](open_blocking), sync.QueuePool[Tuples])
    # mypy knows no more of a partial of a generic function than that: an Any in its rows.
    fourth = sync.QueuePool[Tuples](partial(psycopg.connect, "dbname=app"))
    assert_type(fourth, sync.QueuePool[Tuples])
    fifth = anypool.QueuePool[AsyncTuples](
        partial(psycopg.AsyncConnection.connect, "dbname=app")
    )
    assert_type(fifth, anypool.QueuePool[AsyncTuples])
    with third.connect() as connection:
        assert_type(connection, Tuples)


def unknown(creator: Callable[[], Any], later: Callable[[], Awaitable[Any]]) -> None:
    """Where nothing is known, nothing is inferred."""
    assert_type(anypool.QueuePool(creator), anypool.QueuePool[Any])
    assert_type(anypool.QueuePool(later), anypool.QueuePool[Any])
    assert_type(sync.QueuePool(creator), sync.QueuePool[Any])
    assert_type(sync.QueuePool(later), sync.QueuePool[Any])


class TuplePool(anypool.QueuePool[AsyncTuples]):
    """A subclass for one kind of connections."""


class NamedPool(sync.QueuePool[ConnT]):
    """A subclass for all."""

    def first(self) -> ConnT:
        with self.connect() as connection:
            return connection


class OwnPool(anypool.QueuePool[AsyncTuples]):
    """A subclass with a constructor of its own."""

    def __init__(self, dsn: str) -> None:
        super().__init__(lambda: psycopg.AsyncConnection.connect(dsn), pool_size=2)


async def subclasses() -> None:
    async with TuplePool(open_async).connect() as connection:
        assert_type(connection, AsyncTuples)
    assert_type(TuplePool(open_async).recreate(), TuplePool)
    assert_type(NamedPool(open_async), NamedPool[AsyncTuples])
    assert_type(NamedPool(open_blocking).first(), Tuples)
    assert_type(NamedPool(open_blocking).recreate(), NamedPool[Tuples])
    async with OwnPool("dbname=app").connect() as connection:
        assert_type(connection, AsyncTuples)


class Module:
    """What manage() takes, if it isn't a module."""

    def connect(self, conninfo: str) -> Tuples:
        return psycopg.connect(conninfo)


class AsyncModule:
    async def connect(self, conninfo: str) -> AsyncTuples:
        return await psycopg.AsyncConnection.connect(conninfo)


async def managed() -> None:
    async with anypool.manage(AsyncModule()).connect("dbname=app") as later:
        assert_type(later, AsyncTuples)
    async with anypool.manage(Module()).connect("dbname=app") as connection:
        assert_type(connection, Tuples)
    assert_type(anypool.manage(AsyncModule()).get_pool(""), anypool.Pool[AsyncTuples])
    with sync.manage(AsyncModule()).connect("dbname=app") as later:
        assert_type(later, AsyncTuples)
    with sync.manage(Module()).connect("dbname=app") as connection:
        assert_type(connection, Tuples)
    with sync.manage(sqlite3).connect("app.db") as third:
        assert_type(third, sqlite3.Connection)
    async with anypool.manage(asyncpg).connect("postgresql:///app") as fourth:
        assert_type(fourth, asyncpg.Connection)


async def calls(connection: Tuples, later: AsyncTuples) -> None:
    """What call() gives is what the function gives, awaited if it is to be."""
    pool = anypool.QueuePool(open_blocking)
    facade = sync.QueuePool(open_async)
    assert_type(await pool.call(connection.execute, "select 1"), psycopg.Cursor[TupleRow])
    assert_type(await pool.call(len, "abc"), int)
    assert_type(await pool.call(open_async), AsyncTuples)
    assert_type(await pool.call(later.execute, "x"), psycopg.AsyncCursor[TupleRow])
    assert_type(facade.call(later.execute, "select 1"), psycopg.AsyncCursor[TupleRow])
    assert_type(facade.call(open_async), AsyncTuples)
    assert_type(facade.call(open_blocking), Tuples)
    assert_type(facade.call(len, "abc"), int)


def waiting(work: Coroutine[Any, Any, AsyncTuples]) -> None:
    assert_type(anypool.QueuePool(lambda: work), anypool.QueuePool[AsyncTuples])


def wrapped(creator: Callable[[], ConnT]) -> sync.QueuePool[ConnT]:
    """Applications wrap the constructors in functions of their own."""
    pool = sync.QueuePool(creator)
    assert_type(pool, sync.QueuePool[ConnT])
    return pool


def wrapped_later(creator: Callable[[], Awaitable[ConnT]]) -> anypool.QueuePool[ConnT]:
    pool = anypool.QueuePool(creator)
    assert_type(pool, anypool.QueuePool[ConnT])
    return pool


assert_type(wrapped(open_blocking), sync.QueuePool[Tuples])
assert_type(wrapped_later(open_async), anypool.QueuePool[AsyncTuples])


class AnyConnection:
    """A listener that doesn't care."""

    def connect(self, connection: Any, record: Any) -> None: ...
    def checkin(self, connection: object, record: object) -> None: ...


class AsyncSettings:
    """A listener that does."""

    async def connect(
        self, connection: AsyncTuples, record: anypool.ConnectionRecord[AsyncTuples]
    ) -> None: ...


class LooseSettings:
    """One whose author doesn't use types."""

    def connect(self, connection, record):  # type: ignore[no-untyped-def]  # on purpose
        pass


def listeners() -> None:
    """Whatever connections listeners take: the creator says which there are."""
    assert_type(
        anypool.QueuePool(open_async, listeners=[AnyConnection(), AsyncSettings()]),
        anypool.QueuePool[AsyncTuples],
    )
    assert_type(
        anypool.NullPool(open_async, listeners=[LooseSettings()]),
        anypool.NullPool[AsyncTuples],
    )
    assert_type(
        sync.QueuePool(open_blocking, listeners=[AnyConnection()]), sync.QueuePool[Tuples]
    )
    assert_type(
        sync.SingletonThreadPool(
            lambda: psycopg.connect("dbname=app"), listeners=(LooseSettings(),)
        ),
        sync.SingletonThreadPool[Tuples],
    )
    assert_type(
        anypool.QueuePool(open_aiosqlite, listeners=[AnyConnection()]),
        anypool.QueuePool[aiosqlite.Connection],
    )
    anypool.QueuePool(open_async).add_listener(AnyConnection())
    anypool.QueuePool(open_async).add_listener(LooseSettings())


def is_switched(error: Exception, connection: AsyncTuples) -> bool:
    return connection.closed and isinstance(error, psycopg.errors.ReadOnlySqlTransaction)


def is_any_error(error: BaseException, connection: object) -> bool:
    return isinstance(error, OSError)


def disconnects() -> None:
    """What says which errors mean a lost connection says nothing of its type."""
    read_only = psycopg.errors.ReadOnlySqlTransaction
    assert_type(
        anypool.QueuePool(open_async, is_disconnect=read_only),
        anypool.QueuePool[AsyncTuples],
    )
    assert_type(
        anypool.QueuePool(open_async, is_disconnect=(read_only, OSError)),
        anypool.QueuePool[AsyncTuples],
    )
    assert_type(
        anypool.QueuePool(open_async, is_disconnect=is_switched),
        anypool.QueuePool[AsyncTuples],
    )
    assert_type(
        anypool.StaticPool(open_async, is_disconnect=is_any_error),
        anypool.StaticPool[AsyncTuples],
    )
    assert_type(
        sync.QueuePool(open_blocking, is_disconnect=is_any_error), sync.QueuePool[Tuples]
    )
    assert_type(
        sync.QueuePool(
            lambda: psycopg.connect("dbname=app"),
            is_disconnect=lambda error, connection: connection.closed,
        ),
        sync.QueuePool[Tuples],
    )
    sync.NullPool(open_blocking, is_disconnect=None)
    anypool.create_pool("sqlite://", is_disconnect=is_any_error)
