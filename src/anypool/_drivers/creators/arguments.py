"""What a URL says, as the arguments of a driver's connect function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ..._core.url import DatabaseURL, value_of


def addressed(url: DatabaseURL, database: str) -> dict[str, Any]:
    """Name the URL's parts, those that are given. Drivers differ in what they call the
    database."""
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
        "user": url.user,
        "password": url.password,
        database: url.database or None,
    }
    given = {name: value for name, value in parts.items() if value is not None}
    return given | url.arguments


def kinds_of(parameters: Any) -> dict[str, type]:
    """Tell by its default what a parameter is for; what has none is text."""
    return {
        name: type(parameter.default)
        if isinstance(parameter.default, (bool, int, float))
        else str
        for name, parameter in parameters.items()
    }


def typed(
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
            raise unknown_argument(name, where, known or kinds)
    return {
        name: value_of(name, value, kinds.get(name, str)) if type(value) is str else value
        for name, value in given.items()
    }


def unknown_argument(name: str, where: str, known: Iterable[str]) -> TypeError:
    possible = ", ".join(sorted(known))
    return TypeError(
        f"url: {where} has no argument {name!r}; possible are {possible}, and the pool's "
        "options"
    )


def awaiting(function: Callable[..., Any], arguments: dict[str, Any]) -> partial[Any]:
    """Make a creator that is a coroutine function, as can be seen before it is called."""

    async def connect(**arguments: Any) -> Any:
        return await function(**arguments)

    return partial(connect, **arguments)
