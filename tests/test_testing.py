"""What applications test with: fake connections, and a clock that is driven."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import anypool
from anypool import sync
from anypool.testing import (
    Clock,
    FakeAsyncConnection,
    FakeConnection,
    FakeDatabase,
    FakeError,
    FakeLostConnection,
    driven,
    wait_until,
    wait_until_async,
)

from .support.modes import PATIENCE, Mode


class Fakes:
    """A database of fakes, of a mode's kind."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.database = FakeDatabase()
        self.creator: Callable[[], Any] = (
            self.database.connect_async if mode.world.coroutine else self.database.connect
        )

    def pool(self, **options: Any) -> Any:
        return self.mode.pool(creator=self.creator, **options)

    async def call(self, pool: Any, function: Callable[..., Any], *args: Any) -> Any:
        return await self.mode.go(pool.call(function, *args))

    async def until(self, condition: Callable[[], object], timeout: float = 5) -> None:
        if self.mode.blocking:
            wait_until(condition, timeout)
        else:
            await wait_until_async(condition, timeout)


@pytest.fixture
def fakes(mode: Mode) -> Fakes:
    return Fakes(mode)


# Fake connections.


async def test_fakes_note_what_is_done(mode: Mode, fakes: Fakes) -> None:
    fakes.database.answer("select name", [("Ada",), ("Grace",)])
    pool = fakes.pool()
    async with mode.block(pool.connect()) as connection:
        cursor = await fakes.call(pool, connection.execute, "select name", (7,))
        assert await fakes.call(pool, cursor.fetchone) == ("Ada",)
        assert await fakes.call(pool, cursor.fetchmany, 5) == [("Grace",)]
        assert await fakes.call(pool, cursor.fetchone) is None
        assert cursor.description is not None
        assert cursor.rowcount == 2
        again = await fakes.call(pool, connection.cursor().execute, "update t")
        assert await fakes.call(pool, again.fetchall) == []
        assert (again.description, again.rowcount) == (None, -1)
        await fakes.call(pool, again.close)
        assert again.closed
        assert connection.in_transaction
    assert not connection.in_transaction
    assert connection.count("rollback") == 1
    assert connection.statements == fakes.database.statements == ["select name", "update t"]
    assert connection.calls[0] == ("execute", "select name", (7,))
    await mode.go(pool.close())
    assert connection.closed
    assert fakes.database.open == []


async def test_fakes_are_reset(mode: Mode, fakes: Fakes) -> None:
    pool = fakes.pool(reset_on_return="commit")
    for number in (1, 2):
        async with mode.block(pool.connect()) as connection:
            await fakes.call(pool, connection.execute, "insert")
            assert connection.in_transaction
            assert connection.count("commit") == number - 1
    assert not connection.in_transaction
    assert len(fakes.database.connections) == 1
    await mode.go(pool.close())


def test_autocommit_is_put_back() -> None:
    pool = sync.QueuePool(FakeConnection)
    with pool.connect() as connection:
        connection.autocommit = True
        connection.execute("insert")
        assert not connection.in_transaction
    assert connection.autocommit is False
    pool.close()


async def test_busy_and_closed_fakes_are_replaced(mode: Mode, fakes: Fakes) -> None:
    pool = fakes.pool(pool_size=1, max_overflow=0)
    async with mode.block(pool.connect()) as connection:
        connection.busy = True
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 2
        await fakes.call(pool, connection.close)
        with pytest.raises(FakeError, match="closed"):
            await fakes.call(pool, connection.execute, "select 1")
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 3
    assert fakes.database.open == [connection]
    assert repr(connection).endswith("Connection 3>")
    await mode.go(pool.close())


async def test_errors_by_appointment(mode: Mode, fakes: Fakes) -> None:
    pool = fakes.pool(pool_size=1, max_overflow=0)
    fakes.database.fail("connect", ConnectionRefusedError("not yet"))
    with pytest.raises(ConnectionRefusedError, match="not yet"):
        await mode.go(pool.connect())
    async with mode.block(pool.connect()) as connection:
        connection.fail("execute", ValueError("once"), times=2)
        for _ in range(2):
            with pytest.raises(ValueError, match="once"):
                await fakes.call(pool, connection.execute, "select 1")
        await fakes.call(pool, connection.execute, "select 1")
        fakes.database.fail("rollback", FakeError("no way back"))
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 2
    await mode.go(pool.close())


async def test_lost_fakes_mean_a_lost_connection(mode: Mode, fakes: Fakes) -> None:
    pool = fakes.pool(pool_size=2, max_overflow=0, on_disconnect="pool")
    leases = [await mode.go(pool.unique_connection()) for _ in range(2)]
    for lease in leases:
        await mode.go(lease.close())
    fakes.database.restart()
    with pytest.raises(FakeLostConnection):
        async with mode.block(pool.connect()) as connection:
            await fakes.call(pool, connection.execute, "select 1")
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 3
        await fakes.call(pool, connection.execute, "select 1")
    assert fakes.database.open == [connection]
    await mode.go(pool.close())


def test_classes_are_creators() -> None:
    pool = sync.QueuePool(FakeConnection)
    with pool.connect() as connection, connection.cursor() as cursor:
        connection.answer("select", [(1,), (2,)])
        assert list(cursor.execute("select")) == [(1,), (2,)]
    pool.close()

    async def main() -> None:
        pool = anypool.QueuePool(FakeAsyncConnection.connect)
        async with pool.connect() as connection, connection.cursor() as cursor:
            connection.answer("select", [(1,), (2,)])
            assert [row async for row in await cursor.execute("select")] == [(1,), (2,)]
            assert await cursor.fetchall() == []
        await pool.close()

    anyio.run(main)


# The clock.


async def test_age(mode: Mode, fakes: Fakes) -> None:
    pool = fakes.pool(recycle=60)
    with driven(pool) as clock:
        for number in (1, 1, 2):
            async with mode.block(pool.connect()) as connection:
                assert connection.number == number
            clock.advance(40)
        assert clock.elapsed == 120
        await mode.go(pool.close())


async def test_ping_after_idling(mode: Mode, fakes: Fakes) -> None:
    pool = fakes.pool(pre_ping=30)
    with driven(pool) as clock:
        for idle, pings in ((0, 0), (20, 0), (31, 1)):
            clock.advance(idle)
            async with mode.block(pool.connect()) as connection:
                assert connection.count("ping") == pings
        await mode.go(pool.close())


async def test_opened_pool_closes_and_pings_what_idles(mode: Mode, fakes: Fakes) -> None:
    pool = fakes.pool(min_size=1, max_idle=600, keepalive=60)
    with driven(pool) as clock:
        await mode.go(pool.open())
        await mode.go(pool.wait())
        leases = [await mode.go(pool.unique_connection()) for _ in range(3)]
        for lease in leases:
            await mode.go(lease.close())
        await fakes.until(lambda: pool.stats().idle == 3)
        clock.advance(61)
        await fakes.until(
            lambda: all(each.count("ping") == 1 for each in fakes.database.connections)
        )
        await fakes.until(lambda: pool.stats().idle == 3)
        clock.advance(601)
        await fakes.until(lambda: len(fakes.database.open) == 1)
        await mode.go(pool.close())


async def test_timeout_of_whoever_waits(mode: Mode, fakes: Fakes) -> None:
    pool = fakes.pool(pool_size=1, max_overflow=0, timeout=3600)
    outcomes: list[Any] = []

    async def wait(timeout: float | None) -> None:
        try:
            lease = await mode.go(pool.connect(timeout=timeout))
        except anypool.PoolTimeoutError:
            outcomes.append(timeout)
        else:
            outcomes.append("served")
            await mode.go(lease.close())

    with driven(pool) as clock:
        lease = await mode.go(pool.connect())
        async with mode.group() as start:
            start(wait, 10)
            start(wait, 100)
            start(wait, None)
            await fakes.until(lambda: pool.stats().waiting == 3)
            clock.advance(9)
            clock.advance(2)
            await fakes.until(lambda: outcomes == [10])
            clock.advance(80)
            assert pool.stats().waiting == 2
            clock.advance(10)
            await fakes.until(lambda: outcomes == [10, 100])
            await mode.go(lease.close())
        assert outcomes == [10, 100, "served"]
        await mode.go(pool.close())


async def test_timeout_of_a_connect(mode: Mode) -> None:
    if not mode.world.coroutine:
        pytest.skip("a blocking connect can't be cut short")
    began = threading.Event()

    async def connect() -> FakeAsyncConnection:
        began.set()
        await anyio.sleep(PATIENCE)
        raise AssertionError

    pool = mode.pool(creator=connect, timeout=30)
    errors: list[BaseException] = []

    async def wait() -> None:
        with pytest.raises(anypool.PoolTimeoutError) as caught:
            await mode.go(pool.connect())
        errors.append(caught.value)

    with driven(pool) as clock:
        async with mode.group() as start:
            start(wait)
            await mode.until(began.is_set)
            clock.advance(29)
            assert errors == []
            clock.advance(2)
        assert len(errors) == 1
        await mode.go(pool.close())


async def test_real_time_goes_on_afterwards(mode: Mode, fakes: Fakes) -> None:
    pool = fakes.pool(pool_size=1, max_overflow=0)
    clock = Clock()
    clock.advance(5)
    with driven(pool, clock=clock) as same:
        assert same is clock
        assert clock.elapsed == 5
        with pytest.raises(ValueError, match="seconds"):
            clock.advance(-1)
    lease = await mode.go(pool.unique_connection())
    with pytest.raises(anypool.PoolTimeoutError):
        await mode.go(pool.unique_connection(timeout=0.01))
    await mode.go(lease.close())
    await mode.go(pool.close())


def test_one_clock_for_several_pools() -> None:
    pools = [sync.QueuePool(FakeConnection, recycle=10) for _ in range(2)]
    with driven(*pools) as clock:
        for _ in range(2):
            for pool in pools:
                with pool.connect():
                    pass
            clock.advance(11)
        assert [pool.stats().opened for pool in pools] == [2, 2]
        for pool in pools:
            pool.close()


def test_async_pool_is_driven_in_its_loop() -> None:
    pool = anypool.QueuePool(FakeAsyncConnection.connect)
    with pytest.raises(anypool.InvalidRequestError, match="event loop"):
        with driven(pool):
            pass


async def test_waiting_is_bounded(mode: Mode, fakes: Fakes) -> None:
    with pytest.raises(AssertionError, match=r"within 0\.01 s"):
        await fakes.until(lambda: False, 0.01)


# The contract, as its page has it.


def test_contract_of_the_guide(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "testing.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if "DriverContract" in block)
    (tmp_path / "test_driver.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-k", "open or tells"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed, (\d+) skipped", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 15
    assert int(passed[2]) < 10


def test_kit_needs_no_pytest() -> None:
    code = "import sys, anypool.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_anypool_alone_imports_no_kit() -> None:
    code = "import sys, anypool; sys.exit('anypool.testing' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
