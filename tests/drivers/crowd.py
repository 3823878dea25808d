"""One of several processes that share a server: many callers over a pool of its own.

Run as ``python -m tests.drivers.crowd DRIVER NUMBER``. For each line of JSON that it is
given, with the other arguments of a Crowd, it has all callers do their work, and says
"done". It ends if anything is wrong.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anypool
from anypool import sync

CALLERS = 50
TURNS = 2


class Crowd:
    """Fifty tasks or threads, each of which writes two rows, one transaction each."""

    def __init__(
        self,
        driver: str,
        number: int,
        *,
        kind: str,
        url: str,
        table: str,
        scope: str,
        settings: dict[str, Any],
    ) -> None:
        self.blocking = driver == "psycopg-blocking"
        self._table = table
        self._scope = scope
        self._parameter = "$1" if driver == "asyncpg" else "%s"
        self.starts = [(number * CALLERS + caller) * TURNS for caller in range(CALLERS)]
        driver = driver.partition("-")[0]
        url = url.replace("://", f"+{driver}://", 1)
        self.pool: Any = _make_pool(sync if self.blocking else anypool, kind, url, settings)

    async def call(self, first: int) -> None:
        """Be one caller."""
        for identity in range(first, first + TURNS):
            async with self.pool.connect() as connection:
                ask = _fetch_value if hasattr(connection, "fetchval") else _execute_async
                async with connection.transaction():
                    await self._transact(identity, connection, ask)
                await self._ask(identity, connection, ask)

    def call_blocking(self, first: int) -> None:
        for identity in range(first, first + TURNS):
            with self.pool.connect() as connection, connection.transaction():
                _finish(self._transact(identity, connection, _execute))
            with self.pool.connect() as connection:
                _finish(self._ask(identity, connection, _execute))

    async def _transact(
        self, identity: int, connection: Any, ask: Callable[..., Awaitable[Any]]
    ) -> None:
        one, table = self._parameter, self._table
        before = await ask(
            connection, "SELECT coalesce(current_setting('anypool.caller', true), '')"
        )
        assert before == "", f"the state of another was seen: {before}"
        setting = f"SELECT set_config('anypool.caller', {one}, {self._scope})"
        await ask(connection, setting, str(identity))
        await ask(connection, f"INSERT INTO {table} VALUES ({one})", identity)
        await ask(connection, "SELECT pg_sleep(0.005)")
        found = await ask(connection, f"SELECT id FROM {table} WHERE id = {one}", identity)
        assert found == identity
        setting = await ask(connection, "SELECT current_setting('anypool.caller')")
        assert setting == str(identity), f"the state was lost: {setting}"

    async def _ask(
        self, identity: int, connection: Any, ask: Callable[..., Awaitable[Any]]
    ) -> None:
        """Ask something outside of that transaction, one half this, the other half that."""
        kind: Any = str if identity % 2 else int
        name = "text" if identity % 2 else "integer"
        answer = await ask(connection, f"SELECT {self._parameter}::{name}", kind(identity))
        assert answer == kind(identity)


def _make_pool(pools: Any, kind: str, url: str, settings: dict[str, Any]) -> Any:
    if kind == "QueuePool":
        return pools.create_pool(url, **settings)
    # Any other, by the same creator.
    pool = pools.create_pool(url)
    creator = (pool.async_pool if pools is sync else pool)._parts.connector.creator
    return getattr(pools, kind)(creator, **settings)


async def _fetch_value(connection: Any, statement: str, *parameters: object) -> Any:
    return await connection.fetchval(statement, *parameters)


async def _execute_async(connection: Any, statement: str, *parameters: object) -> Any:
    cursor = await connection.execute(statement, parameters or None)
    row = await cursor.fetchone() if cursor.description else None
    return row and row[0]


async def _execute(connection: Any, statement: str, *parameters: object) -> Any:
    cursor = connection.execute(statement, parameters or None)
    row = cursor.fetchone() if cursor.description else None
    return row and row[0]


def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in which nothing suspends."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it suspended")


async def _in_tasks(crowd: Crowd) -> None:
    async with asyncio.TaskGroup() as tasks:
        for first in crowd.starts:
            tasks.create_task(crowd.call(first))
    await crowd.pool.dispose()


def _in_threads(crowd: Crowd) -> None:
    with ThreadPoolExecutor(CALLERS) as threads:
        list(threads.map(crowd.call_blocking, crowd.starts))
    crowd.pool.dispose()


def main(driver: str, number: str) -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        crowd = Crowd(driver, int(number), **json.loads(line))
        if crowd.blocking:
            _in_threads(crowd)
        else:
            asyncio.run(_in_tasks(crowd))
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
