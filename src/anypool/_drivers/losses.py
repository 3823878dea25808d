"""Which errors mean that the connection is lost, whatever the driver calls them."""

from __future__ import annotations

import sys

# SQLSTATEs with which PostgreSQL takes its leave: shutdown (57P01, 57P02), just starting or
# ending (57P03), database dropped (57P04), idle timeouts (57P05, 25P03), a transaction's
# timeout (25P04). Class 08 is "connection exception".
_SQLSTATES = {"57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04"}

# MySQL and MariaDB: shutdown, connection killed, disconnected for inactivity; server gone,
# lost in mid-query, commands out of sync, lost with details; and 0, which PyMySQL and its
# kin use for a connection that is closed on their side. Then a server that has another role
# now: writes refused in a transaction, or altogether; taken offline.
_MYSQL_CODES = {1053, 1927, 4031, 2006, 2013, 2014, 2055, 0, 1792, 1836, 3032}

# Those that mean a loss with one of these words in their message: an option prevents a
# statement, and it is the one of a replica; a node of a Galera cluster is not part of it.
_MYSQL_WORDS = {1290: ("read-only", "read_only"), 1047: ("WSREP",)}

# Names of errors of their own in other packages: clients of all kinds; streams of anyio and
# trio; websockets.
_NETWORK_ERRORS = {
    "ConnectionError",
    "BrokenResourceError",
    "ClosedResourceError",
    "EndOfStream",
    "EndOfChannel",
    "ConnectionClosed",
}


def means_lost(
    error: BaseException, connection: object, *packages: str, closed: bool = False
) -> bool:
    """Tell whether an error of the connection's own driver means that it is lost.

    Errors of other packages say nothing about this connection: the application may have
    been refused by some other server meanwhile.

    Args:
        error: what was raised while the connection was out.
        connection: the connection.
        packages: further packages whose errors the driver raises.
        closed: whether the connection is closed by now.
    """
    if closed and (is_network_error(error) or _has_number(error)):
        return True
    if not is_of_driver(error, connection, *packages):
        return False
    if closed:
        return True
    code = error.args[0] if error.args else None
    if isinstance(code, dict):  # pg8000: the fields of the server's message
        code = code.get("C")
    for state in (getattr(error, "sqlstate", None), getattr(error, "pgcode", None), code):
        if isinstance(state, str) and (state in _SQLSTATES or _is_class_08(state)):
            return True
    number = mysql_number(error)
    if number in _MYSQL_CODES:
        return True
    if number in _MYSQL_WORDS:
        return any(word in str(error) for word in _MYSQL_WORDS[number])
    return is_network_error(error) or is_network_error(error.__cause__)


def mysql_number(error: BaseException) -> int | None:
    """Return the number that drivers of MySQL and MariaDB give their errors."""
    for number in (getattr(error, "errno", None), error.args[0] if error.args else None):
        if type(number) is int:
            return number
    return None


def is_of_driver(error: BaseException, connection: object, *packages: str) -> bool:
    """Tell whether an error is one of the connection's driver, or of these packages."""
    known = {_package(base) for base in type(connection).__mro__} - {"builtins", "typing"}
    if _package(type(error)) in known.union(packages):
        return True
    # PEP 249: a driver's package exports its errors, which may be another one's.
    for package in known:
        root = getattr(sys.modules.get(package), "Error", None)
        if isinstance(root, type) and isinstance(error, root):
            return True
    return False


def is_network_error(error: BaseException | None) -> bool:
    """Tell whether the operating system, or a driver in its name, reports a lost peer."""
    return isinstance(error, (ConnectionError, EOFError)) or any(
        base.__name__ in _NETWORK_ERRORS for base in type(error).__mro__
    )


def _has_number(error: BaseException) -> bool:
    # A TimeoutError without one is no network's, but that of some scope in Python.
    return isinstance(error, OSError) and error.errno is not None


def _is_class_08(state: str) -> bool:
    return len(state) == 5 and state.startswith("08")


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]
