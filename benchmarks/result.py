"""Result: what a run of the suite found, as it is printed, kept in JSON and compared."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from .measure import Summary

OURS = "anypool"
"""What the names of our rows begin with. Where it runs by itself, ratios are to it."""


@dataclass(frozen=True)
class Row:
    """One candidate's figures in one case.

    Attributes:
        case: The case's name.
        where: "asyncio", "uvloop", "trio", "threads" or "process".
        peer: The candidate's name.
        median: Per operation, in `unit`.
        low: The first quartile of the rounds.
        high: The third quartile of the rounds.
        ratio: Times anypool's, if that ran beside it. Above 1: anypool is faster.
        unit: Of the figures above.
        details: More figures, by name; the unit is in the name.
    """

    case: str
    where: str
    peer: str
    median: float
    low: float
    high: float
    ratio: float | None
    unit: str = "µs"
    details: dict[str, float] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether this is anypool, be it a variant of it."""
        return self.peer.startswith(OURS)

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes the same row in another result."""
        return self.case, self.where, self.peer


def rows(
    case: str,
    where: str,
    summaries: dict[str, Summary],
    details: dict[str, dict[str, float]] | None = None,
) -> list[Row]:
    """Make the rows of one case, one for each candidate."""
    return [
        Row(
            case,
            where,
            peer,
            summary.median,
            summary.low,
            summary.high,
            summary.ratio,
            details=(details or {}).get(peer, {}),
        )
        for peer, summary in summaries.items()
    ]


@dataclass
class Result:
    """A whole run.

    Attributes:
        machine: What it ran on; see machine.py.
        rows: What was measured.
        skipped: What was not, and why.
    """

    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def find(self, case: str, where: str, peer: str) -> Row | None:
        """Return the row of that key, if it was measured."""
        for row in self.rows:
            if row.key == (case, where, peer):
                return row
        return None

    def save(self, path: Path) -> None:
        """Write the result as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        path.write_text(f"{text}\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a result that save() wrote.

        Raises:
            ValueError: the file is not a result.
        """
        try:
            data = json.loads(path.read_text("utf-8"))
            data["rows"] = [Row(**row) for row in data["rows"]]
            return cls(**data)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a result of this suite: {error}") from error
