"""Listeners: when they are told, and what happens when they fail."""

from __future__ import annotations

import sys
import time
from typing import Any

import anyio
import pytest

import anypool
from anypool import sync

from .support.fakes import World
from .support.modes import PATIENCE, Mode


class Recorder:
    """Notes what it hears; raises what it is told to."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.heard: list[tuple[str, int | None]] = []
        self.fail: dict[str, list[BaseException]] = {}
        self.leases: list[Any] = []

    def _hear(self, what: str, connection: Any) -> None:
        self.heard.append((what, None if connection is None else connection.number))
        if self.fail.get(what):
            raise self.fail[what].pop(0)

    def connect(self, connection: Any, record: Any) -> None:
        assert record.connection is connection
        self._hear("connect", connection)

    def checkout(self, connection: Any, record: Any, lease: Any) -> None:
        assert lease.connection is connection
        assert lease.info is record.info
        self._hear("checkout", connection)

    def checkin(self, connection: Any, record: Any) -> None:
        self._hear("checkin", connection)


class Waiting(Recorder):
    """The same as coroutines."""

    async def connect(self, connection: Any, record: Any) -> None:  # type: ignore[override]  # the point
        super().connect(connection, record)

    async def checkout(self, connection: Any, record: Any, lease: Any) -> None:  # type: ignore[override]  # the point
        super().checkout(connection, record, lease)

    async def checkin(self, connection: Any, record: Any) -> None:  # type: ignore[override]  # the point
        super().checkin(connection, record)


@pytest.mark.parametrize("kind", [Recorder, Waiting])
async def test_what_listeners_hear(mode: Mode, kind: type[Recorder]) -> None:
    listener = kind()
    pool = mode.pool(listeners=[listener])
    async with mode.block(pool.connect()), mode.block(pool.connect()):
        pass
    async with mode.block(pool.connect()):
        pass
    assert listener.heard == [
        ("connect", 1),
        ("checkout", 1),
        ("checkin", 1),
        ("checkout", 1),
        ("checkin", 1),
    ]


async def test_listeners_hear_none_of_an_invalidated_connection(mode: Mode) -> None:
    listener = Recorder()
    pool = mode.pool(listeners=[listener])
    lease = await mode.go(pool.connect())
    await mode.go(lease.invalidate())
    assert listener.heard[-1] == ("checkin", None)


async def test_listeners_hear_nothing_of_a_detached_connection(mode: Mode) -> None:
    listener = Recorder()
    pool = mode.pool(listeners=[listener])
    lease = await mode.go(pool.connect())
    await mode.go(lease.detach())
    await mode.go(lease.close())
    assert listener.heard == [("connect", 1), ("checkout", 1)]


async def test_listener_with_one_method_added_later(mode: Mode) -> None:
    class OnlyCheckin:
        heard = 0

        def checkin(self, connection: object, record: object) -> None:
            self.heard += 1

    pool = mode.pool()
    async with mode.block(pool.connect()):
        pass
    listener = OnlyCheckin()
    pool.add_listener(listener)
    async with mode.block(pool.connect()):
        pass
    assert listener.heard == 1


async def test_not_a_listener(mode: Mode) -> None:
    pool = mode.pool()
    with pytest.raises(TypeError, match="int has none of the methods"):
        pool.add_listener(7)


async def test_failing_connect_listener_pools_nothing(mode: Mode) -> None:
    """The half initialised connection is closed, its slot free, and the next try hears
    the listener again."""
    listener = Recorder()
    listener.fail["connect"] = [ValueError("no")]
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=1, listeners=[listener])
    with pytest.raises(ValueError, match="no"):
        await mode.go(pool.connect())
    assert mode.world.open == []
    assert pool.checkedout() == 0
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2
    assert listener.heard[:2] == [("connect", 1), ("connect", 2)]


async def test_failing_checkout_listener_returns_the_connection(mode: Mode) -> None:
    listener = Recorder()
    listener.fail["checkout"] = [ValueError("no")]
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=1, listeners=[listener])
    with pytest.raises(ValueError, match="no"):
        await mode.go(pool.connect())
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 1
    assert [what for what, _ in listener.heard] == [
        "connect",
        "checkout",
        "checkin",
        "checkout",
        "checkin",
    ]


async def test_disconnection_is_repaired_once(mode: Mode) -> None:
    """All checkout listeners run again on the new connection."""
    first, second = Recorder(), Recorder()
    second.fail["checkout"] = [anypool.DisconnectionError("stale")]
    pool = mode.pool(listeners=[first, second])
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2
    expected = [("connect", 1), ("checkout", 1), ("connect", 2), ("checkout", 2)]
    assert first.heard[:-1] == second.heard[:-1] == expected
    assert mode.world.open == [2]


async def test_disconnection_twice_is_an_error(mode: Mode) -> None:
    listener = Recorder()
    listener.fail["checkout"] = [anypool.DisconnectionError("stale") for _ in range(2)]
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=1, listeners=[listener])
    with pytest.raises(anypool.InvalidRequestError):
        await mode.go(pool.connect())
    assert mode.world.open == []
    assert pool.checkedout() == 0
    async with mode.block(pool.connect()):
        assert pool.checkedout() == 1


async def test_failing_checkin_listener_loses_no_slot(mode: Mode) -> None:
    """Its error reaches who returned the connection; the connection is closed."""
    listener = Recorder()
    listener.fail["checkin"] = [ValueError("no")]
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=1, listeners=[listener])
    lease = await mode.go(pool.connect())
    with pytest.raises(ValueError, match="no"):
        await mode.go(lease.close())
    assert mode.world.open == []
    assert pool.checkedout() == 0
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2


async def test_nested_connect_in_a_listener_is_the_same_lease(mode: Mode) -> None:
    if mode.name in ("portal", "threads"):
        pytest.skip("the listener runs in another task or thread than the caller")
    if not mode.blocking:

        class Nested:
            async def checkout(
                self, connection: object, record: object, lease: Any
            ) -> None:
                again = await pool.connect()
                assert again is lease
                await again.close()

        pool = mode.pool(listeners=[Nested()])
    else:

        class NestedBlocking:
            def checkout(self, connection: object, record: object, lease: Any) -> None:
                again = pool.connect()
                assert again is lease
                again.close()

        pool = mode.pool(listeners=[NestedBlocking()])
    async with mode.block(pool.connect()):
        assert pool.checkedout() == 1
    assert pool.checkedout() == 0


async def test_listener_of_the_first_connection_uses_the_pool(mode: Mode) -> None:
    """To look at the database, say, by way of a function that does so."""
    heard: list[int] = []
    pool = mode.pool(timeout=5)

    class Plain:
        def first_connect(self, connection: Any, record: Any) -> None:
            heard.append(connection.number)
            with pool.unique_connection() as other:
                heard.append(other.number)

    class Coroutine:
        async def first_connect(self, connection: Any, record: Any) -> None:
            heard.append(connection.number)
            async with pool.unique_connection() as other:
                heard.append(other.number)

    if mode.name in ("portal", "threads"):
        pytest.skip("a listener that is called in the pool's own thread can't wait for it")
    pool.add_listener(Plain() if mode.blocking else Coroutine())
    async with mode.block(pool.connect()):
        pass
    assert heard == [1, 2]
    await mode.go(pool.close())


@pytest.mark.parametrize("kind", ["StaticPool", "Singleton"])
@pytest.mark.parametrize("event", ["connect", "checkin"])
async def test_listener_wants_what_it_was_called_for(
    mode: Mode, kind: str, event: str
) -> None:
    """It is told so: it would wait for itself."""
    if not mode.blocking or mode.name == "portal":
        pytest.skip("event loops' own locks say so")
    pool = mode.pool(kind)

    class Asking:
        def ask(self, connection: Any, record: Any) -> None:
            with pool.unique_connection():
                pass

    asking: Any = Asking()
    setattr(asking, event, asking.ask)
    pool.add_listener(asking)
    with pytest.raises(anypool.InvalidRequestError, match="which it has as an argument"):
        with pool.connect():
            pass
    await mode.go(pool.close())
    assert not mode.world.open


@pytest.mark.parametrize("kind", ["QueuePool", "NullPool", "StaticPool"])
async def test_connect_listener_closes_the_pool(mode: Mode, kind: str) -> None:
    """The caller is told of it, and no further connection is opened."""
    if mode.name != "blocking":
        pytest.skip("closing would wait for the caller that connects")
    pool = mode.pool(kind)

    class Closing:
        def connect(self, connection: Any, record: Any) -> None:
            pool.close(timeout=0)

    pool.add_listener(Closing())
    with pytest.raises(anypool.PoolClosedError):
        pool.connect()
    assert [what for what, _ in mode.world.events].count("connect") == 1
    assert not mode.world.open
    assert pool.stats().opened == sum(pool.stats().closed.values())


async def test_checkin_listener_before_the_reset(mode: Mode) -> None:
    """What a checkin listener begins on the connection is rolled back with the rest."""
    world = mode.world

    class Leaves:
        def checkin(self, connection: Any, record: object) -> None:
            world.events.append(("listener", connection.number))

    pool = mode.pool(listeners=[Leaves()])
    async with mode.block(pool.connect()):
        pass
    assert world.events_of(1) == ["listener", "rollback"]


async def test_connection_whose_connect_listener_was_cut_short_is_closed(
    mode: Mode,
) -> None:
    """Trap: a connection that is initialised by half must never be pooled."""
    if mode.blocking or mode.name == "threads":
        pytest.skip("its connect can't be cut short")

    class Slow:
        async def connect(self, connection: Any, record: Any) -> None:
            await anyio.sleep(PATIENCE)

    connect = mode.world.connect

    async def create() -> Any:
        return await connect()

    pool = mode.pool(creator=create, listeners=[Slow()], pool_size=1, max_overflow=0)
    with pytest.raises(anypool.PoolTimeoutError):
        await pool.connect(timeout=0.02)
    await mode.until(lambda: not mode.world.open)
    assert pool.stats().closed == {"lost": 1}
    await pool.close()


async def test_checkout_listener_that_closes_the_lease(mode: Mode) -> None:
    """The caller is told, and has nothing to return."""
    if mode.name == "portal":
        pytest.skip("a blocking close in the loop's own thread would wait for itself")

    class Closes:
        async def checkout(self, connection: object, record: object, lease: Any) -> None:
            await mode.go(lease.close())

    pool = mode.pool(pool_size=1, max_overflow=0, listeners=[Closes()])
    for _ in range(2):
        with pytest.raises(anypool.InvalidRequestError, match="checkout listener closed"):
            await mode.go(pool.connect())
        assert (pool.checkedout(), pool.checkedin()) == (0, 1)
    await mode.go(pool.close())


async def test_checkin_listener_that_fails_for_a_dropped_lease(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is there to be told: it is logged. The slot is free."""
    listener = Recorder()
    listener.fail["checkin"] = [ValueError("of the listener")]
    pool = mode.pool(pool_size=1, max_overflow=0, listeners=[listener])
    lease = await mode.go(pool.connect())
    with pytest.warns(ResourceWarning, match="dropped"):
        del lease
        await mode.settle()
    await mode.until(lambda: "A checkin listener failed" in caplog.text)
    assert "of the listener" in caplog.text
    await mode.until(lambda: not mode.world.open)
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 2
    await mode.go(pool.close())


# With a connection that is idle, plain listeners are told on a short way.


async def _warm(mode: Mode, *listeners: Any, **options: Any) -> Any:
    pool = mode.pool(pool_size=1, max_overflow=0, timeout=1, **options)
    async with mode.block(pool.connect()):
        pass
    for listener in listeners:
        pool.add_listener(listener)
    return pool


def _calls(cycle: Any) -> int:
    """Count the calls of Python functions that a cycle makes."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        cycle()
    finally:
        sys.setprofile(None)
    return count


def test_plain_listeners_are_told_on_a_short_way() -> None:
    """A cycle with them has at most three times the calls of one without, and two more."""
    world = World(coroutine=False)
    plain = sync.QueuePool(world.connect)
    heard = sync.QueuePool(world.connect, listeners=[Recorder()])
    counts = []
    for pool in (plain, heard):
        for _ in range(3):
            pool.connect().close()
        counts.append(_calls(lambda pool=pool: pool.connect().close()))
    assert counts[1] <= 3 * counts[0] + 4, counts


@pytest.mark.parametrize("error", [ValueError, IndexError])
async def test_failing_checkout_of_an_idle_connection(
    mode: Mode, error: type[Exception]
) -> None:
    first, second = Recorder(), Recorder()
    pool = await _warm(mode, first, second)
    second.fail["checkout"] = [error("no")]
    with pytest.raises(error, match="no"):
        await mode.go(pool.connect())
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 1
    both = ["checkout", "checkin", "checkout", "checkin"]
    assert [what for what, _ in first.heard] == both
    assert [what for what, _ in second.heard] == both


async def test_disconnection_of_an_idle_connection(mode: Mode) -> None:
    first, second = Recorder(), Recorder()
    pool = await _warm(mode, first, second)
    second.fail["checkout"] = [anypool.DisconnectionError("stale")]
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2
    expected = [("checkout", 1), ("connect", 2), ("checkout", 2), ("checkin", 2)]
    assert first.heard == second.heard == expected
    second.fail["checkout"] = [anypool.DisconnectionError("stale") for _ in range(2)]
    with pytest.raises(anypool.InvalidRequestError, match="twice"):
        await mode.go(pool.connect())
    assert mode.world.open == []
    assert pool.checkedout() == 0


@pytest.mark.parametrize("error", [ValueError, IndexError])
async def test_failing_checkin_of_an_idle_connection(
    mode: Mode, error: type[Exception]
) -> None:
    first, second, third = Recorder(), Recorder(), Recorder()
    pool = await _warm(mode, first, second, third)
    second.fail["checkin"] = [error("no")]
    lease = await mode.go(pool.connect())
    with pytest.raises(error, match="no"):
        await mode.go(lease.close())
    assert mode.world.open == []
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
    assert [what for what, _ in first.heard] == ["checkout", "checkin"]
    assert [what for what, _ in second.heard] == ["checkout", "checkin"]
    assert [what for what, _ in third.heard] == ["checkout"]
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2
    assert [what for what, _ in third.heard][-2:] == ["checkout", "checkin"]


async def test_plain_listener_that_returns_an_awaitable(mode: Mode) -> None:
    """It is awaited, those after it are told afterwards, and none twice."""
    heard: list[str] = []

    class Plain:
        def __init__(self, name: str) -> None:
            self.name = name

        def checkout(self, connection: object, record: object, lease: object) -> Any:
            heard.append(f"checkout {self.name}")

        def checkin(self, connection: object, record: object) -> Any:
            heard.append(f"checkin {self.name}")

    class Awaited(Plain):
        def checkout(self, connection: object, record: object, lease: object) -> Any:
            return self._hear("checkout")

        def checkin(self, connection: object, record: object) -> Any:
            return self._hear("checkin")

        async def _hear(self, what: str) -> None:
            heard.append(f"{what} {self.name}")

    pool = await _warm(mode, Plain("a"), Awaited("b"), Plain("c"))
    for _ in range(2):
        heard.clear()
        async with mode.block(pool.connect()):
            assert heard == ["checkout a", "checkout b", "checkout c"]
        assert heard[3:] == ["checkin a", "checkin b", "checkin c"]
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)


async def test_checkin_listener_is_told_once_if_the_reset_fails(mode: Mode) -> None:
    listener = Recorder()
    pool = await _warm(mode, listener)
    lease = await mode.go(pool.connect())
    mode.world.fail["rollback"] = OSError("gone")
    await mode.go(lease.close())
    mode.world.fail.clear()
    assert [what for what, _ in listener.heard] == ["checkout", "checkin"]
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2
    assert [what for what, _ in listener.heard][-2:] == ["checkout", "checkin"]


async def test_checkin_listener_disposes_of_the_pool(mode: Mode) -> None:
    """What comes back is then closed; it is told once of each return."""
    if mode.name != "blocking":
        pytest.skip("dispose() is a coroutine there")

    class Disposing(Recorder):
        def checkin(self, connection: Any, record: Any) -> None:
            super().checkin(connection, record)
            pool.dispose()

    listener = Disposing()
    pool = await _warm(mode, listener)
    pool.connect().close()
    assert mode.world.open == []
    assert [what for what, _ in listener.heard] == ["checkout", "checkin"]


async def test_slow_checkout_listener_takes_of_the_timeout(mode: Mode) -> None:
    if not mode.blocking or mode.name == "portal":
        pytest.skip("it would block the event loop")

    class Slow:
        def checkout(self, connection: object, record: object, lease: object) -> None:
            time.sleep(0.02)

    pool = await _warm(mode, Slow())
    with pytest.raises(anypool.PoolTimeoutError):
        pool.connect(timeout=0.001)
    assert (pool.checkedin(), pool.checkedout()) == (1, 0)
