"""The targets: what anypool wants to be, beside the others, in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .cases import contended, imports, scale, sqlite, threads, uncontended
from .cases.real import BARE
from .peers.registry import FAIR, FLOOR
from .result import OURS, Result


@dataclass(frozen=True)
class Target:
    """One aim.

    Attributes:
        text: What it says.
        measure: Finds the figure in a result; None if it wasn't measured.
        limit: What the figure is to be at most.
    """

    text: str
    measure: Callable[[Result], float | None]
    limit: float


def _times(case: str, where: str, peer: str) -> Callable[[Result], float | None]:
    """Our time as a share of a peer's."""

    def share(result: Result) -> float | None:
        row = result.find(case, where, peer)
        return 1 / row.ratio if row is not None and row.ratio else None

    return share


def _best(case: str, where: str, *, fair: bool) -> Callable[[Result], float | None]:
    """Our time as a share of the fastest peer's."""

    def share(result: Result) -> float | None:
        ratios = [
            row.ratio
            for row in result.rows
            if (row.case, row.where) == (case, where)
            and row.ratio
            and row.peer not in (OURS, FLOOR)
            and (row.peer in FAIR or not fair)
        ]
        return 1 / min(ratios) if ratios else None

    return share


def _detail(case: str, where: str, name: str) -> Callable[[Result], float | None]:
    def detail(result: Result) -> float | None:
        row = result.find(case, where, OURS)
        return None if row is None else row.details.get(name)

    return detail


def _growth(case: str, where: str) -> Callable[[Result], float | None]:
    """The time in the largest setting, as a share of that in the ordinary one."""

    def growth(result: Result) -> float | None:
        found = [row for row in result.rows if (row.case, row.where) == (case, where)]
        return found[-1].ratio if found else None

    return growth


def _detour(where: str, name: str) -> Callable[[Result], float | None]:
    """A variant's cycle as a share of the plain one's."""

    def share(result: Result) -> float | None:
        row = result.find(uncontended.VARIANTS, where, name)
        return None if row is None else row.ratio

    return share


def _bytes(name: str) -> Callable[[Result], float | None]:
    def size(result: Result) -> float | None:
        row = result.find(scale.MEMORY, "asyncio", f"{OURS}, {name}")
        return None if row is None else row.median

    return size


def _over_bare(result: Result) -> float | None:
    """A request's time as a share of the bare connection's plus our cycle's."""
    bare = result.find(sqlite.SELECT_1, "asyncio", BARE)
    cycle = result.find(uncontended.BLOCK, "asyncio", OURS)
    if bare is None or not bare.ratio or cycle is None:
        return None
    # By the rounds' own ratios: these requests go through another thread, and their times
    # vary more than the difference that is looked for.
    return 1 / bare.ratio / (1 + cycle.median / bare.median)


def _import_surplus(result: Result) -> float | None:
    """What importing anypool takes beyond anyio, in ms."""
    ours = result.find(imports.CASE, "process", OURS)
    anyio = result.find(imports.CASE, "process", "anyio")
    return None if ours is None or anyio is None else ours.median - anyio.median


_CYCLE, _FEW, _THREADS = uncontended.BLOCK, contended.FEW, threads.CROWDS[32]
_PSYCOPG, _AIOSQLITE = "psycopg_pool", "aiosqlitepool"

TARGETS = (
    Target("blocking cycle / SQLAlchemy", _times(_CYCLE, "threads", "SQLAlchemy"), 0.30),
    Target("blocking cycle / psycopg_pool", _times(_CYCLE, "threads", _PSYCOPG), 0.45),
    Target("blocking cycle / DBUtils", _times(_CYCLE, "threads", "DBUtils"), 0.80),
    Target("async cycle / psycopg_pool", _times(_CYCLE, "asyncio", _PSYCOPG), 0.30),
    Target("async cycle / asyncpg", _times(_CYCLE, "asyncio", "asyncpg"), 0.15),
    Target("async cycle / aiosqlitepool", _times(_CYCLE, "asyncio", _AIOSQLITE), 0.08),
    Target("40 tasks on 4 / best peer", _best(_FEW, "asyncio", fair=False), 0.80),
    Target("40 tasks on 4, overtaken %", _detail(_FEW, "asyncio", "overtaken %"), 0.0),
    Target("32 threads on 8 / best fair peer", _best(_THREADS, "threads", fair=True), 0.67),
    Target("10,000 idle / 5 idle, threads", _growth(scale.IDLE, "threads"), 1.2),
    Target("10,000 idle / 5 idle, asyncio", _growth(scale.IDLE, "asyncio"), 1.2),
    Target("100,000 waiting / 100 waiting", _growth(scale.HANDOVER, "asyncio"), 1.2),
    Target(
        "aiosqlite request / aiosqlitepool",
        _times(sqlite.SELECT_1, "asyncio", _AIOSQLITE),
        0.77,
    ),
    Target("plain listeners / none, threads", _detour("threads", uncontended.HEARD), 2.5),
    Target("plain listeners / none, asyncio", _detour("asyncio", uncontended.HEARD), 2.5),
    Target("a waiter, bytes", _bytes("waiter"), 700.0),
    Target("aiosqlite request / bare + cycle", _over_bare, 1.05),
    Target("import beyond anyio's own, ms", _import_surplus, 15.0),
)


def lines(result: Result) -> Iterator[str]:
    """Yield one line for each target that the result says something about."""
    for target in TARGETS:
        figure = target.measure(result)
        if figure is not None:
            verdict = "ok" if figure <= target.limit else "MISSED"
            aim = f"at most {target.limit:5.2f}"
            yield f"  {target.text:<36}{figure:8.2f}  {aim}  {verdict}"
