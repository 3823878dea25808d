"""Four processes behind PgBouncer, set up as docs/beyond-one-process.md says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .crowd import CALLERS, TURNS
from .pgbouncer import BACKENDS, PgBouncer, find_or_install
from .servers import Postgres, Server

PROCESSES = 4
TIME_LIMIT = 120.0

# What has to be added to a URL in transaction mode.
UNPREPARED = {
    "psycopg": "?prepare_threshold=none",
    "psycopg-blocking": "?prepare_threshold=none",
    "asyncpg": "?statement_cache_size=0",
}


@pytest.fixture(scope="module")
def bouncer(postgres: Server) -> Iterator[Callable[[str], PgBouncer]]:
    """PgBouncer, in the pool mode that is asked for."""
    assert isinstance(postgres, Postgres)
    server = postgres
    try:
        find_or_install()
    except FileNotFoundError as error:
        if os.environ.get("ANYPOOL_REQUIRE_SERVERS"):
            pytest.fail(str(error))
        pytest.skip(f"{error}, and only root can install it")
    running: dict[str, PgBouncer] = {}

    def get(pool_mode: str) -> PgBouncer:
        if pool_mode not in running:
            running[pool_mode] = PgBouncer(server, pool_mode)
        return running[pool_mode]

    yield get
    for bouncer in running.values():
        bouncer.close()


class Crowds:
    """Four processes, with fifty callers each."""

    def __init__(self, driver: str) -> None:
        self.driver = driver
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.crowd", driver, str(number)],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(PROCESSES)
        ]
        self._expect("ready")

    def work(self, bouncer: PgBouncer, kind: str, query: str, **job: Any) -> Watch:
        """Have them do their work, all at once, and watch."""
        table = bouncer.server.table
        bouncer.server.ask(f"DELETE FROM {table}")
        watch = Watch(bouncer)
        watch.start()
        try:
            for process in self._processes:
                assert process.stdin is not None
                line = {"kind": kind, "url": bouncer.dsn() + query, "table": table, **job}
                process.stdin.write(json.dumps(line) + "\n")
                process.stdin.flush()
            self._expect("done", bouncer)
        finally:
            watch.end()
        done = bouncer.server.ask(f"SELECT count(*) FROM {table}")
        assert done == PROCESSES * CALLERS * TURNS, "all work is done, once"
        return watch

    def _expect(self, word: str, bouncer: PgBouncer | None = None) -> None:
        alarm = threading.Timer(TIME_LIMIT, self._kill)
        alarm.start()
        try:
            for process in self._processes:
                assert process.stdout is not None
                if process.stdout.readline() != f"{word}\n":
                    assert process.stderr is not None
                    log = bouncer.log() if bouncer else ""
                    pytest.fail(f"{process.stderr.read()}\n{log}")
        finally:
            alarm.cancel()

    def close(self) -> None:
        alarm = threading.Timer(TIME_LIMIT, self._kill)
        alarm.start()
        for process in self._processes:
            _, complaints = process.communicate()
            assert not complaints
        alarm.cancel()

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()


@pytest.fixture(scope="module", params=list(UNPREPARED))
def crowds(request: pytest.FixtureRequest) -> Iterator[Crowds]:
    """The processes, which use one driver."""
    crowds = Crowds(request.param)
    yield crowds
    crowds.close()


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


def test_transaction_mode(bouncer: Callable[[str], PgBouncer], crowds: Crowds) -> None:
    """More clients than backends, which take turns."""
    watch = crowds.work(
        bouncer("transaction"),
        "QueuePool",
        UNPREPARED[crowds.driver],
        scope="true",
        settings={"pool_size": 10, "max_overflow": 0},
    )
    assert watch.clients > BACKENDS
    assert 1 < watch.backends <= BACKENDS


def test_session_mode(bouncer: Callable[[str], PgBouncer], crowds: Crowds) -> None:
    """As many clients as there are backends for; it is the callers that take turns."""
    watch = crowds.work(
        bouncer("session"),
        "QueuePool",
        "",
        scope="false",
        settings={
            "pool_size": BACKENDS // PROCESSES,
            "max_overflow": 0,
            "reset_on_return": "full",
        },
    )
    assert 1 < watch.clients <= BACKENDS
    assert 1 < watch.backends <= BACKENDS


def test_a_client_for_each_checkout(
    bouncer: Callable[[str], PgBouncer], crowds: Crowds
) -> None:
    """In session mode, more clients than backends, each of which is soon gone."""
    watch = crowds.work(bouncer("session"), "NullPool", "", scope="false", settings={})
    assert watch.clients > BACKENDS
    assert 1 < watch.backends <= BACKENDS
