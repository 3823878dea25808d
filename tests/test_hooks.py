"""Hooks: listeners for every step of a connection's life."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import anyio.lowlevel
import pytest

from .support.holds import Holds, interruptible
from .support.modes import Mode

KINDS = ["QueuePool", "NullPool", "StaticPool", "AssertionPool", "Singleton"]


class Hooks:
    """Notes what it hears; raises what it is told to, once."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int | None]] = []
        self.fail: dict[str, BaseException] = {}

    def _hear(self, what: str, connection: Any) -> None:
        self.heard.append((what, None if connection is None else connection.number))
        if what in self.fail:
            raise self.fail.pop(what)

    def before_connect(self, parameters: dict[str, Any], record: Any) -> None:
        assert parameters == {}
        self._hear("before_connect", record.connection)

    def first_connect(self, connection: Any, record: Any) -> None:
        self._hear("first_connect", connection)

    def connect(self, connection: Any, record: Any) -> None:
        self._hear("connect", connection)

    def reset(self, connection: Any, record: Any) -> None:
        self._hear("reset", connection)

    def invalidate(self, connection: Any, record: Any, error: Any) -> None:
        self.error = error
        self._hear("invalidate", connection)

    def close(self, connection: Any, record: Any) -> None:
        self._hear("close", connection)

    def detach(self, connection: Any, record: Any) -> None:
        self._hear("detach", connection)


class AsyncHooks(Hooks):
    """The same as coroutines."""

    async def before_connect(self, parameters: dict[str, Any], record: Any) -> None:  # type: ignore[override]  # the point
        super().before_connect(parameters, record)

    async def first_connect(self, connection: Any, record: Any) -> None:  # type: ignore[override]  # the point
        super().first_connect(connection, record)

    async def reset(self, connection: Any, record: Any) -> None:  # type: ignore[override]  # the point
        super().reset(connection, record)

    async def invalidate(self, connection: Any, record: Any, error: Any) -> None:  # type: ignore[override]  # the point
        super().invalidate(connection, record, error)

    async def close(self, connection: Any, record: Any) -> None:  # type: ignore[override]  # the point
        super().close(connection, record)

    async def detach(self, connection: Any, record: Any) -> None:  # type: ignore[override]  # the point
        super().detach(connection, record)


def native_creator(mode: Mode) -> Any:
    """A creator that shows what it is before it is called, so that it is called just once
    where a facade has to move into an event loop."""
    connect = mode.world.connect

    async def create(*args: Any, **parameters: Any) -> Any:
        return await connect()

    return create if mode.world.coroutine else connect


@pytest.mark.parametrize("kind", [Hooks, AsyncHooks])
async def test_what_hooks_hear(mode: Mode, kind: type[Hooks]) -> None:
    hooks = kind()
    pool = mode.pool(listeners=[hooks], creator=native_creator(mode))
    async with mode.block(pool.connect()):
        assert hooks.heard == [
            ("before_connect", None),
            ("first_connect", 1),
            ("connect", 1),
        ]
    assert hooks.heard[3:] == [("reset", 1)]
    lease = await mode.go(pool.connect())
    error = ValueError()
    await mode.go(lease.invalidate(error))
    assert hooks.heard[4:] == [("invalidate", 1), ("close", 1)]
    assert hooks.error is error
    lease = await mode.go(pool.connect())
    await mode.go(lease.detach())
    assert hooks.heard[6:] == [("before_connect", None), ("connect", 2), ("detach", 2)]
    await mode.go(lease.close())
    assert hooks.heard[9:] == []  # a detached connection isn't the pool's
    async with mode.block(pool.connect()):
        pass
    await mode.go(pool.close())
    assert hooks.heard[9:] == [
        ("before_connect", None),
        ("connect", 3),
        ("reset", 3),
        ("close", 3),
    ]


@pytest.mark.parametrize("is_open", [False, True])
async def test_first_connect_is_told_one_at_a_time_until_it_succeeds(
    mode: Mode, is_open: bool
) -> None:
    """Trap: once-only initialisation was never retried, or ran several times at once."""
    hooks = Hooks()
    hooks.fail["first_connect"] = ValueError("not yet")
    pool = mode.pool(listeners=[hooks], min_size=3 if is_open else 0)
    if is_open:
        await mode.go(pool.open())
        await mode.go(pool.wait())
    else:
        with pytest.raises(ValueError, match="not yet"):
            await mode.go(pool.connect())
        leases = [await mode.go(pool.unique_connection()) for _ in range(3)]
        for lease in leases:
            await mode.go(lease.close())
    assert [what for what, _ in hooks.heard].count("first_connect") == 2
    assert [what for what, _ in hooks.heard].count("connect") == 3
    await mode.go(pool.close())
    assert not mode.world.open


async def test_first_connect_is_told_to_those_who_have_not_heard_it(mode: Mode) -> None:
    """A listener that is added late hears of the next connection, and the others don't."""
    early, late = Hooks(), Hooks()
    pool = mode.pool(listeners=[early], creator=native_creator(mode))
    async with mode.block(pool.connect()):
        pool.add_listener(late)
        async with mode.block(pool.unique_connection()):
            pass
    for hooks, number in ((early, 1), (late, 2)):
        assert [each for each in hooks.heard if each[0] == "first_connect"] == [
            ("first_connect", number)
        ]
    await mode.go(pool.close())


async def test_before_connect_changes_what_is_connected_to(mode: Mode) -> None:
    seen = []

    async def connect_async(*args: Any, **parameters: Any) -> Any:
        return await connect(*args, **parameters)

    def connect(*args: Any, **parameters: Any) -> Any:
        seen.append((args, parameters))
        return mode.world.connect()

    class Rotating:
        passwords = iter(["one", "two"])

        def before_connect(self, parameters: dict[str, Any], record: Any) -> None:
            parameters["password"] = next(self.passwords)

    function = connect_async if mode.world.coroutine else connect
    creator = partial(function, "host", user="me", password="old")
    pool = mode.pool(creator=creator, listeners=[Rotating()])
    leases = [await mode.go(pool.unique_connection()) for _ in range(2)]
    assert seen == [
        (("host",), {"user": "me", "password": "one"}),
        (("host",), {"user": "me", "password": "two"}),
    ]
    assert creator.keywords["password"] == "old"
    for lease in leases:
        await mode.go(lease.close())
    await mode.go(pool.close())


async def test_before_connect_is_shown_the_arguments_of_a_plain_creator(mode: Mode) -> None:
    """Also after a facade, which finds out by what it returns, has moved to a loop."""
    made = []

    def create(**parameters: Any) -> Any:
        made.append(parameters)
        return mode.world.connect()

    class Rotating:
        def before_connect(self, parameters: dict[str, Any], record: Any) -> None:
            assert parameters == {"user": "me"}
            parameters["password"] = "new"

    pool = mode.pool(creator=partial(create, user="me"), listeners=[Rotating()])
    async with mode.block(pool.connect()):
        async with mode.block(pool.unique_connection()):
            assert made == [{"user": "me", "password": "new"}] * 2
    await mode.go(pool.close())


async def test_before_connect_that_fails_is_a_failed_connect(mode: Mode) -> None:
    hooks = Hooks()
    hooks.fail["before_connect"] = LookupError("no token")
    pool = mode.pool(listeners=[hooks], pool_size=1, max_overflow=0)
    with pytest.raises(LookupError, match="no token"):
        await mode.go(pool.connect())
    assert pool.stats().failed == 1
    async with mode.block(pool.connect()):
        pass
    await mode.go(pool.close())


@pytest.mark.parametrize("kind", KINDS)
async def test_reset_hook_that_fails(mode: Mode, kind: str) -> None:
    """The connection is closed, the slot is free, and the caller is told."""
    hooks = Hooks()
    pool = mode.pool(kind, listeners=[hooks])
    lease = await mode.go(pool.connect())
    hooks.fail["reset"] = ValueError("what it left is not known")
    with pytest.raises(ValueError, match="not known"):
        await mode.go(lease.close())
    assert not mode.world.open
    async with mode.block(pool.connect()):
        pass
    await mode.go(pool.close())
    assert not mode.world.open


@pytest.mark.parametrize(("mode_of_reset", "resets"), [(None, 0), ("full", 1)])
async def test_reset_hook_beside_other_resets(
    mode: Mode, mode_of_reset: Any, resets: int
) -> None:
    """There is no second reset after the hook, where it was none, or a full one."""
    hooks = Hooks()
    count: list[int] = []

    class Counting(type(interruptible(mode))):  # type: ignore[misc]  # of the mode's kind
        def reset(self, connection: Any, how: Any, /) -> None:
            count.append(1)

    pool = mode.pool(
        listeners=[hooks],
        creator=native_creator(mode),
        driver=Counting(),
        reset_on_return=mode_of_reset,
    )
    async with mode.block(pool.connect()):
        hooks.heard.clear()
    assert len(count) == resets
    assert [what for what, _ in hooks.heard] == [*["connect"] * resets, "reset"]
    await mode.go(pool.close())


async def test_transaction_that_a_reset_hook_begins_is_ended(mode: Mode) -> None:
    pool = mode.pool(listeners=[Hooks()])
    async with mode.block(pool.connect()):
        pass
    assert mode.world.events_of(1) == ["rollback", "rollback"]
    await mode.go(pool.close())


@pytest.mark.parametrize("reset", ["rollback", "commit", None])
async def test_what_a_reset_hook_begins_is_ended(mode: Mode, reset: Any) -> None:
    """In the way that the pool ends transactions."""
    pool = mode.pool(listeners=[Hooks()], reset_on_return=reset)
    async with mode.block(pool.connect()):
        pass
    assert mode.world.events_of(1) == ([] if reset is None else [reset, reset])


@pytest.mark.parametrize("what", ["invalidate", "close", "detach"])
async def test_hooks_that_change_nothing_any_more_have_their_errors_logged(
    mode: Mode, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = Hooks()
    hooks.fail[what] = ValueError("of the hook")
    pool = mode.pool(listeners=[hooks], pool_size=1, max_overflow=0)
    lease = await mode.go(pool.connect())
    with caplog.at_level(logging.ERROR, "anypool"):
        if what == "detach":
            await mode.go(lease.detach())
            await mode.go(lease.close())
        else:
            await mode.go(lease.invalidate())
    assert f"A listener's {what}() failed" in caplog.text
    assert "of the hook" in caplog.text
    assert not mode.world.open
    async with mode.block(pool.connect()):
        pass
    await mode.go(pool.close())


@pytest.mark.parametrize("kind", KINDS)
async def test_close_hook_finds_what_was_noted_of_the_connection(
    mode: Mode, kind: str
) -> None:
    notes: list[dict[Any, Any]] = []

    class Bye:
        def close(self, connection: Any, record: Any) -> None:
            notes.append({**record.info})

    pool = mode.pool(kind, listeners=[Bye()])
    lease = await mode.go(pool.connect())
    lease.info["tenant"] = 7
    await mode.go(lease.close())
    await mode.go(pool.close())
    assert notes == [{"tenant": 7}]


async def test_first_connects_at_the_same_time_wait_for_the_first(mode: Mode) -> None:
    holds = Holds(mode)
    running: list[int] = []

    class Slow:
        async def first_connect(self, connection: Any, record: Any) -> None:
            running.append(1)
            assert len(running) == 1, "two at a time"
            if not mode.blocking or mode.name == "portal":
                await checkpoints()

    pool = mode.pool(creator=holds.connect, listeners=[Slow()])
    ready, count = mode.event(), []

    async def use() -> None:
        async with mode.block(pool.connect()):
            count.append(1)
            if len(count) == 4:
                ready.set()
            await ready.wait()

    async with mode.group() as start:
        for _ in range(4):
            start(use)
    assert running == [1]
    await mode.go(pool.close())


async def checkpoints() -> None:
    for _ in range(5):
        await anyio.lowlevel.checkpoint()
