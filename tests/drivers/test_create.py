"""create_pool(): URLs, their options and their mistakes."""

from __future__ import annotations

import importlib.util
import inspect
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

import anypool
from anypool import sync
from anypool._core.url import DatabaseURL
from anypool._drivers.connectors import connector_for, creator_for


def test_parts_of_a_url() -> None:
    url = DatabaseURL(
        "PostgreSQL+asyncpg://me%40home:p%3Aw%2F@[::1]:6543/my%20db"
        "?pool_size=3&sslmode=require&statement_cache_size=0&autocommit=true&x=none"
    )
    assert (url.scheme, url.user, url.password) == ("postgresql+asyncpg", "me@home", "p:w/")
    assert (url.host, url.port, url.database) == ("::1", 6543, "my db")
    assert url.arguments == {
        "pool_size": 3,
        "sslmode": "require",
        "statement_cache_size": 0,
        "autocommit": True,
        "x": None,
    }
    assert "p:w" not in repr(url)


def test_an_empty_password_is_one() -> None:
    assert DatabaseURL("mysql://me:@h/d").password == ""
    assert DatabaseURL("mysql://me@h/d").password is None


def test_names_and_passwords_stay_text() -> None:
    names = ("host", "user", "password", "passwd", "database", "db", "dbname", "name")
    query = "&".join(f"{name}=4711" for name in names)
    assert DatabaseURL(f"mysql://h?{query}").arguments == dict.fromkeys(names, "4711")


@pytest.mark.parametrize("port", ["x", "-1", "65536", "\u0661\u0662", "\u00b2"])
def test_port_that_is_no_number(port: str) -> None:
    with pytest.raises(ValueError, match="the port is not a number"):
        DatabaseURL(f"mysql://h:{port}/d")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:SECRET:x@host:SECRET/db",
        "postgresql://me:SEC#RET@host/db",
        "postgresql://me:SECRET/word@host/db",
        "postgresql://me:4711/SECRET@host/db",
        "me:SECRET@host",
        "SECRET",
        "nosuch://me:SECRET@host/db",
        "sqlite://?pool_size=SECRET",
        "sqlite:///x?password=SECRET&password=SECRET",
        "mysql+pymysql://me:SECRET@[::1/db:SECRET",
        "mysql+pymysql://me:4711?SECRET@host/db",
        "sqlite://?echo=SECRET",
        "sqlite://?reset_on_return=SECRET",
    ],
)
@pytest.mark.parametrize("create_pool", [anypool.create_pool, sync.create_pool])
def test_mistakes_show_no_secrets(url: str, create_pool: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        create_pool(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert "SECRET" not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__


def test_what_is_no_string() -> None:
    with pytest.raises(TypeError, match="expected a string"):
        anypool.create_pool(b"sqlite://")  # type: ignore[arg-type]


def test_options_in_a_url(tmp_path: Path) -> None:
    pool = sync.create_pool(
        f"sqlite:///{tmp_path}/app.db?pool_size=2&max_overflow=0&recycle=9.5&name=mine"
        "&cached_statements=7&use_threadlocal=false",
        max_overflow=3,
    )
    assert pool.size() == 2
    assert "Pool size: 2" in pool.status()
    with pool.connect() as first, pool.connect() as second:
        assert first is not second
        assert isinstance(first, sqlite3.Connection)
        first.execute("CREATE TABLE t (id)")
    assert (tmp_path / "app.db").exists()
    pool.dispose()


@pytest.mark.parametrize("name", ["", "/:memory:"])
@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite", "duckdb"])
def test_memory_is_one_database(scheme: str, name: str) -> None:
    pool = sync.create_pool(f"{scheme}://{name}")
    for number in range(3):
        with pool.connect() as connection:
            statement = "INSERT INTO t VALUES (1)" if number else "CREATE TABLE t (id int)"
            pool.call(connection.execute, statement)
            if scheme != "duckdb":
                pool.call(connection.commit)
    with pytest.raises(anypool.PoolTimeoutError):
        with pool.connect():
            pool.unique_connection(timeout=0)
    pool.dispose()
    with pytest.raises(ValueError, match="in memory"):
        sync.create_pool(f"{scheme}://{name}", pool_size=2)


async def _use(pool: anypool.QueuePool[Any]) -> Any:
    async with pool.connect() as connection:
        cursor = await pool.call(connection.execute, "SELECT 42")
        row = await pool.call(cursor.fetchone)
    await pool.dispose()
    return row


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite", "duckdb"])
def test_async_pools_take_blocking_drivers_as_well(scheme: str) -> None:
    assert anyio.run(_use, anypool.create_pool(f"{scheme}:///:memory:")) == (42,)


def test_missing_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "anypool._drivers.connectors.find_spec",
        lambda name: None if name == "asyncpg" else found(name),
    )
    with pytest.raises(ModuleNotFoundError) as caught:
        anypool.create_pool("postgresql+asyncpg://me:SECRET@host/db")
    assert "pip install 'anypool[asyncpg]'" in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_arguments_of_asyncpg() -> None:
    asyncpg = pytest.importorskip("asyncpg")
    seen: dict[str, Any] = {}

    async def connect(**arguments: Any) -> None:
        seen.update(arguments)

    vars(connect)["__signature__"] = inspect.signature(asyncpg.connect)
    module = SimpleNamespace(connect=connect)
    url = DatabaseURL("postgresql+asyncpg://h/d?sslmode=require&work_mem=7&timeout=3")
    connector = connector_for(url, blocking=False)
    anyio.run(connector.creator(module, url))
    assert seen == {
        "host": "h",
        "database": "d",
        "ssl": "require",
        "timeout": 3,
        "server_settings": {"work_mem": "7"},
    }


@pytest.mark.parametrize(
    ("url", "blocking", "package"),
    [
        ("postgresql://h/d", True, "psycopg"),
        ("postgres://h/d", False, "psycopg"),
        ("postgresql+psycopg2://h/d", False, "psycopg2"),
        ("mysql://h/d", True, "pymysql"),
        ("mariadb://h/d", False, "aiomysql"),
        ("mysql+asyncmy://h/d", True, "asyncmy"),
    ],
)
def test_schemes(url: str, blocking: bool, package: str) -> None:
    parsed = DatabaseURL(url)
    connector = connector_for(parsed, blocking=blocking)
    assert connector.package == package
    pytest.importorskip(package)
    assert "SECRET" not in repr(creator_for(connector, parsed))
