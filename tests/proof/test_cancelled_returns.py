"""What a cancelled caller was doing is stopped and undone before the connection goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import anypool

from ..support.clocks import driven
from ..support.suspensions import AtSuspension
from ..support.witness import LEFT, LOST, STUCK, Witness


async def _cancel(interrupts: bool, by_block: bool) -> Witness:
    """Cancel a caller in the middle of a statement."""
    witness = Witness(coroutine=True)
    pool = anypool.QueuePool(
        witness.creator, driver=witness.driver(interrupts=interrupts), pool_size=1
    )

    async def pause(what: str, connection: Any) -> None:
        await anyio.sleep(1000 if what == "execute" else 1)

    witness.before = pause
    with anyio.move_on_after(100) as scope:
        if by_block:
            async with pool.connect() as connection:
                await connection.execute("select 1")
        else:
            lease = await pool.connect()
            try:
                await lease.connection.execute("select 1")
            finally:
                await lease.close()
    assert scope.cancelled_caught
    return witness


@pytest.mark.parametrize("by_block", [True, False])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_stopped_and_reset(backend: str, by_block: bool) -> None:
    """A driver that can stop a statement does, and the connection is kept."""
    witness = anyio.run(_cancel, True, by_block, **driven(backend))
    done = [what for what, _ in witness.events]
    assert done[:4] == ["connect", "execute", "interrupt", "rollback"]
    assert not witness.connections[0].transaction


@pytest.mark.parametrize("by_block", [True, False])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_closed_where_it_cannot_be_stopped(backend: str, by_block: bool) -> None:
    """Of any other driver the connection is closed."""
    witness = anyio.run(_cancel, False, by_block, **driven(backend))
    done = [what for what, _ in witness.events]
    assert done == ["connect", "execute", "interrupt", "close"]


async def _leave(left: str, reset: Any, strike: int) -> tuple[Witness, bool]:
    """Return in the middle of something, and be cancelled at one suspension of it."""
    witness = Witness(coroutine=True)
    witness.resets = reset is not None
    witness.keep = 1
    witness.before = lambda what, connection: anyio.lowlevel.checkpoint()
    pool = anypool.QueuePool(
        witness.creator, driver=witness.driver(), pool_size=1, reset_on_return=reset
    )
    lease = await pool.connect()
    lease.connection.leave(left)
    with anyio.CancelScope() as scope:
        at = AtSuspension(_and_look(lease.close), strike, scope.cancel)
        await at
    assert scope.cancelled_caught == at.struck
    async with pool.connect() as connection:
        witness.handed_out(connection, "the next one")
        lost = left in (STUCK if reset is None else LOST)
        assert connection.number == 1 + lost
        witness.given_back(connection, "the next one")
    assert not witness.violations, (strike, witness.violations, witness.events)
    return witness, at.struck


async def _and_look(work: Callable[[], Awaitable[None]]) -> None:
    await work()
    # So that a cancellation that came at the last moment is seen here.
    await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("reset", ["rollback", "full", None])
@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_while_it_is_undone(backend: str, left: str, reset: Any) -> None:
    """Whatever was left is stopped and undone, wherever a cancellation strikes."""
    for strike in count(1):
        witness, struck = anyio.run(_leave, left, reset, strike, **driven(backend))
        interrupts = [what for what, _ in witness.events].count("interrupt")
        assert interrupts >= ("busy" in left or left in STUCK)
        if not struck:
            break
    assert strike > 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_during_the_return(backend: str) -> None:
    """A return that is under way is finished, and the connection kept."""

    async def work() -> Witness:
        witness = Witness(coroutine=True)
        pool = anypool.QueuePool(witness.creator, driver=witness.driver(), pool_size=1)
        with anyio.CancelScope() as scope:

            async def cancel(what: str, connection: Any) -> None:
                if what == "rollback" and not scope.cancel_called:
                    scope.cancel()
                await anyio.lowlevel.checkpoint()

            witness.before = cancel
            async with pool.connect() as connection:
                await connection.execute("select 1")
            await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert witness.open == [1]
        assert not witness.connections[0].transaction
        assert pool.checkedin() == 1
        return witness

    anyio.run(work, **driven(backend))
