"""What a caller can change of a SQLite connection's session, and the way back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .._core.driver import CannotReset

# Settings of a connection that can be read and set. What belongs to the file (journal_mode,
# user_version, ...) or to the process (heap limits) is none of a session's.
_PRAGMAS = (
    "analysis_limit",
    "automatic_index",
    "busy_timeout",
    "cache_size",
    "cache_spill",
    "cell_size_check",
    "checkpoint_fullfsync",
    "count_changes",
    "defer_foreign_keys",
    "empty_result_callbacks",
    "foreign_keys",
    "full_column_names",
    "fullfsync",
    "ignore_check_constraints",
    "journal_size_limit",
    "legacy_alter_table",
    "locking_mode",
    "max_page_count",
    "mmap_size",
    "query_only",
    "read_uncommitted",
    "recursive_triggers",
    "reverse_unordered_selects",
    "secure_delete",
    "short_column_names",
    "synchronous",
    "temp_store",
    "threads",
    "trusted_schema",
    "wal_autocheckpoint",
    "writable_schema",
)

_LIMITS = range(12)

_TEMPORARY = (
    "SELECT type, name FROM sqlite_temp_master "
    "WHERE type IN ('table', 'view', 'trigger') AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
)

_FUNCTIONS = "SELECT name, narg, type, flags FROM pragma_function_list WHERE NOT builtin"


class Session(NamedTuple):
    """A session as it was when its connection was new.

    Attributes:
        attached: names and files of databases; those that connect listeners have attached
            are missing, since they will be told again.
        temporary: kinds and names of objects, likewise.
        settings: PRAGMAs that can be put back.
        limits: as ``getlimit()`` tells them.
        fixed: functions and collations, which can't be put back.
    """

    attached: set[tuple[str, str]]
    temporary: set[tuple[str, str]]
    settings: dict[str, Any]
    limits: list[int]
    fixed: set[tuple[Any, ...]]


UNKNOWN = Session(set(), set(), {}, [], {("none is like this",)})


def holds_data(connection: sqlite3.Connection) -> Any:
    """Answer what ``Driver.holds_data`` asks."""
    with plain_cursor(connection) as cursor:
        rows = cursor.execute("PRAGMA database_list").fetchall()
        if not any(name == "main" and not file for _, name, file in rows):
            return False
        # Only with a shared cache do statements lock tables.
        program = cursor.execute("EXPLAIN SELECT 1 FROM sqlite_master").fetchall()
        if any(row[1] == "TableLock" for row in program):
            return True
        filled = cursor.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return True if filled else "new and its own"


def look_at(connection: sqlite3.Connection, first: Session | None = None) -> Session:
    """Take note of a session; UNKNOWN if that can't be seen, as of a locked file.

    Args:
        connection: is new.
        first: what was noted before the connect listeners were told.
    """
    if first is UNKNOWN:
        return UNKNOWN
    try:
        with plain_cursor(connection) as cursor:
            return Session(
                first.attached if first else _attached(cursor),
                first.temporary if first else set(cursor.execute(_TEMPORARY)),
                _settings(cursor),
                [connection.getlimit(each) for each in _LIMITS],
                _fixed(cursor),
            )
    except sqlite3.Error:
        return UNKNOWN


def bring_back(connection: sqlite3.Connection, session: Session) -> None:
    """Make the session what it was; there is no transaction open.

    Raises:
        CannotReset: there is no way back.
    """
    with plain_cursor(connection) as cursor:
        for kind, name in set(cursor.execute(_TEMPORARY)) - session.temporary:
            # A table takes its triggers with it.
            cursor.execute(f"DROP {kind} IF EXISTS temp.{_quoted(name)}")
        for name, _ in _attached(cursor) - session.attached:
            cursor.execute(f"DETACH {_quoted(name)}")
        found = set(cursor.execute(_TEMPORARY)), _attached(cursor), _fixed(cursor)
        if found != (session.temporary, session.attached, session.fixed):
            raise CannotReset
        settings = _settings(cursor)
        if settings != session.settings:
            for name, value in session.settings.items():
                if settings.get(name) != value:
                    cursor.execute(f"PRAGMA {name} = {value}").fetchall()
            if _settings(cursor) != session.settings:
                raise CannotReset
    for limit, number in zip(_LIMITS, session.limits, strict=True):
        if connection.getlimit(limit) != number:
            connection.setlimit(limit, number)


@contextmanager
def plain_cursor(connection: sqlite3.Connection) -> Iterator[sqlite3.Cursor]:
    """Give a cursor whose rows are tuples of plain values, outside of any transaction."""
    factory, autocommit = connection.text_factory, getattr(connection, "autocommit", None)
    connection.text_factory = str
    if autocommit is False:  # Python 3.12: there is always a transaction
        setattr(connection, "autocommit", True)  # noqa: B010
    try:
        cursor = connection.cursor()
        cursor.row_factory = None
        yield cursor
    finally:
        connection.text_factory = factory
        if autocommit is False:
            setattr(connection, "autocommit", False)  # noqa: B010


def _attached(cursor: sqlite3.Cursor) -> set[tuple[str, str]]:
    rows = cursor.execute("PRAGMA database_list").fetchall()
    return {(name, file) for _, name, file in rows if name not in ("main", "temp")}


def _settings(cursor: sqlite3.Cursor) -> dict[str, Any]:
    settings = {
        name: row[0]
        for name in _PRAGMAS
        if (row := cursor.execute(f"PRAGMA {name}").fetchone()) is not None
    }
    # This one can be set, but not read.
    row = cursor.execute("SELECT 'a' NOT LIKE 'A'").fetchone()
    return settings | {"case_sensitive_like": row[0]}


def _fixed(cursor: sqlite3.Cursor) -> set[tuple[Any, ...]]:
    # A collation that is removed stays in this list, as a function does in the other.
    names = cursor.execute("PRAGMA collation_list").fetchall()
    return {(name,) for _, name in names} | set(cursor.execute(_FUNCTIONS))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
