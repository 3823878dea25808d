"""psycopg and psycopg2: libpq reads what they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import Any

from ..._core.url import DatabaseURL
from .arguments import addressed, awaiting, typed, unknown_argument
from .tls import check_sslmode

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


def psycopg(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> partial[Any]:
    kinds = {"autocommit": bool, "prepare_threshold": int}
    arguments = typed(addressed(url, "dbname"), kinds, "psycopg")
    make = module.conninfo.make_conninfo
    _check_libpq(arguments, kinds, make, module.ProgrammingError, "psycopg.connect()")
    return partial(module.connect, **arguments | connect_args)


def async_psycopg(
    module: Any, url: DatabaseURL, connect_args: dict[str, Any]
) -> partial[Any]:
    arguments = psycopg(module, url, connect_args).keywords
    return awaiting(module.AsyncConnection.connect, arguments)


def psycopg2(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> partial[Any]:
    kinds = {"autocommit": bool}
    arguments = typed(addressed(url, "dbname"), kinds, "psycopg2")
    make = import_module("psycopg2.extensions").make_dsn
    _check_libpq(arguments, kinds, make, module.ProgrammingError, "psycopg2.connect()")

    # Its connect function doesn't know this one, as all others do.
    def connect(*, autocommit: bool = False, **arguments: Any) -> Any:
        connection = module.connect(**arguments)
        connection.autocommit = autocommit
        return connection

    return partial(connect, **arguments | connect_args)


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
            raise unknown_argument(name, where, {*others, *_LIBPQ}) from None
    check_sslmode("sslmode", arguments.get("sslmode", "prefer"))
