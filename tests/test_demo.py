"""``python -m anypool``: the demo's books, its verdict, its options and its manners."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from io import StringIO
from pathlib import Path

import aiosqlite
import anyio
import pytest
from rich.console import Console
from typer import BadParameter
from typer.testing import CliRunner

import anypool
from anypool import sync
from anypool._demo.bank import ACCOUNTS, BEGIN, OPENING_BALANCE, Bank, UnusableFileError
from anypool._demo.cli import _finite, app
from anypool._demo.demo import Demo
from anypool._demo.display import ProgressDisplay, print_report
from anypool._demo.fate import MISHAP_EVERY, TASK_MISHAPS, THREAD_MISHAPS, Fate, fates
from anypool._demo.load import Load, Pulse, Watch
from anypool._demo.pools import Pools
from anypool._demo.report import Report, percentile
from anypool._demo.task_teller import TaskTeller
from anypool._demo.thread_teller import ThreadTeller

COMMAND = [sys.executable, "-m", "anypool"]
SMALL = ["--seconds", "0.1", "--tasks", "4", "--threads", "4", "--pool-size", "2"]
TOTAL = ACCOUNTS * OPENING_BALANCE

# Runs the program as if the module that is its argument weren't installed.
WITHOUT = """
import sys
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *args: (
    None if name == sys.argv[1] else find_spec(name, *args)
)
from anypool.__main__ import main

main()
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a user does."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False
    )


class ClosingAfter(threading.Event):
    """A closing time that comes when a teller has looked at the clock so many times."""

    def __init__(self, looks: int) -> None:
        """Come at the last of so many looks."""
        super().__init__()
        self._left = looks

    def is_set(self) -> bool:
        """Look at the clock."""
        self._left -= 1
        return self._left <= 0


def unwatched(name: str, seconds: float) -> Watch:
    """Watch a load without looking."""
    return lambda pulse: None


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return what a short run has found."""
    with Bank(tmp_path_factory.mktemp("demo") / "bank.db") as bank:
        return Demo(seconds=0.1, tasks=4, threads=4, pool_size=2).run(bank, unwatched)


# The whole program.


def test_json_is_all_that_is_printed_and_the_books_balance() -> None:
    """Scripts read the same facts that people do, and the same exit status."""
    done = run("demo", "--json", "--seconds", "0.3")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["balanced"] is True
    assert report["sum_before"] == report["sum_after"] == TOTAL
    assert report["connections_out"] == 0
    dropped = 0
    for load in (report["pooled"], report["unpooled"]):
        for side in (load["tasks"], load["threads"]):
            assert side["transactions_per_second"] == side["transactions"] / load["seconds"]
            assert 0 < side["wait_median"] <= side["wait_p99"]
            dropped += side["mishaps"]["dropped"]
    assert report["leaks_reported"] == dropped
    for side in (report["pooled"]["tasks"], report["pooled"]["threads"]):
        assert side["transactions"] > 0
        # The pool's own, and one in place of each that was invalidated.
        assert side["connections_opened"] <= (
            report["pool_size"] + side["mishaps"]["invalidated"]
        )


def test_report_without_a_terminal_is_plain_text() -> None:
    """A pipe or a file gets neither bars nor colours, and lines of 80 columns at most."""
    done = CliRunner().invoke(app, ["demo", *SMALL])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "ok    the books balance: 100,000.00 in all accounts, as before" in done.stdout
    assert "ok    connections out: 0" in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_version_and_help() -> None:
    """Both work without a command."""
    assert run("--version").stdout == f"anypool {version('anypool')}\n"
    assert "demo" in CliRunner().invoke(app, ["--help"]).stdout


@pytest.mark.parametrize("missing", ["aiosqlite", "rich", "typer"])
def test_without_the_extra_one_line_says_what_to_install(missing: str) -> None:
    """There is no traceback, whichever of its modules is not installed."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, missing],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "pip install 'anypool[cli]'" in done.stderr


def test_what_else_is_missing_is_no_matter_of_the_extra() -> None:
    """That is an error like any other."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "anypool._demo.fate"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "ModuleNotFoundError: No module named 'anypool._demo.fate'" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a console of its own gets no Ctrl-C")
def test_interrupt_ends_it_cleanly(tmp_path: Path) -> None:
    """Ctrl-C in the midst of it costs no money and prints no traceback."""
    file = tmp_path / "bank.db"
    process = subprocess.Popen(
        [*COMMAND, "demo", "--json", "--seconds", "60", "--url", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not moved(file) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout, stderr) == (130, "", "Interrupted.\n")
    with Bank(file) as bank:
        assert bank.total() == TOTAL


def moved(file: Path) -> bool:
    """Tell whether money has been moved in the demo's file already."""
    # Not before there is a log: a reader would be in the way of the file's set-up.
    if not file.with_name(f"{file.name}-wal").exists():
        return False
    with closing(sqlite3.connect(file)) as connection:
        try:
            (balances,) = connection.execute(
                "SELECT count(DISTINCT cents) FROM anypool_demo_account"
            ).fetchone()
        except sqlite3.OperationalError:  # no such table yet
            return False
    return int(balances) > 1


# The books.


async def serve_in_task(path: Path, transfers: int) -> TaskTeller:
    """Have a task serve so many customers through a pool of one connection."""
    with Bank(path) as bank:
        pools = Pools.of_size(1, path)
        teller = TaskTeller(0, bank, pools.tasks)
        await teller.work(ClosingAfter(transfers))
        await pools.dispose()
        return teller


@pytest.mark.filterwarnings("ignore:.*dropped without close:ResourceWarning")
def test_no_mishap_of_a_task_costs_money_or_a_connection(tmp_path: Path) -> None:
    """With a pool of one, each transfer has the connection that the one before it left."""
    path = tmp_path / "bank.db"
    teller = anyio.run(serve_in_task, path, MISHAP_EVERY * len(TASK_MISHAPS))
    assert teller.tally.fates == dict.fromkeys(TASK_MISHAPS, 1) | {
        Fate.COMPLETED: (MISHAP_EVERY - 1) * len(TASK_MISHAPS)
    }
    with Bank(path) as bank:
        assert bank.total() == TOTAL


@pytest.mark.filterwarnings("ignore:.*dropped without close:ResourceWarning")
def test_no_mishap_of_a_thread_costs_money_or_a_connection(tmp_path: Path) -> None:
    """With a pool of one, each transfer has the connection that the one before it left."""
    with Bank(tmp_path / "bank.db") as bank:
        pools = Pools.of_size(1, bank.path)
        teller = ThreadTeller(0, bank, pools.threads)
        teller.work(ClosingAfter(MISHAP_EVERY * len(THREAD_MISHAPS)))
        assert teller.tally.fates == dict.fromkeys(THREAD_MISHAPS, 1) | {
            Fate.COMPLETED: (MISHAP_EVERY - 1) * len(THREAD_MISHAPS)
        }
        assert pools.thread_listener.opened == 2
        assert pools.checkedout() == 0
        assert bank.total() == TOTAL
        pools.threads.dispose()


def test_lease_of_a_thread_whose_transfer_can_not_begin_is_returned(tmp_path: Path) -> None:
    """An error there holds the frame that has the lease."""
    with Bank(tmp_path / "bank.db") as bank:
        pools = Pools.of_size(1, bank.path)
        with pools.threads.connect() as connection:
            connection.execute("DROP TABLE anypool_demo_account")
        teller = ThreadTeller(0, bank, pools.threads)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            teller._serve(bank.draw_transfer(), Fate.DROPPED)
        assert pools.checkedout() == 0
        pools.threads.dispose()


async def settle_with_one_out(path: Path) -> int:
    """Have a load wait for a lease that is still out when it has ended."""
    with Bank(path) as bank:
        load = Load(bank, Pools.of_size(1, path), 0, 1)
        lease = load.pools.threads.connect()
        looks = iter([1, 1])

        def checkedout(self: Pools) -> int:
            if not next(looks, 0):
                lease.close()
            return original(self)

        original = Pools.checkedout
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Pools, "checkedout", checkedout)
            return await load.settle()


def test_dropped_leases_are_given_time_to_come_back(tmp_path: Path) -> None:
    """A load looks more than once whether all connections are back."""
    assert anyio.run(settle_with_one_out, tmp_path / "bank.db") == 0


async def cancel_while_dropping(path: Path) -> int:
    """Cancel a task before it drops its lease; return how many connections are out then.

    It is caught between checkout and drop, where it waits for the file's lock.
    """
    teller_that_drops_first = 30
    with Bank(path) as bank, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(BEGIN)
        pools = Pools.of_size(1, path)
        teller = TaskTeller(teller_that_drops_first, bank, pools.tasks)
        task = asyncio.create_task(teller.work(ClosingAfter(1)))
        with anyio.fail_after(10):
            while not teller.tally.waits:
                await anyio.sleep(0.001)
        task.cancel()
        other.rollback()
        await asyncio.wait([task])
        out = pools.checkedout()
        await pools.dispose()
        return out


def test_no_lease_is_dropped_but_on_purpose(tmp_path: Path) -> None:
    """A cancelled task's error holds its frames; a lease in one of them would stay out."""
    assert next(fates(30, TASK_MISHAPS)) is Fate.DROPPED
    assert anyio.run(cancel_while_dropping, tmp_path / "bank.db") == 0


def committing(size: int, path: Path) -> Pools:
    """Make pools that commit what they ought to roll back."""
    return Pools(
        anypool.QueuePool(
            lambda: aiosqlite.connect(path, isolation_level=None),
            pool_size=size,
            reset_on_return="commit",
        ),
        sync.QueuePool(
            lambda: sqlite3.connect(path, isolation_level=None, check_same_thread=False),
            pool_size=size,
            reset_on_return="commit",
        ),
    )


def test_pools_that_do_not_roll_back_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Money that was withdrawn and not deposited is missing, and the exit status is 1."""
    monkeypatch.setattr(Pools, "of_size", committing)
    printed = CliRunner().invoke(app, ["demo", *SMALL])
    assert printed.exit_code == 1
    assert "FAIL  the books don't balance: 100,000.00 before, 99," in printed.stdout
    as_json = CliRunner().invoke(app, ["demo", "--json", *SMALL])
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["balanced"] is False


def test_verdict(report: Report) -> None:
    """Money lost, money made, a connection lost: each of them is a failure."""
    assert report.exit_status == 0
    assert replace(report, sum_after=report.sum_before - 1).exit_status == 1
    assert replace(report, sum_after=report.sum_before + 1).exit_status == 1
    assert replace(report, connections_out=1).exit_status == 1


def test_lost_connections_are_reported(report: Report) -> None:
    """The report says how many, whatever the file is called."""
    out = StringIO()
    print_report(Console(file=out), replace(report, connections_out=3), "[a file]")
    assert "FAIL  connections out: 3" in out.getvalue()
    assert "[a file]" in out.getvalue()


def test_percentiles_are_values_that_occurred() -> None:
    """They are never interpolated, and those of nothing are 0."""
    hundred = [float(value) for value in range(1, 101)]
    assert percentile(hundred, 50) == 50
    assert percentile(hundred, 99) == 99
    assert percentile([7.0], 99) == 7
    assert percentile([], 99) == 0


def test_bars_show_a_running_load_and_vanish() -> None:
    """They are drawn when the load says how it goes, and not left on the screen."""
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    display = ProgressDisplay(console, shown=True)
    with display.bars:
        display.announce("with pools", 2.0)(Pulse(elapsed=0.5, completed=600, out=3))
    assert "1,200 transactions/s, 3 connections out" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K")


# The file.


def test_a_file_of_ones_own_is_used_again(tmp_path: Path) -> None:
    """The balances stay as the last run left them; the sum is the same for ever."""
    file = tmp_path / "bank.db"
    for url in (str(file), f"sqlite:///{file}"):
        result = CliRunner().invoke(app, ["demo", "--url", url, *SMALL])
        assert result.exit_code == 0
        with closing(sqlite3.connect(file)) as connection:
            balances = connection.execute(
                "SELECT cents FROM anypool_demo_account"
            ).fetchall()
        assert sum(cents for (cents,) in balances) == TOTAL
        assert len(set(balances)) > 1


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE customer (name TEXT)",
        "CREATE VIEW customer AS SELECT 1",
        "CREATE TABLE anypool_demo_account (name TEXT)",
    ],
)
def test_someone_elses_database_is_not_touched(tmp_path: Path, statement: str) -> None:
    """It is refused before anything is written, and left as it was to the byte."""
    file = tmp_path / "theirs.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(statement)
    before = file.read_bytes()
    result = CliRunner().invoke(app, ["demo", "--url", str(file), *SMALL])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "not the demo's own" in " ".join(result.stderr.replace("│", " ").split())
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.db"]


def test_a_file_that_is_no_database_is_not_touched(tmp_path: Path) -> None:
    """It is refused before anything is written."""
    file = tmp_path / "letter.txt"
    file.write_text("Dear customer, " * 100)
    with pytest.raises(UnusableFileError, match="file is not a database"):
        Bank(file)
    assert file.read_text() == "Dear customer, " * 100


def test_a_file_that_can_not_be_made_is_an_error(tmp_path: Path) -> None:
    """SQLite's reason is part of the message."""
    with pytest.raises(UnusableFileError, match="unable to open database file"):
        Bank(tmp_path / "missing" / "bank.db")


# Options.


def test_no_number_of_seconds() -> None:
    """Older versions of typer let this one through."""
    with pytest.raises(BadParameter, match="not a number"):
        _finite(math.nan)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seconds", "0"],
        ["--seconds", "nan"],
        ["--seconds", "soon"],
        ["--tasks", "0"],
        ["--threads", "-1"],
        ["--pool-size", "0"],
        ["--pool-size", "1.5"],
        ["--url", "postgresql://localhost/bank"],
        ["--url", ":memory:"],
        ["--url", "sqlite://"],
    ],
)
def test_a_bad_option_is_named(arguments: list[str]) -> None:
    """It is refused before any work is done."""
    result = CliRunner().invoke(app, ["demo", *arguments])
    assert result.exit_code == 2
    assert f"Invalid value for '{arguments[0]}'" in result.stderr
    assert result.stdout == ""
