"""From a database URL to a creator: what each driver's connect function wants to hear."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any, NamedTuple, TypeAlias

from .._core.url import DatabaseURL, value_of

Creator: TypeAlias = "partial[Any]"
"""Returns a new connection, or an awaitable of one."""


class Connector(NamedTuple):
    """How to connect with one driver.

    Attributes:
        package: the package to import.
        extra: the extra of anypool that installs it; None if Python brings it along.
        creator: makes the creator, from the package, the URL, and what no URL can carry.
        embedded: whether the database lives in this process, in a file or in memory.
    """

    package: str
    extra: str | None
    creator: Callable[[Any, DatabaseURL, dict[str, Any]], Creator]
    embedded: bool = False


def connector_for(url: DatabaseURL, *, blocking: bool) -> Connector:
    """Choose the connector by the URL's scheme.

    Args:
        url: the URL.
        blocking: what to prefer where a scheme allows for both kinds of connections.

    Raises:
        ValueError: there is no such scheme.
    """
    scheme = url.scheme
    scheme = _DEFAULTS.get(scheme, (scheme, scheme))[0 if blocking else 1]
    if scheme == "postgresql+psycopg" and not blocking:
        return _ASYNC_PSYCOPG
    if scheme not in _CONNECTORS:
        known = ", ".join(sorted([*_CONNECTORS, *_DEFAULTS]))
        raise ValueError(f"url: unknown scheme; known are {known}")
    return _CONNECTORS[scheme]


def creator_for(
    connector: Connector, url: DatabaseURL, connect_args: dict[str, Any] | None = None
) -> Creator:
    """Import the driver and return a function that connects to the URL's database.

    It is a ``functools.partial`` whose keywords are the arguments, so that before_connect
    listeners can change them.

    Raises:
        ModuleNotFoundError: the driver is not installed; the message says what to install.
        TypeError, ValueError: an argument is not one of the driver's.
    """
    if find_spec(connector.package) is None:
        raise ModuleNotFoundError(
            f"{url.scheme}:// needs the driver {connector.package}, which is not "
            f"installed: pip install 'anypool[{connector.extra}]'",
            name=connector.package,
        )
    return connector.creator(import_module(connector.package), url, connect_args or {})


def is_private_memory(url: DatabaseURL) -> bool:
    """Tell whether each connection to an embedded database would have one of its own."""
    name, arguments = url.database, url.arguments
    if not name.startswith("file:"):
        in_memory = name in ("", ":memory:") or arguments.get("mode") == "memory"
    else:
        in_memory = (
            name.startswith("file::memory:")
            or arguments.get("mode") == "memory"
            or "mode=memory" in name
        )
    return in_memory and arguments.get("cache") != "shared" and "cache=shared" not in name


def _sqlite(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> Creator:
    given = dict(url.arguments)
    own = {name: given.pop(name) for name in list(given) if name in _SQLITE_URI}
    # A pool hands connections from thread to thread, one at a time.
    arguments: dict[str, Any] = {"check_same_thread": False}
    arguments |= _typed(given, _SQLITE_KINDS, "sqlite3.connect()", closed=True)
    if str(arguments.get("isolation_level")).lower() == "none":
        arguments["isolation_level"] = None  # to sqlite3, that is autocommit
    database = url.database or ":memory:"
    if own or database.startswith("file:"):
        database = _sqlite_uri(database, own)
        arguments["uri"] = True
    return partial(module.connect, database, **arguments | connect_args)


def _sqlite_uri(database: str, parameters: dict[str, str]) -> str:
    from urllib.parse import quote, urlencode

    if not database.startswith("file:"):
        database = "file:" + quote(database)
    if not parameters:
        return database
    return f"{database}{'&' if '?' in database else '?'}{urlencode(parameters)}"


def _duckdb(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> Creator:
    arguments = _typed(url.arguments, {"read_only": bool}, "duckdb.connect()")
    return partial(module.connect, url.database or ":memory:", **arguments | connect_args)


def _psycopg(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> Creator:
    kinds = {"autocommit": bool, "prepare_threshold": int}
    arguments = _typed(_addressed(url, user="user", database="dbname"), kinds, "psycopg")
    make = module.conninfo.make_conninfo
    _check_libpq(arguments, kinds, make, module.ProgrammingError, "psycopg.connect()")
    return partial(module.connect, **arguments | connect_args)


def _async_psycopg(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> Creator:
    arguments = _psycopg(module, url, connect_args).keywords
    return _awaiting(module.AsyncConnection.connect, arguments)


def _psycopg2(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> Creator:
    addressed = _addressed(url, user="user", database="dbname")
    kinds = {"autocommit": bool}
    arguments = _typed(addressed, kinds, "psycopg2")
    make = import_module("psycopg2.extensions").make_dsn
    _check_libpq(arguments, kinds, make, module.ProgrammingError, "psycopg2.connect()")

    # Its connect function doesn't know this one, as all others do.
    def connect(*, autocommit: bool = False, **arguments: Any) -> Any:
        connection = module.connect(**arguments)
        connection.autocommit = autocommit
        return connection

    return partial(connect, **arguments | connect_args)


def _asyncpg(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> Creator:
    arguments = _addressed(url, user="user", database="database")
    # As in a DSN: what the driver doesn't know are settings of the server's.
    known = signature(module.connect).parameters
    for name, kind in (("host", str), ("port", int)):
        if "," in str(arguments.get(name, "")):
            arguments[name] = [kind(each) for each in arguments[name].split(",")]
    tls = {name: arguments.pop(name) for name in list(arguments) if name in _ASYNCPG_TLS}
    for name in arguments:
        if name.startswith("ssl"):  # the server would have none of that as a setting
            raise _unknown(name, "asyncpg.connect()", {*known, *_ASYNCPG_TLS})
    if tls:
        arguments["ssl"] = _asyncpg_tls(tls)
    settings = {
        name: str(arguments.pop(name)) for name in list(arguments) if name not in known
    }
    arguments = _typed(arguments, _kinds(known) | _ASYNCPG_KINDS, "asyncpg.connect()")
    if settings:
        arguments["server_settings"] = settings
    return _awaiting(module.connect, arguments | connect_args)


def _check_libpq(
    arguments: dict[str, Any],
    others: Iterable[str],
    make: Callable[..., Any],
    unknown: type[Exception],
    where: str,
) -> None:
    """Ask libpq of this machine which arguments it knows; it looks at no value yet.

    Args:
        arguments: as they would be given to the driver.
        others: arguments of the driver's own.
        make: the driver's function that makes one text of arguments.
        unknown: what that raises.
        where: the driver's function, for the error.
    """
    for name in arguments.keys() - others:
        try:
            make(**{name: ""})
        except unknown:
            raise _unknown(name, where, {*others, *_LIBPQ}) from None
    _check_sslmode("sslmode", arguments.get("sslmode", "prefer"))


def _check_sslmode(name: str, mode: Any) -> None:
    if mode not in _SSLMODES:
        raise ValueError(f"url: {name}: expected {', '.join(_SSLMODES)}")


def _asyncpg_tls(given: dict[str, Any]) -> Any:
    """Make what asyncpg takes for TLS of what libpq does."""
    if given.keys() >= {"ssl", "sslmode"}:
        raise TypeError("url: ssl and sslmode are the same: give one of them")
    # "ssl" is what the driver itself calls it.
    name = "ssl" if "ssl" in given else "sslmode"
    root = given.get("sslrootcert")
    system = root == "system"  # the authorities that this machine trusts
    mode = given.pop(name, "verify-full" if system else "prefer")
    if name == "ssl":
        mode = {"true": "verify-full", "false": "disable"}.get(mode.lower(), mode)
    _check_sslmode(name, mode)
    if mode == "disable" or not given:
        return mode
    if system and mode != "verify-full":
        raise ValueError(f"url: {name}: with sslrootcert=system, expected verify-full")
    context = _tls_context(given, "sslrootcert", "sslcert", "sslkey", "sslpassword")
    context.check_hostname = mode == "verify-full"
    if not root and mode not in ("verify-ca", "verify-full"):
        context.verify_mode = ssl_module().CERT_NONE
    if given.get("sslcrl"):
        with _named("sslcrl"):
            context.load_verify_locations(cafile=given["sslcrl"])
        context.verify_flags |= ssl_module().VERIFY_CRL_CHECK_CHAIN
    versions = {"TLSv1.2": "TLSv1_2", "TLSv1.3": "TLSv1_3"}
    for end in ("minimum", "maximum"):
        version = given.get(f"ssl_{end[:3]}_protocol_version")
        if version not in (None, *versions):
            possible = " or ".join(versions)
            raise ValueError(f"url: ssl_{end[:3]}_protocol_version: expected {possible}")
        if version is not None:
            version = getattr(ssl_module().TLSVersion, versions[version])
            setattr(context, f"{end}_version", version)
    return context


def _tls_context(
    given: dict[str, Any], root: str, certificate: str, key: str, password: str
) -> Any:
    """Make a context that checks who the server is; the names are those of arguments."""
    ssl = ssl_module()
    authority = given.get(root)
    with _named(root):
        context = ssl.create_default_context(
            cafile=None if authority == "system" else authority
        )
    # As libpq: authorities of databases are old, and not made by the book.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if given.get(certificate):
        with _named(certificate):
            context.load_cert_chain(
                given[certificate], given.get(key), lambda: given.get(password) or ""
            )
    return context


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say of which argument a file can't be read."""
    try:
        yield
    except OSError as error:  # ssl's errors are such, too
        reason = error.strerror if type(error).__module__ == "builtins" else None
        shown = reason or "not what is expected there"
        raise ValueError(f"url: {name}: can't be read: {shown}") from None


def ssl_module() -> Any:
    # By need: importing it takes some ms.
    return import_module("ssl")


def _mysql(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> Creator:
    arguments = _mysql_arguments(module, _addressed(url, user="user", database="database"))
    return partial(module.connect, **arguments | connect_args)


def _aiomysql(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> Creator:
    arguments = _mysql_arguments(module, _addressed(url, user="user", database="db"))
    arguments.pop("ssl_disabled", None)

    async def connect(**arguments: Any) -> Any:
        connection = await module.connect(**arguments)
        # To a server that has no TLS, this driver talks without it.
        if arguments.get("ssl") and not _has_tls(connection):
            connection.close()
            raise module.OperationalError(
                2026, "SSL is required but the server doesn't support it"
            )
        return connection

    return partial(connect, **arguments | connect_args)


def _has_tls(connection: Any) -> bool:
    return connection._writer.get_extra_info("ssl_object") is not None


def _asyncmy(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> Creator:
    arguments = _mysql_arguments(module, _addressed(url, user="user", database="db"))
    arguments.pop("ssl_disabled", None)
    return _awaiting(module.connect, arguments | connect_args)


def _mysql_arguments(module: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Read the arguments for one of MySQL's drivers, with a context for TLS."""
    arguments = _one_host(arguments)
    known = signature(module.connect).parameters
    where = f"{module.__name__}.connect()"
    tls = {name: arguments.pop(name) for name in list(arguments) if name in _MYSQL_TLS}
    kinds = _kinds(known) | _MYSQL_KINDS
    typed = _typed(arguments, kinds, where, closed=True, known={*known, *_MYSQL_TLS})
    context = _mysql_tls(_typed(tls, _MYSQL_TLS, where))
    if context is None:
        return typed
    return typed | ({"ssl": context} if context else {"ssl_disabled": True})


def _mysql_tls(given: dict[str, Any]) -> Any:
    """Make the SSLContext of what PyMySQL takes as arguments.

    Returns:
        False for no TLS, None for what the driver does if nobody says anything.
    """
    if given.get("ssl_disabled") or given.get("ssl") is False:
        return False
    if not given.keys() - {"ssl_disabled"}:
        return None
    names = "ssl_ca", "ssl_cert", "ssl_key", "ssl_key_password"
    context = _tls_context(given, *names)
    context.check_hostname = identity = bool(given.get("ssl_verify_identity"))
    # An authority is there to be asked, unless that is ruled out.
    checked = given.get("ssl_verify_cert")
    if not (identity or (given.get("ssl_ca") if checked is None else checked)):
        context.verify_mode = ssl_module().CERT_NONE
    return context


def _one_host(arguments: dict[str, Any]) -> dict[str, Any]:
    if "," in str(arguments.get("host", "")):
        raise ValueError(
            "url: host: MySQL's drivers take one; put a proxy before the servers, or give "
            "QueuePool a creator that tries one after the other"
        )
    return arguments


def _awaiting(function: Callable[..., Any], arguments: dict[str, Any]) -> Creator:
    """Make a creator that is a coroutine function, as can be seen before it is called."""

    async def connect(**arguments: Any) -> Any:
        return await function(**arguments)

    return partial(connect, **arguments)


def _addressed(url: DatabaseURL, *, user: str, database: str) -> dict[str, Any]:
    """Name the URL's parts as a driver does, without those that are not given."""
    hosts = [host or "" for host, _ in url.addresses]
    ports = [port for _, port in url.addresses]
    many = len(hosts) > 1
    host: Any = ",".join(hosts) if many else url.host
    port: Any = url.port
    if many:
        port = ",".join(str(each or 5432) for each in ports) if any(ports) else None
    parts = {
        "host": host,
        "port": port,
        user: url.user,
        "password": url.password,
        database: url.database or None,
    }
    given = {name: value for name, value in parts.items() if value is not None}
    return given | url.arguments


def _kinds(parameters: Any) -> dict[str, type]:
    """Tell by its default what a parameter is for; what has none is text."""
    return {
        name: type(parameter.default)
        if isinstance(parameter.default, (bool, int, float))
        else str
        for name, parameter in parameters.items()
    }


def _typed(
    given: dict[str, Any],
    kinds: Mapping[str, type],
    where: str,
    *,
    closed: bool = False,
    known: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Read each argument as its parameter is typed.

    Args:
        given: texts, and what is read already.
        kinds: of parameters; of others it is text.
        where: the driver's function, for the error.
        closed: whether there are no other parameters.
        known: what to list as possible; default: what kinds are known of.
    """
    for name in given if closed else ():
        if name not in kinds:
            raise _unknown(name, where, known or kinds)
    return {
        name: value_of(name, value, kinds.get(name, str)) if type(value) is str else value
        for name, value in given.items()
    }


def _unknown(name: str, where: str, known: Iterable[str]) -> TypeError:
    possible = ", ".join(sorted(known))
    return TypeError(
        f"url: {where} has no argument {name!r}; possible are {possible}, and the pool's "
        "options"
    )


_SQLITE_URI = {"mode", "cache", "immutable", "vfs", "nolock", "psow", "modeof"}

_SQLITE_KINDS: dict[str, type] = {
    "timeout": float,
    "detect_types": int,
    "isolation_level": str,
    "check_same_thread": bool,
    "cached_statements": int,
    "uri": bool,
    "autocommit": bool,
    "iter_chunk_size": int,
}

_ASYNCPG_KINDS: dict[str, type] = {"port": int, "timeout": float, "command_timeout": float}

_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

# Those of libpq's that a URL needs, for errors; it may know more of them.
_LIBPQ = {
    "application_name",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "gssencmode",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "options",
    "passfile",
    "password",
    "port",
    "requirepeer",
    "service",
    "sslcert",
    "sslcrl",
    "sslkey",
    "sslmode",
    "sslpassword",
    "sslrootcert",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
}

_ASYNCPG_TLS = {
    "ssl",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
}

_MYSQL_TLS: dict[str, type] = {
    "ssl": bool,
    "ssl_ca": str,
    "ssl_cert": str,
    "ssl_disabled": bool,
    "ssl_key": str,
    "ssl_key_password": str,
    "ssl_verify_cert": bool,
    "ssl_verify_identity": bool,
}

_MYSQL_KINDS = _MYSQL_TLS | {
    "port": int,
    "connect_timeout": float,
    "read_timeout": float,
    "write_timeout": float,
    "use_unicode": bool,
}

_PSYCOPG = Connector("psycopg", "psycopg", _psycopg)
_ASYNC_PSYCOPG = Connector("psycopg", "psycopg", _async_psycopg)

_CONNECTORS = {
    "sqlite+sqlite3": Connector("sqlite3", None, _sqlite, embedded=True),
    "sqlite+aiosqlite": Connector("aiosqlite", "aiosqlite", _sqlite, embedded=True),
    "postgresql+psycopg": _PSYCOPG,
    "postgresql+psycopg2": Connector("psycopg2", "psycopg2", _psycopg2),
    "postgresql+asyncpg": Connector("asyncpg", "asyncpg", _asyncpg),
    "mysql+pymysql": Connector("pymysql", "pymysql", _mysql),
    "mysql+aiomysql": Connector("aiomysql", "aiomysql", _aiomysql),
    "mysql+asyncmy": Connector("asyncmy", "asyncmy", _asyncmy),
    "duckdb+duckdb": Connector("duckdb", "duckdb", _duckdb, embedded=True),
}

# A scheme without a driver -> the one for blocking pools, the one for async pools.
_DEFAULTS = {
    "sqlite": ("sqlite+sqlite3", "sqlite+sqlite3"),
    "postgresql": ("postgresql+psycopg", "postgresql+psycopg"),
    "postgres": ("postgresql+psycopg", "postgresql+psycopg"),
    "mysql": ("mysql+pymysql", "mysql+aiomysql"),
    "mariadb": ("mysql+pymysql", "mysql+aiomysql"),
    "duckdb": ("duckdb+duckdb", "duckdb+duckdb"),
}
