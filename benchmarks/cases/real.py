"""Real: what the cases with a real database have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from types import TracebackType
from typing import Any, TypeAlias

from ..loops import event_loops
from ..measure import Contest
from ..result import Row, rows
from .options import Options

BARE = "bare connection"
"""One connection, kept by the caller: what the work itself takes."""

NO_POOL = "no pool"
"""A new connection each time."""

Connect: TypeAlias = Callable[[], AbstractContextManager[Any]]
AsyncConnect: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]


def asyncio_loops(options: Options) -> list[str]:
    """Return the event loops for drivers that need asyncio; in a short run one of them."""
    loops = [loop for loop in event_loops() if loop != "trio"]
    return loops if options.effort.scale >= 1 else loops[:1]


def kept(connection: object) -> Callable[[], nullcontext[Any]]:
    """Make a ``connect`` that always gives the same connection."""
    block = nullcontext(connection)
    return lambda: block


@contextmanager
def rolled_back(connection: Any) -> Iterator[Any]:
    """Give the connection and end its transaction, which costs a round trip."""
    yield connection
    connection.rollback()


@asynccontextmanager
async def async_rolled_back(connection: Any) -> AsyncIterator[Any]:
    """The same in an event loop."""
    yield connection
    await connection.rollback()


class Opened:
    """``async with`` it to open a connection and close it again.

    Args:
        connect: returns an awaitable of a connection.
    """

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._connect = connect

    async def __aenter__(self) -> Any:
        self._connection = await self._connect()
        return self._connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connection.close()


def contest(
    case: str, candidates: dict[str, Connect], work: Callable[[Any], None], options: Options
) -> list[Row]:
    """Measure one checkout with some work in it, as requests per second too."""
    match = Contest(list(candidates), options.effort)
    for turn in match.turns():
        connect = candidates[turn.name]
        with turn:
            for _ in range(turn.count):
                with connect() as connection:
                    work(connection)
    return _with_rate(rows(case, "threads", match.summaries()))


async def async_contest(
    case: str,
    loop: str,
    candidates: dict[str, AsyncConnect],
    work: Callable[[Any], Awaitable[None]],
    options: Options,
) -> list[Row]:
    """Measure the same in an event loop."""
    match = Contest(list(candidates), options.effort)
    for turn in match.turns():
        connect = candidates[turn.name]
        with turn:
            for _ in range(turn.count):
                async with connect() as connection:
                    await work(connection)
    return _with_rate(rows(case, loop, match.summaries()))


def _with_rate(found: list[Row]) -> list[Row]:
    for row in found:
        row.details["requests/s"] = 1e6 / row.median
    return found
