"""TLS, as a URL asks for it: encrypted for certain, and with whom one wants to talk."""

from __future__ import annotations

import gc
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import anypool
from anypool import sync

from .authority import Authority
from .conftest import DRIVERS, Live
from .mariadbd import private_server
from .postgresd import private_postgres
from .proxy import Proxy
from .servers import MariaDB, Server

ENCRYPTED = {
    "postgresql": "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    "mysql": "SELECT variable_value <> '' FROM information_schema.session_status"
    " WHERE variable_name = 'Ssl_cipher'",
}

# aiomysql leaves the socket of a handshake that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

UNTRUSTED = "certificate verify failed"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Whom the servers have their certificates from, and trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="session")
def tls_postgres(authority: Authority) -> Iterator[Server]:
    try:
        with private_postgres(authority) as daemon:
            daemon.server.ask("CREATE ROLE certified LOGIN")
            yield daemon.server
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tls_mariadb(authority: Authority) -> Iterator[Server]:
    try:
        with private_server(authority) as server:
            server.ask("CREATE USER certified REQUIRE X509")
            server.ask("GRANT ALL ON test.* TO certified")
            yield server
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(
    params=[f"{driver}-{kind}" for driver in DRIVERS for kind in ("async", "blocking")]
)
def mode(request: pytest.FixtureRequest) -> Iterator[Live]:
    """Each driver, in each kind of pool, on a server that offers TLS."""
    driver, _, kind = request.param.partition("-")
    server: Server = request.getfixturevalue(f"tls_{DRIVERS[driver]}")
    proxy = Proxy(server.host, server.port)
    yield Live(driver, kind == "blocking", server, proxy)
    proxy.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _pool(
    mode: Live, postgres: dict[str, Any], mysql: dict[str, Any], login: str = ""
) -> Any:
    """Make a pool with the arguments of its dialect."""
    arguments = postgres if mode.server.dialect == "postgresql" else mysql
    return mode.pool(f"?{urlencode(arguments)}", login)


async def _is_encrypted(mode: Live, pool: Any) -> bool:
    async with mode.block(pool.connect()) as connection:
        encrypted = await mode.execute(pool, connection, ENCRYPTED[mode.server.dialect])
    return bool(encrypted)


async def _refusal(mode: Live, pool: Any) -> str:
    """Try to connect; return all that was said about why not."""
    error: BaseException | None = None
    try:
        await mode.go(pool.connect())
    except Exception as refusal:
        error = refusal
    assert error is not None
    assert not isinstance(error, anypool.PoolError)
    assert pool.checkedout() == 0
    said = []
    while error is not None:
        said.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return "\n".join(said)


async def test_encrypted_without_knowing_whom(mode: Live) -> None:
    for mysql in ({"ssl": "true"}, {"ssl_verify_cert": "false"}):
        pool = _pool(mode, {"sslmode": "require"}, mysql)
        assert await _is_encrypted(mode, pool)


async def test_not_encrypted_where_that_is_said(mode: Live) -> None:
    for mysql in ({"ssl_disabled": "true"}, {"ssl": "false"}):
        pool = _pool(mode, {"sslmode": "disable"}, mysql)
        assert not await _is_encrypted(mode, pool)


@pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full", None])
async def test_an_authority_is_checked(
    mode: Live, authority: Authority, stranger: Authority, sslmode: str | None
) -> None:
    """If there is one, then that is what it is for."""
    arguments = {"host": "localhost"} | ({"sslmode": sslmode} if sslmode else {})
    if sslmode is None and mode.driver.startswith("psycopg"):
        pytest.skip("libpq goes on without TLS then")
    pool = _pool(
        mode, arguments | {"sslrootcert": authority.root}, {"ssl_ca": authority.root}
    )
    assert await _is_encrypted(mode, pool)
    pool = _pool(
        mode, arguments | {"sslrootcert": stranger.root}, {"ssl_ca": stranger.root}
    )
    said = await _refusal(mode, pool)
    assert UNTRUSTED in said


async def test_an_authority_may_be_left_unchecked(mode: Live, stranger: Authority) -> None:
    if mode.server.dialect == "postgresql":
        pytest.skip("libpq knows no such thing")
    for arguments in ({}, {"ssl_verify_identity": "false"}):
        arguments |= {"ssl_ca": stranger.root, "ssl_verify_cert": "false"}
        assert await _is_encrypted(mode, _pool(mode, {}, arguments))


async def test_the_hosts_name_is_checked(mode: Live, authority: Authority) -> None:
    """The certificate is one for localhost."""
    postgres = {"sslmode": "verify-full", "sslrootcert": authority.root}
    mysql = {"ssl_verify_identity": "true", "ssl_ca": authority.root}
    host = {"host": "localhost"}
    assert await _is_encrypted(mode, _pool(mode, postgres | host, mysql | host))
    said = await _refusal(mode, _pool(mode, postgres, mysql))
    assert any(words in said for words in ("does not match host name", "mismatch")), said
    # By itself the authority is content.
    postgres["sslmode"] = "verify-ca"
    del mysql["ssl_verify_identity"]
    assert await _is_encrypted(mode, _pool(mode, postgres, mysql))


async def test_a_name_is_not_checked_without_an_authority(mode: Live) -> None:
    """The system's authorities don't know this server."""
    if mode.server.dialect == "postgresql":
        arguments = {"sslmode": "verify-full", "sslrootcert": "system"}
        pools = [_pool(mode, arguments | {"host": "localhost"}, {})]
    else:
        pools = [
            _pool(mode, {}, arguments)
            for arguments in (
                {"ssl_verify_identity": "true"},
                {"ssl_verify_cert": "true"},
                {"ssl_verify_identity": "true", "ssl_verify_cert": "false"},
            )
        ]
    for pool in pools:
        said = await _refusal(mode, pool)
        assert UNTRUSTED in said


async def test_a_clients_certificate(
    mode: Live, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    files = authority.issue(common_name="certified", directory=tmp_path)
    (tmp_path / "forged").mkdir()
    forged = stranger.issue(common_name="certified", directory=tmp_path / "forged")
    for root in (True, False):
        postgres = {"sslmode": "require"} | (
            {"sslrootcert": authority.root} if root else {}
        )
        mysql = {"ssl_ca": authority.root} if root else {"ssl": "true"}
        pool = _pool(
            mode,
            postgres | {"sslcert": files.certificate, "sslkey": files.key},
            mysql | {"ssl_cert": files.certificate, "ssl_key": files.key},
            login="certified",
        )
        assert await _is_encrypted(mode, pool)
        await _refusal(mode, _pool(mode, postgres, mysql, login="certified"))
        pool = _pool(
            mode,
            postgres | {"sslcert": forged.certificate, "sslkey": forged.key},
            mysql | {"ssl_cert": forged.certificate, "ssl_key": forged.key},
            login="certified",
        )
        await _refusal(mode, pool)


async def test_a_server_without_tls(
    mode: Live, authority: Authority, mariadb: MariaDB
) -> None:
    """Is refused by whoever asked for it."""
    if mode.server.dialect == "postgresql":
        pytest.skip("libpq and asyncpg see to that")
    if mariadb.ask("SELECT @@have_ssl") == "YES":
        pytest.skip("this server has it")
    mode.proxy.lead_to(mariadb.host, mariadb.port)
    for arguments in ({"ssl": "true"}, {"ssl_ca": authority.root}):
        said = await _refusal(mode, _pool(mode, {}, arguments))
        assert "SSL" in said
    assert not await _is_encrypted(mode, _pool(mode, {}, {}))
    await mode.until(lambda: mode.proxy.open <= 1)


@pytest.mark.parametrize("module", [anypool, sync])
@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("postgresql://h/d?sslmod=SECRET", TypeError, "'sslmod'; possible.*sslmode"),
        (
            "postgresql+psycopg2://h/d?sslmod=SECRET",
            TypeError,
            "'sslmod'; possible.*sslmode",
        ),
        (
            "postgresql+asyncpg://h/d?sslmod=SECRET",
            TypeError,
            "'sslmod'; possible.*sslmode",
        ),
        ("postgresql+asyncpg://h/d?ssl_ca=SECRET", TypeError, "possible.*sslrootcert"),
        ("postgresql://h/d?ssl_ca=SECRET", TypeError, "'ssl_ca'; possible.*sslrootcert"),
        ("postgresql://h/d?sslmode=SECRET", ValueError, "sslmode: expected disable"),
        (
            "postgresql+psycopg2://h/d?sslmode=SECRET",
            ValueError,
            "sslmode: expected disable",
        ),
        ("postgresql+asyncpg://h/d?ssl=SECRET", ValueError, "ssl: expected.*verify-full"),
        (
            "postgresql+asyncpg://h/d?sslrootcert=/SECRET",
            ValueError,
            "sslrootcert: can't be read",
        ),
        (
            "postgresql+asyncpg://h/d?sslmode=require&sslcert=/SECRET",
            ValueError,
            "sslcert: can't be read",
        ),
        (
            "postgresql+asyncpg://h/d?sslmode=require&sslrootcert=system",
            ValueError,
            "sslmode: .*verify-full",
        ),
        (
            "postgresql+asyncpg://h/d?ssl_min_protocol_version=SECRET",
            ValueError,
            "ssl_min_protocol_version: expected TLSv1.2",
        ),
        ("mysql+aiomysql://h/d?sslmode=SECRET", TypeError, "'sslmode'; possible.*ssl_ca"),
        ("mysql+asyncmy://h/d?sslmode=SECRET", TypeError, "'sslmode'; possible.*ssl_ca"),
        ("mysql+pymysql://h/d?sslmode=SECRET", TypeError, "'sslmode'; possible.*ssl_ca"),
        ("mysql+aiomysql://h/d?ssl_ca=/SECRET", ValueError, "ssl_ca: can't be read"),
        ("mysql+pymysql://h/d?ssl_ca=/SECRET", ValueError, "ssl_ca: can't be read"),
        ("mysql+asyncmy://h/d?ssl_cert=/SECRET", ValueError, "ssl_cert: can't be read"),
        ("mysql+aiomysql://h/d?ssl=SECRET", ValueError, "ssl: expected true or false"),
        (
            "mysql+pymysql://h/d?ssl_verify_cert=SECRET",
            ValueError,
            "ssl_verify_cert: expected true or false",
        ),
    ],
)
def test_wrong_arguments_are_named(url: str, error: Any, message: str, module: Any) -> None:
    with pytest.raises(error, match=message) as caught:
        module.create_pool(url)
    shown: BaseException | None = caught.value
    while shown is not None:
        assert "SECRET" not in str(shown)
        shown = shown.__cause__ or shown.__context__


def test_what_else_a_context_is_made_of(authority: Authority) -> None:
    from anypool._core.url import DatabaseURL
    from anypool._drivers.connectors import connector_for, creator_for

    url = DatabaseURL(
        f"postgresql+asyncpg://h/d?sslmode=require&sslrootcert={authority.root}"
        "&ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.3"
        f"&sslcrl={authority.root}"
    )
    context = creator_for(connector_for(url, blocking=False), url).keywords["ssl"]
    assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_flags & ssl.VERIFY_CRL_CHECK_CHAIN
