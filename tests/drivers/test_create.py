"""create_pool(): URLs, their options and their mistakes."""

from __future__ import annotations

import importlib.util
import inspect
import sqlite3
import ssl
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import certifi
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
        "pool_size": "3",
        "sslmode": "require",
        "statement_cache_size": "0",
        "autocommit": "true",
        "x": "none",
    }, "what they are for, only the driver's parameters say"
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
    anyio.run(connector.creator(module, url, {}))
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


def test_arguments_take_the_type_of_what_they_are_for() -> None:
    def creator(url: str) -> Any:
        parsed = DatabaseURL(url)
        return creator_for(connector_for(parsed, blocking=True), parsed)

    asyncpg = creator("postgresql+asyncpg://h/d?application_name=007&command_timeout=5")
    assert asyncpg.keywords["server_settings"] == {"application_name": "007"}
    assert asyncpg.keywords["command_timeout"] == 5.0
    psycopg = creator("postgresql+psycopg://h/d?application_name=007&autocommit=true")
    assert psycopg.keywords["application_name"] == "007"
    assert psycopg.keywords["autocommit"] is True
    pymysql = creator("mysql+pymysql://h/d?init_command=1&connect_timeout=3&autocommit=0")
    assert pymysql.keywords["init_command"] == "1"
    assert (pymysql.keywords["connect_timeout"], pymysql.keywords["autocommit"]) == (
        3,
        False,
    )
    sqlite = creator("sqlite:///app.db?isolation_level=none&cached_statements=7")
    assert sqlite.keywords["isolation_level"] is None
    assert sqlite.keywords["cached_statements"] == 7


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("mysql://h/d?no_such=SECRET", TypeError, "no argument 'no_such'; possible are"),
        ("mysql+aiomysql://h/d?no_such=SECRET", TypeError, "possible are .*autocommit"),
        ("sqlite:///a.db?no_such=SECRET", TypeError, "possible are .*cached_statements"),
        (
            "mysql://h/d?connect_timeout=SECRET",
            ValueError,
            "connect_timeout: expected",
        ),
        ("sqlite:///a.db?uri=SECRET", ValueError, "uri: expected true or false"),
        (
            "postgresql+asyncpg://h/d?sslmode=SECRET",
            ValueError,
            "sslmode: expected",
        ),
        ("mysql://a,b/d", ValueError, "take one"),
        ("mysql+asyncmy://a,b/d", ValueError, "take one"),
        ("sqlite:///a.db?max_overflow=SECRET", TypeError, "max_overflow"),
    ],
)
@pytest.mark.parametrize("module", [anypool, sync])
def test_wrong_argument_is_named(url: str, error: Any, message: str, module: Any) -> None:
    with pytest.raises(error, match=message) as caught:
        module.create_pool(url)
    assert "SECRET" not in str(caught.value)


def test_connect_args(tmp_path: Path) -> None:
    """For what no URL can carry; they go before the URL's."""

    class Mine(sqlite3.Connection):
        pass

    pool = sync.create_pool(
        f"sqlite:///{tmp_path}/app.db?cached_statements=5",
        connect_args={"factory": Mine, "cached_statements": 3},
    )
    with pool.connect() as connection:
        assert type(connection) is Mine
    pool.dispose()


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite"])
def test_shared_memory(scheme: str) -> None:
    """A named database in memory is shared on purpose, and stays while the pool idles."""
    url = f"{scheme}:///file:anypool_{scheme[-4:]}?mode=memory&cache=shared&uri=true"
    pool = sync.create_pool(url, pool_size=2)
    with pool.unique_connection() as one, pool.unique_connection() as other:
        pool.call(one.execute, "CREATE TABLE t (id)")
        pool.call(one.execute, "INSERT INTO t VALUES (1)")
        pool.call(one.commit)
        cursor = pool.call(other.execute, "SELECT count(*) FROM t")
        assert pool.call(cursor.fetchone) == (1,)
    pool.dispose()


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite"])
@pytest.mark.parametrize("form", ["file:{}?mode=ro&uri=true", "{}?mode=ro"])
def test_read_only_file(tmp_path: Path, scheme: str, form: str) -> None:
    path = f"{tmp_path}/app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (id)")
    pool = sync.create_pool(f"{scheme}:///{form.format(path)}")
    with pool.connect() as connection:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            pool.call(connection.execute, "INSERT INTO t VALUES (1)")
    pool.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///file::memory:?uri=true",
        "sqlite:///file:x?mode=memory&uri=true",
        "duckdb://",
    ],
)
def test_private_memory_in_other_words(url: str) -> None:
    with pytest.raises(ValueError, match="StaticPool"):
        sync.create_pool(url, pool_size=2)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
@pytest.mark.parametrize(
    "form",
    [
        "postgresql+{}://postgres@127.0.0.1:1,127.0.0.1:{}/postgres",
        "postgresql+{}://postgres@/postgres?host=127.0.0.1,127.0.0.1&port=1,{}",
    ],
)
def test_several_hosts(postgres: Any, driver: str, form: str) -> None:
    """When nobody listens at the first, the second one answers."""
    pool = sync.create_pool(form.format(driver, postgres.port))
    with pool.connect() as connection:
        if driver == "asyncpg":
            assert pool.call(connection.fetchval, "SELECT 42") == 42
        else:
            with closing(connection.cursor()) as cursor:
                cursor.execute("SELECT 42")
                assert cursor.fetchone() == (42,)
    pool.close()


@pytest.mark.parametrize(
    "driver", ["psycopg", "psycopg2", "asyncpg", "pymysql", "aiomysql"]
)
@pytest.mark.parametrize("module", [anypool, sync])
def test_listeners_change_every_drivers_arguments(driver: str, module: Any) -> None:
    dialect = "mysql" if driver.endswith("mysql") else "postgresql"
    seen: list[Any] = []

    class Rotated:
        def before_connect(self, parameters: dict[str, Any], record: Any) -> None:
            seen.append(parameters["user"])
            raise LookupError

    pool = module.create_pool(f"{dialect}+{driver}://me@h/d", listeners=[Rotated()])

    async def checkout() -> None:
        with pytest.raises(LookupError):
            await pool.connect()
        await pool.close()

    if module is sync:
        with pytest.raises(LookupError):
            pool.connect()
        pool.close()
    else:
        anyio.run(checkout)
    assert seen == ["me"]


def test_tls_arguments_make_a_context() -> None:
    """Where the driver wants one: what they say is what it checks."""
    authority = certifi.where()

    def context(url: str) -> Any:
        parsed = DatabaseURL(url)
        return creator_for(connector_for(parsed, blocking=True), parsed).keywords["ssl"]

    pg = f"postgresql+asyncpg://h/d?sslrootcert={authority}&sslmode="
    for mode, verify, hostname in (
        ("require", ssl.CERT_REQUIRED, False),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-full", ssl.CERT_REQUIRED, True),
    ):
        made = context(pg + mode)
        assert (made.verify_mode, made.check_hostname) == (verify, hostname)
    assert context("postgresql+asyncpg://h/d?sslmode=verify-full") == "verify-full"
    for driver in ("aiomysql", "asyncmy"):
        made = context(f"mysql+{driver}://h/d?ssl_ca={authority}&ssl_verify_identity=true")
        assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
        made = context(f"mysql+{driver}://h/d?ssl_ca={authority}&ssl_verify_cert=false")
        assert made.verify_mode == ssl.CERT_NONE
