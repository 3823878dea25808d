"""Four processes behind PgBouncer, set up as docs/beyond-one-process.md says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .crowd import CALLERS, TURNS
from .pgbouncer import BACKENDS, PgBouncer
from .servers import Postgres, Server

PROCESSES = 4
TIME_LIMIT = 60.0

DRIVERS = ["psycopg", "psycopg-blocking", "asyncpg"]

# What has to be added to a URL in transaction mode.
UNPREPARED = {
    "psycopg": "?prepare_threshold=none",
    "psycopg-blocking": "?prepare_threshold=none",
    "asyncpg": "?statement_cache_size=0",
}


@pytest.fixture(scope="module", params=["transaction", "session"])
def bouncer(request: pytest.FixtureRequest, postgres: Server) -> Iterator[PgBouncer]:
    """PgBouncer, in either pool mode."""
    assert isinstance(postgres, Postgres)
    try:
        bouncer = PgBouncer(postgres, request.param)
    except FileNotFoundError as error:
        if os.environ.get("ANYPOOL_REQUIRE_SERVERS"):
            pytest.fail(str(error))
        pytest.skip(f"{error}, and only root can install it")
    yield bouncer
    bouncer.close()


class Watch(threading.Thread):
    """Looks all the time how many clients and backends there are."""

    def __init__(self, bouncer: PgBouncer) -> None:
        super().__init__(daemon=True)
        self._bouncer = bouncer
        self._end = threading.Event()
        self.clients = self.backends = 0

    def run(self) -> None:
        while not self._end.wait(0.01):
            self.clients = max(self.clients, self._bouncer.clients())
            self.backends = max(self.backends, self._bouncer.backends())

    def end(self) -> None:
        self._end.set()
        self.join()


def work(bouncer: PgBouncer, driver: str, kind: str, query: str, **settings: Any) -> Watch:
    """Have four processes do their work at once, and watch."""
    table = bouncer.server.table
    bouncer.server.ask(f"DELETE FROM {table}")
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", f"{__package__}.crowd", driver, kind),
                *(bouncer.dsn() + query, table, str(number), json.dumps(settings)),
            ],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    watch = Watch(bouncer)
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # "ready"
        watch.start()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            _, complaints = process.communicate(timeout=TIME_LIMIT)
            assert process.returncode == 0, f"{complaints}\n{bouncer.log()}"
            assert not complaints
    finally:
        if watch.is_alive():
            watch.end()
        for process in processes:
            process.kill()
            process.communicate()
    done = bouncer.server.ask(f"SELECT count(*) FROM {table}")
    assert done == PROCESSES * CALLERS * TURNS, "all work is done, once"
    return watch


@pytest.mark.parametrize("driver", DRIVERS)
def test_many_clients_few_backends(bouncer: PgBouncer, driver: str) -> None:
    if bouncer.pool_mode == "transaction":
        # More clients than backends, which take turns.
        watch = work(
            *(bouncer, driver, "QueuePool", UNPREPARED[driver]),
            pool_size=10,
            max_overflow=0,
            scope="true",
        )
        assert watch.clients > BACKENDS
    else:
        # As many as there are backends for; it is the tasks that take turns.
        watch = work(
            *(bouncer, driver, "QueuePool", ""),
            pool_size=BACKENDS // PROCESSES,
            max_overflow=0,
            reset_on_return="full",
            scope="false",
        )
        assert watch.clients <= BACKENDS
    assert 1 < watch.backends <= BACKENDS


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("bouncer", ["session"], indirect=True)
def test_a_client_for_each_checkout(bouncer: PgBouncer, driver: str) -> None:
    watch = work(bouncer, driver, "NullPool", "", scope="false")
    assert watch.clients > BACKENDS
    assert 1 < watch.backends <= BACKENDS
