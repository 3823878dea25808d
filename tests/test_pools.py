"""The other pools: NullPool, StaticPool, AssertionPool, and one connection a caller."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import anypool
from anypool import sync

from .support.modes import Mode
from .support.witness import Witness

KINDS = ["QueuePool", "Singleton", "NullPool", "StaticPool", "AssertionPool"]
all_kinds = pytest.mark.parametrize("kind", KINDS)


@all_kinds
async def test_every_pool_gives_and_takes(mode: Mode, kind: str) -> None:
    pool = mode.pool(kind)
    for _ in range(3):
        async with mode.block(pool.connect()) as conn:
            await mode.go(mode.pools.PooledConnection)  # the class is exported
            assert not conn.closed
    assert mode.world.count("rollback") == 3
    assert len(mode.world.connections) == (3 if kind == "NullPool" else 1)
    await mode.go(pool.dispose())
    assert mode.world.open == []
    async with mode.block(pool.connect()):  # starts anew
        pass
    await mode.go(pool.dispose())
    assert mode.world.open == []


@all_kinds
async def test_every_pool_shares_nested_checkouts(mode: Mode, kind: str) -> None:
    pool = mode.pool(kind)
    outer = await mode.go(pool.connect())
    inner = await mode.go(pool.connect())
    assert outer is inner
    await mode.go(inner.close())
    await mode.go(outer.close())
    assert mode.world.count("rollback") == 1


@all_kinds
async def test_every_pool_recovers_from_invalidation(mode: Mode, kind: str) -> None:
    pool = mode.pool(kind)
    lease = await mode.go(pool.connect())
    await mode.go(lease.invalidate())
    assert mode.world.open == []
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2


@all_kinds
async def test_every_pool_lets_connections_go(mode: Mode, kind: str) -> None:
    """A detached connection is out of reach of dispose(), and closed by its lease."""
    pool = mode.pool(kind)
    lease = await mode.go(pool.connect())
    await mode.go(lease.detach())
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2
    await mode.go(pool.dispose())
    assert mode.world.open == [1]
    await mode.go(lease.close())
    assert mode.world.open == []


@all_kinds
async def test_every_pool_survives_failed_connects(mode: Mode, kind: str) -> None:
    pool = mode.pool(kind)
    mode.world.fail["connect"] = OSError("refused")
    for _ in range(3):
        with pytest.raises(OSError, match="refused"):
            await mode.go(pool.connect())
    mode.world.fail.clear()
    async with mode.block(pool.connect()):
        pass


@all_kinds
async def test_dispose_leaves_what_is_out(mode: Mode, kind: str) -> None:
    """What is out when the pool is disposed of is closed when it returns."""
    pool = mode.pool(kind)
    lease = await mode.go(pool.connect())
    await mode.go(pool.dispose())
    assert mode.world.open == [1]
    await mode.go(lease.close())
    assert mode.world.open == []


@all_kinds
async def test_recreate_keeps_every_option(mode: Mode, kind: str) -> None:
    listener = Recorder()
    options: dict[str, Any] = {
        "recycle": 60,
        "echo": False,
        "listeners": [listener],
        "reset_on_return": "commit",
        "name": "name",
    }
    if kind != "Singleton":
        options["use_threadlocal"] = False
    if kind in ("QueuePool", "Singleton"):
        options["pool_size"] = 3
    if kind == "QueuePool":
        options |= {"max_overflow": 2, "timeout": 7}
    pool = mode.pool(kind, **options)
    twin = pool.recreate()
    assert type(twin) is type(pool)
    inner = [getattr(p, "async_pool", p) for p in (pool, twin)]
    first, second = (p._recreate_options() for p in inner)
    assert first == second
    assert {name: second[name] for name in options} | {"listeners": [listener]} == options
    async with mode.block(twin.connect()):
        pass
    assert listener.heard == ["connect", "checkout", "checkin"]


async def test_recreate_keeps_listeners_that_were_added(mode: Mode) -> None:
    pool, listener = mode.pool(), Recorder()
    pool.add_listener(listener)
    async with mode.block(pool.recreate().connect()):
        assert listener.heard == ["connect", "checkout"]


class Recorder:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def connect(self, connection: object, record: object) -> None:
        self.heard.append("connect")

    def checkout(self, connection: object, record: object, lease: object) -> None:
        self.heard.append("checkout")

    def checkin(self, connection: object, record: object) -> None:
        self.heard.append("checkin")


async def test_null_pool_closes_on_return(mode: Mode) -> None:
    pool = mode.pool("NullPool", use_threadlocal=False)
    first = await mode.go(pool.connect())
    second = await mode.go(pool.connect())
    await mode.go(first.close())
    assert mode.world.open == [2]
    await mode.go(second.close())
    assert mode.world.open == []
    assert pool.status() == "NullPool"


async def test_static_pool_is_one_connection_for_all(mode: Mode) -> None:
    """Callers that come at the same time get one connection, opened once and lazily."""
    mode.world.pause = 3
    pool = mode.pool("StaticPool")
    assert mode.world.connections == []
    numbers: list[int] = []
    inside = [mode.event() for _ in range(4)]
    leave = mode.event()

    async def caller(index: int) -> None:
        async with mode.block(pool.connect()) as conn:
            numbers.append(conn.number)
            inside[index].set()
            await leave.wait()

    async with mode.group() as start:
        for index in range(4):
            start(caller, index)
        for event in inside:
            await event.wait()
        leave.set()
    assert numbers == [1, 1, 1, 1]
    assert mode.world.open == [1]


class Interrupt(BaseException):
    """Stands for Ctrl-C, and for cancellations."""


@pytest.mark.parametrize("reset", ["rollback", "full", None])
@pytest.mark.parametrize("left", ["busy", "stays"])
async def test_return_leaves_alone_what_another_caller_is_doing(
    mode: Mode, left: str, reset: Any
) -> None:
    """Who returns last has it stopped."""
    witness = Witness(coroutine=mode.world.coroutine, shared=True)
    options = {"driver": witness.driver(), "reset_on_return": reset}
    pool = mode.pool("StaticPool", creator=witness.creator, **options)
    first = await mode.go(pool.unique_connection())
    second = await mode.go(pool.unique_connection())
    assert first.connection is second.connection
    first.connection.leave(left)
    await mode.go(second.close())
    assert {what for what, _ in witness.events} == {"connect"}
    assert first.is_valid
    await mode.go(first.close())
    assert ("interrupt", 1) in witness.events
    assert witness.open == ([1] if left == "busy" else [])
    with witness.excuse():
        await mode.go(pool.dispose())
    assert not witness.violations


@pytest.mark.parametrize("kind", ["StaticPool", "Singleton"])
async def test_interrupted_checkout_leaves_the_connection_to_who_has_it(
    mode: Mode, kind: str
) -> None:
    interrupts: list[Interrupt] = []

    class Interrupted:
        def checkout(self, connection: Any, record: Any, lease: Any) -> None:
            if interrupts:
                raise interrupts.pop()

    pool = mode.pool(kind, listeners=[Interrupted()])
    lease = await mode.go(pool.unique_connection())
    interrupts.append(Interrupt())
    with pytest.raises(Interrupt):
        await mode.go(pool.unique_connection())
    await mode.go(lease.close())
    assert mode.world.events_of(1) == ["rollback"]
    await mode.go(pool.close())
    assert mode.world.open == []
    assert pool.stats().closed == {"dispose": 1}


async def test_assertion_pool_names_the_holder(mode: Mode) -> None:
    pool = mode.pool("AssertionPool")
    lease = await mode.go(pool.connect())
    with pytest.raises(AssertionError, match=r"was checked out at .*test_pools\.py:\d+"):
        await mode.go(pool.unique_connection())
    await mode.go(lease.close())
    async with mode.block(pool.unique_connection()):
        pass
    assert len(mode.world.connections) == 1


async def test_singleton_pool_keeps_one_for_each_caller(mode: Mode) -> None:
    """Each caller has its own connection again and again, which ends with the caller."""
    pool = mode.pool("Singleton")
    numbers: list[set[int]] = []

    async def caller() -> None:
        mine: set[int] = set()
        for _ in range(3):
            async with mode.block(pool.connect()) as conn:
                mine.add(conn.number)
        numbers.append(mine)

    for _ in range(3):
        async with mode.group() as start:
            start(caller)
        gc.collect()
        await mode.until(lambda: mode.world.open == [])
    assert numbers == [{1}, {2}, {3}]


async def test_singleton_pool_size_spares_what_is_in_use(mode: Mode) -> None:
    """Beyond pool_size idle callers' connections are closed, never one that is out."""
    pool = mode.pool("Singleton", pool_size=1)
    done, leave = mode.event(), mode.event()

    async def idle() -> None:
        async with mode.block(pool.connect()):
            pass
        done.set()
        await leave.wait()

    async with mode.group() as start:
        start(idle)
        await done.wait()
        lease = await mode.go(pool.connect())
        assert mode.world.open == [2]
        leave.set()
    assert lease.connection.number == 2
    await mode.go(lease.close())


async def test_singleton_pool_tells_its_size(mode: Mode) -> None:
    pool = mode.pool("Singleton", pool_size=3)
    name = type(pool).__name__
    assert (pool.size(), pool.status()) == (3, f"{name} size: 0")
    async with mode.block(pool.connect()):
        assert pool.status() == f"{name} size: 1"
    await mode.go(pool.close())


async def test_singleton_pool_dispose_local(mode: Mode) -> None:
    pool = mode.pool("Singleton")
    async with mode.block(pool.connect()):
        pass
    await mode.go(pool.dispose_local())
    assert mode.world.open == []
    await mode.go(pool.dispose_local())  # there is none
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 2
        await mode.go(pool.dispose_local())
        assert mode.world.open == [2]
    assert mode.world.open == []


async def test_singleton_pool_dispose_local_spares_other_callers(mode: Mode) -> None:
    pool = mode.pool("Singleton")
    there, leave = mode.event(), mode.event()

    async def other() -> None:
        async with mode.block(pool.connect()):
            pass
        there.set()
        await leave.wait()
        async with mode.block(pool.connect()) as connection:
            assert connection.number == 1

    async with mode.group() as start:
        start(other)
        await there.wait()
        async with mode.block(pool.connect()) as connection:
            assert connection.number == 2
        await mode.go(pool.dispose_local())
        assert mode.world.open == [1]
        leave.set()
    await mode.go(pool.dispose())


async def test_dispose_keeps_the_count(mode: Mode) -> None:
    """checkedout() == size() - checkedin() + overflow(), also across dispose()."""
    pool = mode.pool(pool_size=2, max_overflow=1, use_threadlocal=False)

    def counts() -> tuple[int, int, int, int]:
        numbers = (pool.size(), pool.checkedin(), pool.overflow(), pool.checkedout())
        assert numbers[3] == numbers[0] - numbers[1] + numbers[2]
        return numbers

    assert counts() == (2, 0, -2, 0)
    leases = [await mode.go(pool.connect()) for _ in range(3)]
    await mode.go(leases.pop().close())
    assert counts() == (2, 1, 1, 2)
    await mode.go(pool.dispose())
    assert counts() == (2, 0, 0, 2)
    fresh = await mode.go(pool.connect())
    assert counts() == (2, 0, 1, 3)
    for lease in leases:
        await mode.go(lease.close())
    assert counts() == (2, 0, -1, 1)
    await mode.go(fresh.close())
    assert counts() == (2, 1, -1, 0)
    assert mode.world.open == [4]


def test_pool_itself_is_abstract() -> None:
    with pytest.raises(TypeError, match="QueuePool"):
        anypool.Pool(lambda: 1)


@pytest.mark.parametrize("pools", [anypool, sync])
def test_pools_keep_five_connections_by_default(pools: Any) -> None:
    singleton = "SingletonThreadPool" if pools is sync else "SingletonTaskPool"
    for kind in ("QueuePool", singleton):
        assert getattr(pools, kind)(object).size() == 5
