"""Result as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from .result import Result, Row


def describe(result: Result) -> str:
    """Say in one line what the result was measured on."""
    machine = result.machine
    versions = ", ".join(
        f"{name} {version}" for name, version in machine["versions"].items() if version
    )
    return (
        f"{machine['interpreter']}, {machine['system']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB; {versions}"
    )


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a small table for each case."""
    for (case, where), group in groupby(rows, key=lambda row: (row.case, row.where)):
        yield ""
        yield f"{case} ({where})"
        for row in group:
            ratio = "" if row.ratio is None else f"{row.ratio:8.2f}x"
            details = "  ".join(
                f"{name} {_short(value)}" for name, value in row.details.items()
            )
            yield (
                f"  {row.peer:<26}{_short(row.median):>10} {row.unit:<5}"
                f" {_short(row.low):>9} .. {_short(row.high):<9}{ratio:>9}  {details}"
            ).rstrip()


def _short(number: float) -> str:
    return f"{number:,.2f}" if abs(number) < 1000 else f"{number:,.0f}"
