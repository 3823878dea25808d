"""What connections of unknown drivers say of themselves, in attributes that are common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

import anypool
from anypool import sync
from anypool._core.resetmode import ResetMode

RESETS: list[ResetMode | None] = ["rollback", "commit", "full", None]


class Connection:
    """DB-API 2.0, with the bare minimum; as pg8000's."""

    autocommit: Any = False
    unread_result: Any = False
    closed = False

    def __init__(self) -> None:
        self.calls: list[str] = []

    def rollback(self) -> None:
        self.calls.append("rollback")

    def commit(self) -> None:
        self.calls.append("commit")

    def cursor(self) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


class Slotted(Connection):
    """As pyodbc's: the attribute is one of the class, and no more than that."""

    __slots__ = ("autocommit",)

    def __init__(self) -> None:
        super().__init__()
        self.autocommit = True


class Asking(Connection):
    """As MySQL Connector/Python's: each look is a question to the server."""

    @property
    def autocommit(self) -> bool:
        raise AssertionError("a return must ask nothing")


class Method(Connection):
    """As mysqlclient's."""

    def autocommit(self, on: bool) -> None:
        raise AssertionError("a return must ask nothing")


class Unsure(Connection):
    """Would rather not say."""

    @property
    def unread_result(self) -> bool:
        raise RuntimeError


def twice(creator: Callable[[], Any], reset: Any, leave: Callable[[Any], None]) -> Any:
    """Be two callers, in both kinds of pools; return what they got."""
    pool = sync.QueuePool(creator, pool_size=1, max_overflow=0, reset_on_return=reset)
    with pool.connect() as first:
        leave(first)
    with pool.connect() as second:
        pass
    pool.dispose()
    found = [(first, second)]

    async def main() -> None:
        pool = anypool.QueuePool(
            creator, pool_size=1, max_overflow=0, reset_on_return=reset
        )
        async with pool.connect() as first:
            leave(first)
        async with pool.connect() as second:
            pass
        found.append((first, second))
        await pool.dispose()

    anyio.run(main)
    return found


@pytest.mark.parametrize("reset", RESETS, ids=str)
@pytest.mark.parametrize("creator", [Connection, Slotted])
def test_autocommit_is_put_back(creator: type[Connection], reset: ResetMode | None) -> None:
    original = creator().autocommit

    def change(connection: Connection) -> None:
        connection.autocommit = not original

    for first, second in twice(creator, reset, change):
        if reset == "full":
            assert second is not first  # it isn't known how to reset the rest
            assert second.autocommit is original
        else:
            assert second is first
            assert second.autocommit is (not original if reset is None else original)
            assert first.calls == ([] if reset is None else [reset] * 2)


@pytest.mark.parametrize("reset", RESETS, ids=str)
@pytest.mark.parametrize("creator", [Asking, Method, Unsure])
def test_what_is_more_than_an_attribute_is_left_alone(
    creator: type[Connection], reset: ResetMode | None
) -> None:
    for first, second in twice(creator, reset, lambda connection: None):
        assert (second is first) == (reset != "full")


class AsyncConnection(Connection):
    async def rollback(self) -> None:  # type: ignore[override]  # as in async drivers
        super().rollback()

    async def commit(self) -> None:  # type: ignore[override]
        super().commit()

    async def close(self) -> None:  # type: ignore[override]
        super().close()


async def connect_async() -> AsyncConnection:
    return AsyncConnection()


@pytest.mark.parametrize("reset", RESETS, ids=str)
@pytest.mark.parametrize("creator", [Connection, connect_async])
def test_unread_rows_go_with_their_connection(
    creator: Any, reset: ResetMode | None
) -> None:
    """A rollback might get them out of the way; or raise, or take its time."""

    def leave(connection: Connection) -> None:
        connection.unread_result = True

    for first, second in twice(creator, reset, leave):
        assert second is not first
        assert first.closed
        assert first.calls == []
