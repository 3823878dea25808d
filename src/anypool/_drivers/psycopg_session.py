"""What a caller can change of a session of psycopg 3, and the way back."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple, TypeAlias

import psycopg
from psycopg.adapt import AdaptersMap

from .originals import is_read_only

Connection: TypeAlias = psycopg.Connection[Any]
AsyncConnection: TypeAlias = psycopg.AsyncConnection[Any]
AnyConnection: TypeAlias = Connection | AsyncConnection


class Original(NamedTuple):
    """A connection's Python side, as it was when the connection was new."""

    attributes: dict[str, Any]
    adapters: AdaptersMap | None
    notice_handlers: list[Any]
    notify_handlers: list[Any]
    read_only: bool


_ATTRIBUTES = (
    "row_factory",
    "cursor_factory",
    "server_cursor_factory",
    "prepare_threshold",
    "prepared_max",
)


def look_at(connection: AnyConnection) -> Original:
    """Take note of the connection's Python side."""
    adapters = connection._adapters
    return Original(
        {name: getattr(connection, name) for name in _ATTRIBUTES},
        None if adapters is None else AdaptersMap(adapters),
        connection._notice_handlers.copy(),
        connection._notify_handlers.copy(),
        is_read_only(connection.info.parameter_status),
    )


def make_like(connection: AnyConnection, original: Original) -> None:
    """Put the Python side back."""
    for name, value in original.attributes.items():
        setattr(connection, name, value)
    adapters = original.adapters
    connection._adapters = None if adapters is None else AdaptersMap(adapters)
    connection._notice_handlers[:] = original.notice_handlers
    connection._notify_handlers[:] = original.notify_handlers


def forget_two_phase(connection: AnyConnection) -> None:
    """Have a two-phase transaction ended as any other.

    One that is prepared is in the server's keeping, and stays there for tpc_recover().
    """
    connection._tpc = None


def put_back(connection: AnyConnection, baseline: Any) -> None:
    """Put back how transactions begin.

    As the setters do it, which exist in two kinds.
    """
    (
        connection._autocommit,
        connection._isolation_level,
        connection._read_only,
        connection._deferrable,
        *_,
    ) = baseline
    connection._begin_statement = b""


def forget_session(connection: AnyConnection) -> None:
    """After DISCARD ALL: the server has no prepared statements left, nor does it notify.

    psycopg notices the former by itself only if it hasn't seen the statement before.
    """
    prepared = connection._prepared
    prepared.clear()
    prepared._to_flush.clear()
    if hasattr(connection, "_notifies_backlog"):  # psycopg 3.2.4
        connection._notifies_backlog = deque()
