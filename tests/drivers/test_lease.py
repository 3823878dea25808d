"""Leases in the hands of code that takes them for a driver's connection."""

from __future__ import annotations

from typing import Any

import pytest

from anypool import sync

from .conftest import Live
from .servers import Server


async def test_info_of_the_driver(mode: Live) -> None:
    """psycopg's and psycopg2's connections have an info, which the lease's notes hide."""
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    lease.info["tenant"] = 7
    own = getattr(lease.connection, "info", None)
    if mode.driver in ("psycopg", "psycopg2"):
        assert own is not None
        assert lease.info.backend_pid == await mode.session(pool, lease.connection)
        assert lease.info.transaction_status == own.transaction_status == 2
        assert lease.info.parameter_status("client_encoding") == "UTF8"
    else:
        assert own is None
        with pytest.raises(AttributeError):
            lease.info.transaction_status
    assert lease.info == {"tenant": 7}
    await mode.go(lease.close())


@pytest.mark.parametrize("driver", ["psycopg", "pymysql"])
def test_engine_of_sqlalchemy_over_a_pool(
    driver: str, request: pytest.FixtureRequest
) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    name, options = {
        # Which else hands the lease to psycopg itself, and that wants its own class.
        "psycopg": ("postgres", {"use_native_hstore": False}),
        "pymysql": ("mariadb", {}),
    }[driver]
    server: Server = request.getfixturevalue(name)
    pool: Any = sync.create_pool(server.dsn(driver, server.port), pool_size=1)
    engine = sqlalchemy.create_engine(
        f"{server.dialect}+{driver}://",
        creator=pool.unique_connection,
        poolclass=sqlalchemy.pool.NullPool,
        **options,
    )
    count = sqlalchemy.text(f"SELECT count(*) FROM {server.table}")
    insert = sqlalchemy.text(f"INSERT INTO {server.table} VALUES (:id)")
    server.ask(f"DELETE FROM {server.table}")
    for _ in range(2):
        with engine.connect() as connection:
            connection.execute(insert, {"id": 4711})
            assert connection.execute(count).scalar() == 1
        assert pool.checkedout() == 0
    with engine.begin() as connection:
        connection.execute(insert, [{"id": 1}, {"id": 2}])
    assert server.ask(f"SELECT count(*) FROM {server.table}") == 2
    assert pool.stats().opened == 1
    server.ask(f"DELETE FROM {server.table}")
    pool.close()
