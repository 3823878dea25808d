"""Pools that share a slot: who comes before a return has begun gets nothing of it."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from .support.clocks import driven
from .support.modes import Mode
from .support.witness import LEFT, LOST, Witness

MODES = ["asyncio", "uvloop", "trio", "threads"]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    return Mode(request.param)


@pytest.fixture(autouse=True)
def _no_complaints() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


def _pool(mode: Mode, kind: str, **options: Any) -> tuple[Any, Witness]:
    coroutine = mode.name != "threads"
    witness = Witness(coroutine=coroutine, shared=True)
    driver = witness.driver(**({"terminates": True} if coroutine else {}))
    return mode.pool(kind, creator=witness.connect, driver=driver, **options), witness


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("kind", ["StaticPool", "Singleton"])
def test_who_comes_right_after_a_lease_was_dropped(
    mode: Mode, kind: str, left: str
) -> None:
    pool, witness = _pool(mode, kind)

    async def main() -> None:
        lease = await pool.connect()
        first = lease.connection
        first.leave(left)
        del lease  # no step of the loop between this and the next line
        async with pool.connect() as connection:
            assert (connection is first) == (left not in LOST)
            assert not connection.left
            connection.leave("transaction")
            await mode.settle()
            assert connection.transaction  # nobody resets what is in use by now
            assert pool.stats().checked_out == 1
        await mode.settle()
        assert not pool._ledger.returning
        assert not pool._ledger.dropped
        await pool.close()

    mode.run(main)
    assert witness.violations == []


@pytest.mark.parametrize("kind", ["StaticPool", "Singleton"])
def test_several_that_were_dropped(mode: Mode, kind: str) -> None:
    pool, _ = _pool(mode, kind)

    async def main() -> None:
        leases = [await pool.unique_connection() for _ in range(3)]
        first = leases[0].connection
        first.leave("transaction")
        leases.clear()
        async with pool.connect() as connection:
            assert connection is first
            assert not connection.left
            assert pool.stats().checked_out == 1
            (record,) = pool._ledger.known_records()
            assert record._users == 1
        await mode.settle()
        assert record._users == 0
        await pool.close()

    mode.run(main)


def test_who_comes_while_a_return_waits_for_its_thread() -> None:
    """Tasks that begin at the same time begin in any order, in trio by chance."""
    for _ in range(10):
        mode = Mode("trio")
        mode.world.coroutine = False
        witness = Witness(coroutine=False, shared=True)
        pool: Any = mode.pool(
            "StaticPool", creator=witness.connect, driver=witness.driver()
        )

        async def main(pool: Any = pool) -> None:
            lease = await pool.connect()
            lease.connection.leave("busy changed")

            async def come() -> None:
                async with pool.connect() as connection:
                    assert not connection.left

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lease.close)
                for _ in range(3):
                    tasks.start_soon(come)
            await pool.close()

        mode.run(main)


def test_a_listener_that_fails_for_a_dropped_lease_is_not_the_next_callers_business(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails:
        def checkin(self, connection: Any, record: Any) -> None:
            if connection is not None and connection.number == 1:
                raise ValueError

    pool, _ = _pool(mode, "StaticPool", listeners=[Fails()])

    async def main() -> None:
        lease = await pool.connect()
        del lease
        async with pool.connect() as connection:
            assert connection.number == 2  # it is not known what was done to the first
        await pool.close()

    mode.run(main)
    assert "checkin listener failed" in caplog.text


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("ending", ["drop", "close"])
def test_a_reset_that_never_ends_keeps_the_next_caller_for_a_while_only(
    backend: str, ending: str
) -> None:
    mode = Mode(backend)
    pool, witness = _pool(mode, "StaticPool")

    begun: list[anyio.Event] = []

    def before(what: str, connection: Any) -> Any:
        if what != "rollback" or connection.number > 1:
            return None
        begun[0].set()
        return anyio.sleep_forever()

    witness.before = before

    async def main() -> None:
        begun.append(anyio.Event())
        lease = await pool.connect()
        lease.connection.leave("transaction")
        async with anyio.create_task_group() as tasks:
            if ending == "close":
                tasks.start_soon(lease.close)
                await begun[0].wait()
            del lease
            async with pool.connect() as connection:
                assert connection.number == 2
                assert not connection.left
        await anyio.sleep(10.0)
        (record,) = pool._ledger.known_records()
        assert record._users == 0
        await pool.close()

    anyio.run(main, **driven(backend))
    assert witness.violations == []
    assert witness.open == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_who_is_cancelled_while_they_return_what_another_left(backend: str) -> None:
    mode = Mode(backend)
    pool, witness = _pool(mode, "StaticPool")

    def before(what: str, connection: Any) -> Any:
        stuck = what == "rollback" and connection.number == 1
        return anyio.sleep_forever() if stuck else None

    witness.before = before

    async def main() -> None:
        lease = await pool.connect()
        lease.connection.leave("transaction")
        del lease
        with anyio.move_on_after(1.0):
            async with pool.connect():
                raise AssertionError("it was not reset")
        async with pool.connect() as connection:
            assert connection.number == 2
        await anyio.sleep(10.0)
        (record,) = pool._ledger.known_records()
        assert record._users == 0
        await pool.close()

    anyio.run(main, **driven(backend))
    gc.collect()
    assert witness.open == []
