"""Bank: accounts in an SQLite file, and the statements that move money between them."""

from __future__ import annotations

import random
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

ACCOUNTS: Final = 100
OPENING_BALANCE: Final = 1_000_00
"""Cents on each account when it is opened."""
LARGEST_AMOUNT: Final = 10_00
"""Cents that one transfer moves at most."""

SETTINGS: Final = """
PRAGMA busy_timeout = 30000;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
"""
"""What every connection needs so that many may write, in turn."""

# A transfer: three statements and a commit, money in nobody's hands in the middle of it.
BEGIN: Final = "BEGIN IMMEDIATE"
WITHDRAW: Final = "UPDATE anypool_demo_account SET cents = cents - ? WHERE number = ?"
DEPOSIT: Final = "UPDATE anypool_demo_account SET cents = cents + ? WHERE number = ?"

_TABLE = "anypool_demo_account"
_CREATE = (
    "CREATE TABLE anypool_demo_account (number INTEGER PRIMARY KEY, cents INTEGER NOT NULL)"
)


class UnusableFileError(Exception):
    """The demo can't or won't keep its accounts in this file; the message says why."""


class Transfer(NamedTuple):
    """An order to move an amount, in cents, from one account to another."""

    source: int
    target: int
    cents: int


class Bank:
    """The accounts, in an SQLite file. It is made if it isn't there.

    Accounts that the file lacks are opened, the others left as they are. A file that holds
    anything but the demo's own table is not touched: UnusableFileError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Open for as long as the bank is: whenever the last connection to a file closes,
        # SQLite removes its log, and makes who connects just then wait.
        self._connection = _connect(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def total(self) -> int:
        """Return the sum of all accounts in cents, which no transfer may change."""
        (cents,) = self._connection.execute(f"SELECT sum(cents) FROM {_TABLE}").fetchone()
        return int(cents)

    def draw_transfer(self) -> Transfer:
        """Draw the order that the next customer comes with."""
        source, target = random.sample(range(1, ACCOUNTS + 1), 2)
        return Transfer(source, target, random.randint(1, LARGEST_AMOUNT))


def _connect(path: Path) -> sqlite3.Connection:
    """Connect to a file that has all of the accounts, or is given them now."""
    try:
        found = _schema(path)
        if found not in ([], [(_TABLE, _CREATE)]):
            names = ", ".join(name for name, _ in found)
            raise UnusableFileError(
                f"{path} has tables that are not the demo's own ({names}): not touched"
            )
        with ExitStack() as on_error:
            connection = sqlite3.connect(path, isolation_level=None)
            on_error.callback(connection.close)
            connection.executescript(SETTINGS)
            _open_accounts(connection, with_table=not found)
            on_error.pop_all()
            return connection
    except sqlite3.Error as error:
        raise UnusableFileError(f"{path} can't be used: {error}") from error


def _schema(path: Path) -> list[tuple[str, str]]:
    """Return what the file holds: names, and the statements that made them."""
    if not path.exists():
        return []
    # A reader, too, leaves files beside one in WAL mode, unless it takes it for immutable.
    # That it may do where no log has changes that the file itself still lacks.
    logs = [path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")]
    immutable = not any(log.exists() for log in logs)
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable={immutable:d}"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master").fetchall()


def _open_accounts(connection: sqlite3.Connection, *, with_table: bool) -> None:
    with connection:
        connection.execute(BEGIN)
        if with_table:
            connection.execute(_CREATE)
        connection.executemany(
            f"INSERT OR IGNORE INTO {_TABLE} VALUES (?, ?)",
            [(number, OPENING_BALANCE) for number in range(1, ACCOUNTS + 1)],
        )
