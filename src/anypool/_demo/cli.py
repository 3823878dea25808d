"""The command line: ``anypool demo``."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .bank import Bank, UnusableFileError
from .demo import Demo
from .display import ProgressDisplay, print_report

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"anypool {version('anypool')}")
        raise typer.Exit


def _finite(seconds: float) -> float:
    if math.isnan(seconds):
        raise typer.BadParameter("nan is not a number of seconds.")
    return seconds


@app.callback()
def anypool(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Show the version."
        ),
    ] = False,
) -> None:
    """Try out anypool, a connection pool for any driver, tasks or threads."""


@app.command("demo")
def run_demo(
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=600,
            callback=_finite,
            help="How long to run with pools; without, it is half of that.",
        ),
    ] = 3.0,
    tasks: Annotated[int, typer.Option(min=1, max=1000, help="Tasks (aiosqlite).")] = 24,
    threads: Annotated[int, typer.Option(min=1, max=200, help="Threads (sqlite3).")] = 24,
    pool_size: Annotated[
        int,
        typer.Option(
            min=1, max=200, help="Connections for the tasks, and as many for the threads."
        ),
    ] = 5,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The SQLite file to use. One that has other tables is not touched. "
            "Default: a temporary file.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON, and nothing else.")
    ] = False,
) -> None:
    """Move money between accounts in an SQLite file, in tasks and threads at once.

    One transaction in ten goes wrong halfway. The books must balance all the same: if they
    don't, or a connection has not come back to its pool, the exit status is 1.
    """
    console = Console(highlight=False)
    progress = ProgressDisplay(console, shown=console.is_terminal and not as_json)
    try:
        with _file(url) as path, Bank(path) as bank, progress.bars:
            demo = Demo(seconds, tasks, threads, pool_size)
            report = demo.run(bank, progress.announce)
    except UnusableFileError as error:
        raise typer.BadParameter(str(error), param_hint="'--url'") from None
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print_report(console, report, "a temporary file" if url is None else str(path))
    raise typer.Exit(report.exit_status)


@contextmanager
def _file(url: str | None) -> Iterator[Path]:
    """Give the file to use: the user's, or one of our own for as long as the block runs."""
    if url is not None:
        yield _path(url)
    else:
        with tempfile.TemporaryDirectory(prefix="anypool-demo-") as directory:
            yield Path(directory, "bank.db")


def _path(url: str) -> Path:
    path = url.removeprefix("sqlite:///")
    if path in ("", ":memory:") or "://" in path:
        raise UnusableFileError("the demo needs the path of an SQLite file.")
    return Path(path).absolute()
