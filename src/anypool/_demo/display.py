"""Display: how a load goes, while it runs, and the report, once it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from .fate import Fate
from .load import Pulse, Watch
from .report import Figures, Report

_MISHAPS: Final = {
    Fate.FAILED: "an exception",
    Fate.TASK_CANCELLED: "the task cancelled",
    Fate.SCOPE_CANCELLED: "its cancel scope cancelled",
    Fate.DROPPED: "the lease dropped",
    Fate.INVALIDATED: "the connection invalidated",
}


class ProgressDisplay:
    """Bars that fill while the loads run, if `shown`. They leave nothing on the screen."""

    def __init__(self, console: Console, *, shown: bool) -> None:
        # Refreshed by the watches only: rich's own thread would take time from the load.
        self.bars = Progress(
            TextColumn("  {task.description:10}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[news]}"),
            console=console,
            transient=True,
            auto_refresh=False,
            disable=not shown,
        )

    def announce(self, name: str, seconds: float) -> Watch:
        """Add a bar for a load; return what has to be told how that goes."""
        bar = self.bars.add_task(name, total=seconds, news="")

        def watch(pulse: Pulse) -> None:
            rate = pulse.completed / pulse.elapsed if pulse.elapsed else 0.0
            out = f", {pulse.out} connections out" if pulse.out else ""
            news = f"{rate:7,.0f} transactions/s{out}"
            self.bars.update(bar, completed=pulse.elapsed, news=news, refresh=True)

        return watch


def print_report(console: Console, report: Report, file: str) -> None:
    """Print a report that a person likes to read; `file` says where the accounts are."""
    console.print(
        f"\n  {report.tasks} tasks (aiosqlite) and {report.threads} threads (sqlite3) "
        "moved money at the same time,\n"
        f"  through two pools of {report.pool_size}, between accounts in {file}.\n",
        soft_wrap=True,
        markup=False,
    )
    pooled = report.pooled.transactions_per_second
    unpooled = report.unpooled.transactions_per_second
    rate = Text(f"{pooled:,.0f} transactions per second", "bold green")
    console.print(Text.assemble("  ", rate, f", {unpooled:,.0f} without pools"))
    console.print(Padding(_table(report), (1, 0, 1, 2), expand=False))
    for good, text in _verdicts(report):
        mark = Text("ok  ", "bold green") if good else Text("FAIL", "bold red")
        console.print(Text.assemble("  ", mark, "  ", text))
    console.print(f"        {_dropped(report)}")
    console.print()


def _table(report: Report) -> Table:
    pooled, unpooled = report.pooled, report.unpooled
    sides = (pooled.tasks, pooled.threads, unpooled.tasks, unpooled.threads)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column()
    for heading in ("with pools:\ntasks", "\nthreads"):
        table.add_column(heading, justify="right", min_width=8)
    for heading in ("without:\ntasks", "\nthreads"):
        table.add_column(heading, justify="right", min_width=8, style="dim")

    def row(label: str, cell: Callable[[Figures], str]) -> None:
        table.add_row(label, *map(cell, sides))

    def mishap(fate: Fate) -> Callable[[Figures], str]:
        return lambda side: f"{side.mishaps[fate]:,}" if side.mishaps[fate] else "-"

    row("transactions per second", lambda side: f"{side.transactions_per_second:,.0f}")
    row("wait for a connection, median", lambda side: _duration(side.wait_median))
    row("                       99 %", lambda side: _duration(side.wait_p99))
    row("whole transaction, median", lambda side: _duration(side.transfer_median))
    row("                   99 %", lambda side: _duration(side.transfer_p99))
    row("connections opened", lambda side: f"{side.connections_opened:,}")
    table.add_row()
    table.add_row("in mid-transaction, on purpose:")
    for fate, label in _MISHAPS.items():
        row(f"  {label}", mishap(fate))
    return table


def _verdicts(report: Report) -> list[tuple[bool, str]]:
    before, after = (
        f"{cents / 100:,.2f}" for cents in (report.sum_before, report.sum_after)
    )
    balance = (
        f"the books balance: {after} in all accounts, as before"
        if report.balanced
        else f"the books don't balance: {before} before, {after} now"
    )
    return [
        (report.balanced, balance),
        (not report.connections_out, f"connections out: {report.connections_out}"),
    ]


def _dropped(report: Report) -> str:
    loads = (report.pooled, report.unpooled)
    dropped = sum(
        side.mishaps[Fate.DROPPED] for load in loads for side in (load.tasks, load.threads)
    )
    reported = report.leaks_reported
    by_pools = "each" if reported == dropped else f"{reported:,} of them"
    return f"leases dropped: {dropped:,}, {by_pools} reported by a ResourceWarning"


def _duration(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
