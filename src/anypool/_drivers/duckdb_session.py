"""What a caller can change of a DuckDB connection's session, and the way back.

For databases in memory, which must not be closed; it takes some ms. What is the whole
database's (global settings, attached ones, Python functions, extensions) is no session's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import duckdb

from .._core.driver import CannotReset

_SETTINGS = "SELECT name, value FROM duckdb_settings() WHERE scope = 'LOCAL'"

_VARIABLES = "SELECT name, value FROM duckdb_variables()"

_TEMPORARY = """
SELECT 'TABLE', table_name FROM duckdb_tables() WHERE temporary
UNION ALL SELECT 'VIEW', view_name FROM duckdb_views() WHERE temporary AND NOT internal
UNION ALL SELECT 'SEQUENCE', sequence_name FROM duckdb_sequences() WHERE temporary
UNION ALL SELECT 'TYPE', type_name FROM duckdb_types()
    WHERE database_name = 'temp' AND NOT internal
UNION ALL SELECT CASE function_type WHEN 'table_macro' THEN 'MACRO TABLE' ELSE 'MACRO' END,
    function_name FROM duckdb_functions() WHERE database_name = 'temp' AND NOT internal
"""


class Session(NamedTuple):
    """A session as it was when its connection was new.

    Attributes:
        settings: those of the connection, the chosen schema among them.
        variables: as SET VARIABLE sets them.
        prepared: names of statements; DuckDB before 2.0 doesn't tell.
        temporary: kinds and names of objects, views of registered Python objects among
            them; not those of connect listeners, which will be told again.
    """

    settings: dict[str, Any]
    variables: dict[str, Any]
    prepared: set[str]
    temporary: set[tuple[str, str]]


class Baseline:
    """What callers start from: a session, where a full reset has to know it."""

    session: Session | None = None


def look_at(connection: duckdb.DuckDBPyConnection, first: Session | None = None) -> Session:
    """Take note of a session; first is what was noted before listeners were told."""

    def ask(question: str) -> list[Any]:
        return connection.execute(question).fetchall()

    try:
        prepared = {
            name for (name,) in ask("SELECT name FROM duckdb_prepared_statements()")
        }
    except duckdb.CatalogException:
        prepared = set()
    temporary = first.temporary if first else set(ask(_TEMPORARY))
    return Session(dict(ask(_SETTINGS)), dict(ask(_VARIABLES)), prepared, temporary)


def bring_back(connection: duckdb.DuckDBPyConnection, session: Session) -> None:
    """Make the session what it was; there is no transaction open.

    Raises:
        CannotReset: there is no way back.
    """
    found = look_at(connection)
    if found == session:
        return
    for kind, name in sorted(found.temporary - session.temporary):
        connection.execute(f"DROP {kind} IF EXISTS temp.{_quoted(name)} CASCADE")
    for name in found.prepared - session.prepared:
        connection.execute(f"DEALLOCATE {_quoted(name)}")
    for name in found.variables.keys() - session.variables.keys():
        connection.execute(f"RESET VARIABLE {_quoted(name)}")
    for name, value in session.settings.items():
        if value is None and found.settings.get(name) is not None:
            connection.execute(f"RESET SESSION {name}")
        elif value != found.settings.get(name):
            text = str(value).replace("'", "''")
            connection.execute(f"SET SESSION {name} = '{text}'")
    if look_at(connection) != session:
        raise CannotReset


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
