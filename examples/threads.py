"""Threads and one budget of connections: a blocking pool over sqlite3."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor

from anypool import sync

pool = sync.QueuePool(
    lambda: sqlite3.connect("numbers.db", check_same_thread=False, timeout=30),
    pool_size=2,
    max_overflow=2,
)


def add(number: int) -> None:
    with pool.connect() as conn, conn:  # the inner one commits
        conn.execute("insert into numbers values (?)", (number,))


def total() -> int:
    with pool.connect() as conn:
        row: tuple[int] = conn.execute("select sum(n) from numbers").fetchone()
        return row[0]


with pool.connect() as conn, conn:
    conn.execute("drop table if exists numbers")
    conn.execute("create table numbers (n int)")
with ThreadPoolExecutor(max_workers=16) as workers:
    list(workers.map(add, range(100)))
assert total() == sum(range(100))
print(pool.status())
pool.dispose()
