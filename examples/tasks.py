"""Many tasks, few connections: count words with an async pool over aiosqlite."""

import asyncio
import collections

import aiosqlite

import anypool

TEXT = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "the",
    "lazy",
    "dog",
    "and",
    "the",
    "dog",
    "sleeps",
    "on",
]


class Settings:
    """Prepares every new connection."""

    async def connect(
        self,
        connection: aiosqlite.Connection,
        record: anypool.ConnectionRecord[aiosqlite.Connection],
    ) -> None:
        await connection.execute("pragma busy_timeout = 10000")


async def add(pool: anypool.QueuePool[aiosqlite.Connection], word: str) -> None:
    async with pool.connect() as conn:
        await conn.execute(
            "insert into words values (?, 1) on conflict do update set n = n + 1", (word,)
        )
        await conn.commit()


async def main() -> None:
    pool = anypool.QueuePool(
        lambda: aiosqlite.connect("words.db"), pool_size=3, listeners=[Settings()]
    )
    async with pool.connect() as conn:
        await conn.execute("drop table if exists words")
        await conn.execute("create table words (word text primary key, n int)")
        await conn.commit()
    await asyncio.gather(*(add(pool, word) for word in TEXT))
    async with pool.connect() as conn:
        rows = await conn.execute_fetchall("select word, n from words")
    assert dict(tuple(row) for row in rows) == collections.Counter(TEXT)
    print(pool.status())
    await pool.dispose()


asyncio.run(main())
