"""A real PostgreSQL, through psycopg (both modes) and asyncpg."""

from __future__ import annotations

from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import anypool
from anypool import sync

from ..loops import run
from ..result import OURS, Row
from .options import Options, Skip
from .real import (
    BARE,
    NO_POOL,
    AsyncConnect,
    Connect,
    Opened,
    async_contest,
    async_rolled_back,
    asyncio_loops,
    contest,
    kept,
    rolled_back,
)

_SELECT = "select 1"
_TEMPORARY = "create temporary table if not exists visits as select 0 as number"
_UPDATE = "update pg_temp.visits set number = number + 1"


def measure_psycopg(options: Options) -> list[Row]:
    """Measure psycopg, both its kinds of connections.

    Raises:
        Skip: it isn't installed, or there is no PostgreSQL.
    """
    if not find_spec("psycopg") or not find_spec("psycopg_pool"):
        raise Skip("psycopg or psycopg_pool is not installed")
    found = _psycopg(options)
    for loop in asyncio_loops(options):
        found += run(loop, _async_psycopg, options, loop)
    return found


def _psycopg(options: Options) -> list[Row]:
    import psycopg
    from psycopg_pool import ConnectionPool

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(options.postgres)

    def select(connection: psycopg.Connection[Any]) -> None:
        connection.execute(_SELECT).fetchone()

    def transact(connection: psycopg.Connection[Any]) -> None:
        with connection.transaction():
            connection.execute(_TEMPORARY)
            connection.execute(_UPDATE)

    try:
        bare = connect()
    except psycopg.OperationalError as error:
        raise Skip(f"no PostgreSQL at {options.postgres}: {error}") from error
    pool = sync.QueuePool(connect)
    with bare, ConnectionPool(options.postgres, open=True) as theirs:
        theirs.wait()
        candidates: dict[str, Connect] = {
            OURS: pool.connect,
            "psycopg_pool": theirs.connection,
            BARE: lambda: rolled_back(bare),
            NO_POOL: lambda: closing(connect()),
        }
        found = contest("psycopg, select 1", candidates, select, options)
        found += contest("psycopg, transaction", candidates, transact, options)
    pool.dispose()
    return found


async def _async_psycopg(options: Options, loop: str) -> list[Row]:
    import psycopg
    from psycopg_pool import AsyncConnectionPool

    async def connect() -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(options.postgres)

    async def select(connection: psycopg.AsyncConnection[Any]) -> None:
        await (await connection.execute(_SELECT)).fetchone()

    async def transact(connection: psycopg.AsyncConnection[Any]) -> None:
        async with connection.transaction():
            await connection.execute(_TEMPORARY)
            await connection.execute(_UPDATE)

    pool = anypool.QueuePool(connect)
    bare = await connect()
    async with bare, AsyncConnectionPool(options.postgres, open=False) as theirs:
        await theirs.wait()
        candidates: dict[str, AsyncConnect] = {
            OURS: pool.connect,
            "psycopg_pool": theirs.connection,
            BARE: lambda: async_rolled_back(bare),
            NO_POOL: lambda: Opened(connect),
        }
        found = await async_contest("psycopg, select 1", loop, candidates, select, options)
        found += await async_contest(
            "psycopg, transaction", loop, candidates, transact, options
        )
    await pool.dispose()
    return found


def measure_asyncpg(options: Options) -> list[Row]:
    """Measure asyncpg.

    Raises:
        Skip: it isn't installed, or there is no PostgreSQL.
    """
    if not find_spec("asyncpg"):
        raise Skip("asyncpg is not installed")
    loops = asyncio_loops(options)
    return [row for loop in loops for row in run(loop, _asyncpg, options, loop)]


async def _asyncpg(options: Options, loop: str) -> list[Row]:
    asyncpg: Any = import_module("asyncpg")  # the stubs here don't know of its pool

    async def connect() -> Any:
        return await asyncpg.connect(options.postgres)

    async def select(connection: Any) -> None:
        await connection.fetchval(_SELECT)

    async def transact(connection: Any) -> None:
        async with connection.transaction():
            await connection.execute(_TEMPORARY)
            await connection.execute(_UPDATE)

    try:
        bare = await connect()
    except (OSError, asyncpg.PostgresError) as error:
        raise Skip(f"no PostgreSQL at {options.postgres}: {error}") from error
    pool = anypool.QueuePool(connect)
    thorough = anypool.QueuePool(connect, reset_on_return="full")
    async with asyncpg.create_pool(options.postgres) as theirs:
        candidates: dict[str, AsyncConnect] = {
            OURS: pool.connect,
            # What asyncpg's own pool does: a round trip with each return.
            f'{OURS}, reset_on_return="full"': thorough.connect,
            "asyncpg": theirs.acquire,
            BARE: kept(bare),
            NO_POOL: lambda: Opened(connect),
        }
        found = await async_contest("asyncpg, select 1", loop, candidates, select, options)
        found += await async_contest(
            "asyncpg, transaction", loop, candidates, transact, options
        )
    await bare.close()
    await pool.dispose()
    await thorough.dispose()
    return found
