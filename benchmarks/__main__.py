"""``python -m benchmarks``: measure, and compare with what was measured before."""

from __future__ import annotations

import gc
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from . import chart, compare, machine, table, targets
from .cases.catalogue import CASES
from .cases.options import Options, Skip
from .measure import FULL, QUICK, SMOKE
from .peers.registry import missing
from .result import Result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["compare"]:
        return _compare(_compare_parser().parse_args(words[1:]))
    if words[:1] == ["chart"]:
        return _chart(_chart_parser().parse_args(words[1:]))
    return _measure(_parser().parse_args(words))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m benchmarks",
        description="Measure anypool beside the other pools. "
        "Other commands: 'compare BEFORE AFTER', which fails if anypool became slower, and "
        "'chart RESULT SVG'.",
    )
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"what to measure: {', '.join(CASES)}"
    )
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="in less than a minute")
    effort.add_argument("--smoke", action="store_true", help="only show that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the chart here")
    parser.add_argument(
        "--postgres",
        default=Options.postgres,
        metavar="URL",
        help="a PostgreSQL to use (%(default)s)",
    )
    return parser


def _measure(arguments: Namespace) -> int:
    unknown = set(arguments.cases) - set(CASES)
    if unknown:
        _parser().error(f"no such case: {', '.join(sorted(unknown))}")
    effort = SMOKE if arguments.smoke else QUICK if arguments.quick else FULL
    options = Options(effort, arguments.postgres)
    result = Result(machine.describe(), skipped=missing())
    print(table.describe(result))
    begun = time.monotonic()
    # What the imports left behind is not looked at again at each collection.
    gc.collect()
    gc.freeze()
    try:
        _run(arguments.cases or list(CASES), options, result)
    finally:
        gc.unfreeze()
    print(f"\nTargets ({time.monotonic() - begun:.0f} s)")
    for line in targets.lines(result):
        print(line)
    for omission in result.skipped:
        print(f"left out: {omission}")
    if arguments.json:
        result.save(arguments.json)
    if arguments.svg:
        arguments.svg.write_text(chart.draw(result), "utf-8")
    return 0


def _run(cases: Sequence[str], options: Options, result: Result) -> None:
    for name in cases:
        try:
            rows = CASES[name](options)
        except Skip as reason:
            result.skipped.append(f"{name}: {reason}")
            continue
        result.rows += rows
        for line in table.lines(rows):
            print(line, flush=True)


def _compare_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m benchmarks compare")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    return parser


def _compare(arguments: Namespace) -> int:
    before, after = Result.load(arguments.before), Result.load(arguments.after)
    for line in compare.lines(before, after):
        print(line)
    return int(any(change.slower for change in compare.changes(before, after)))


def _chart_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m benchmarks chart")
    parser.add_argument("result", type=Path)
    parser.add_argument("svg", type=Path)
    return parser


def _chart(arguments: Namespace) -> int:
    arguments.svg.write_text(chart.draw(Result.load(arguments.result)), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
