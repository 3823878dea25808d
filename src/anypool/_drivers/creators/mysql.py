"""PyMySQL, aiomysql and asyncmy, all with PyMySQL's arguments."""

from __future__ import annotations

from functools import partial
from inspect import signature
from typing import Any

from ..._core.url import DatabaseURL
from .arguments import addressed, awaiting, kinds_of, typed
from .tls import ssl_module, tls_context

_TLS: dict[str, type] = {
    "ssl": bool,
    "ssl_ca": str,
    "ssl_cert": str,
    "ssl_disabled": bool,
    "ssl_key": str,
    "ssl_key_password": str,
    "ssl_verify_cert": bool,
    "ssl_verify_identity": bool,
}

_KINDS = _TLS | {
    "port": int,
    "connect_timeout": float,
    "read_timeout": float,
    "write_timeout": float,
    "use_unicode": bool,
}


def pymysql(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> partial[Any]:
    arguments = _arguments(module, url, "database")
    return partial(module.connect, **arguments | connect_args)


def aiomysql(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> partial[Any]:
    arguments = _arguments(module, url, "db")
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


def asyncmy(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> partial[Any]:
    arguments = _arguments(module, url, "db")
    arguments.pop("ssl_disabled", None)
    return awaiting(module.connect, arguments | connect_args)


def _arguments(module: Any, url: DatabaseURL, database: str) -> dict[str, Any]:
    """Read the arguments for one of MySQL's drivers, with a context for TLS."""
    arguments = addressed(url, database)
    if "," in str(arguments.get("host", "")):
        raise ValueError(
            "url: host: MySQL's drivers take one; put a proxy before the servers, or give "
            "QueuePool a creator that tries one after the other"
        )
    known = signature(module.connect).parameters
    where = f"{module.__name__}.connect()"
    tls = {name: arguments.pop(name) for name in list(arguments) if name in _TLS}
    kinds = kinds_of(known) | _KINDS
    arguments = typed(arguments, kinds, where, closed=True, known={*known, *_TLS})
    context = _tls(typed(tls, _TLS, where))
    if context is None:
        return arguments
    return arguments | ({"ssl": context} if context else {"ssl_disabled": True})


def _tls(given: dict[str, Any]) -> Any:
    """Make the SSLContext of what PyMySQL takes as arguments.

    Returns:
        False for no TLS, None for what the driver does if nobody says anything.
    """
    if given.get("ssl_disabled") or given.get("ssl") is False:
        return False
    if not given.keys() - {"ssl_disabled"}:
        return None
    names = "ssl_ca", "ssl_cert", "ssl_key", "ssl_key_password"
    context = tls_context(given, *names)
    context.check_hostname = identity = bool(given.get("ssl_verify_identity"))
    # An authority is there to be asked, unless that is ruled out.
    checked = given.get("ssl_verify_cert")
    if not (identity or (given.get("ssl_ca") if checked is None else checked)):
        context.verify_mode = ssl_module().CERT_NONE
    return context
