"""An error leaves no reference cycle behind: what its caller had goes when it should.

A lease that only the collector could find would come back late, or, where the collector
is switched off, never.
"""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import anypool
from anypool._ledgers.guard import has_gil

from .support.modes import Mode

# A worker thread may have a lease a moment longer than the block that expects the warning.
pytestmark = pytest.mark.filterwarnings("ignore:.*dropped without close:ResourceWarning")

two_kinds = pytest.mark.parametrize("kind", ["QueuePool", "StaticPool"])


class Trouble(ConnectionResetError):
    """An error of a server, or a listener, that weak references can refer to."""


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


class Life:
    """Tells whether what a test had is gone without the collector."""

    def __init__(self, mode: Mode) -> None:
        if mode.name in ("portal", "threads") and not has_gil():
            pytest.skip("what another thread made waits for that thread, or the collector")
        self.mode = mode
        self._refs: dict[str, weakref.ref[Any]] = {}

    def note(self, name: str, value: Any) -> Any:
        self._refs[name] = weakref.ref(value)
        return value

    def trouble(self) -> None:
        raise self.note("error", Trouble("broken"))

    def once(self, what: str) -> None:
        """Have the next operation of a name fail."""

        def fail() -> None:
            del self.mode.world.on[what]
            self.trouble()

        self.mode.world.on[what] = fail

    async def is_over(self, *names: str) -> None:
        """All of these have been there, and are gone."""
        await self.mode.until(lambda: all(map(self._is_gone, names)))

    def _is_gone(self, name: str) -> bool:
        return name in self._refs and self._refs[name]() is None


async def _drop(life: Life, pool: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        life.note("lease", await life.mode.go(pool.connect()))


async def _back(life: Life, pool: Any) -> None:
    lease = life.note("lease", await life.mode.go(pool.connect()))
    await life.mode.go(lease.close())


async def _use(life: Life, pool: Any) -> None:
    lease = life.note("lease", await life.mode.go(pool.connect()))
    try:
        await life.mode.go(lease.execute("select 1"))
    finally:
        await life.mode.go(lease.close())


async def _fails(work: Any) -> bool:
    try:
        await work
    except Trouble:  # pytest.raises() would keep it
        return True
    return False


@two_kinds
async def test_after_a_failed_ping(mode: Mode, kind: str) -> None:
    life, pool = Life(mode), mode.pool(kind, pre_ping=True)
    async with mode.block(pool.connect()):
        pass
    life.once("ping")
    await _drop(life, pool)
    await life.is_over("error", "lease")
    assert pool.stats().checked_out == 0


@two_kinds
@pytest.mark.parametrize("end", [_drop, _back])
async def test_after_a_failed_reset(mode: Mode, kind: str, end: Any) -> None:
    life, pool = Life(mode), mode.pool(kind)
    life.once("rollback")
    await end(life, pool)
    await life.is_over("error", "lease")
    await mode.until(lambda: pool.stats().checked_out == 0)


@two_kinds
@pytest.mark.parametrize("told", ["connect", "checkout", "checkin"])
async def test_after_a_listener_failed(mode: Mode, kind: str, told: str) -> None:
    life = Life(mode)

    class Listener:
        pass

    setattr(Listener, told, lambda self, *_: life.trouble())
    pool = mode.pool(kind, listeners=[Listener()])
    assert await _fails(_back(life, pool))
    await life.is_over(*["error", "lease"] if told == "checkin" else ["error"])
    assert pool.stats().checked_out == 0


@two_kinds
async def test_after_a_checkout_that_was_tried_again(mode: Mode, kind: str) -> None:
    life = Life(mode)

    class Listener:
        def checkout(self, connection: Any, record: Any, lease: Any) -> None:
            if connection.number == 1:
                raise life.note("error", anypool.DisconnectionError("gone"))

    pool = mode.pool(kind, listeners=[Listener()])
    await _drop(life, pool)
    await life.is_over("error", "lease")
    await mode.until(lambda: pool.stats().checked_out == 0)


@two_kinds
async def test_after_a_failed_connect(mode: Mode, kind: str) -> None:
    life, pool = Life(mode), mode.pool(kind)
    life.once("connect")
    assert await _fails(_back(life, pool))
    await life.is_over("error")


@two_kinds
async def test_after_a_failed_close(mode: Mode, kind: str) -> None:
    life, pool = Life(mode), mode.pool(kind)
    life.once("close")

    async def discard() -> None:
        lease = life.note("lease", await mode.go(pool.connect()))
        await mode.go(lease.invalidate())

    await discard()
    await life.is_over("error", "lease")


@two_kinds
async def test_after_the_callers_own_error(mode: Mode, kind: str) -> None:
    life, pool = Life(mode), mode.pool(kind)
    life.once("execute")
    assert await _fails(_use(life, pool))
    await life.is_over("error", "lease")


async def test_after_a_timeout(mode: Mode) -> None:
    life, pool = Life(mode), mode.pool(pool_size=1, max_overflow=0)

    async def wait() -> None:
        try:
            await mode.go(pool.unique_connection(timeout=0.001))
        except anypool.PoolTimeoutError as error:
            life.note("error", error)

    async with mode.block(pool.connect()):
        await wait()
        await life.is_over("error")


async def test_after_an_opened_pool_could_not_connect(mode: Mode) -> None:
    life, pool = Life(mode), mode.pool(pool_size=1)
    life.once("connect")
    async with mode.block(pool):
        await _back(life, pool)
        await life.is_over("error", "lease")


async def test_after_an_opened_pool_failed_fast(mode: Mode) -> None:
    life, pool = Life(mode), mode.pool(fail_fast=True)
    life.once("connect")

    async def start() -> None:
        async with mode.block(pool):
            pass

    assert await _fails(start())
    await life.is_over("error")
    assert pool.stats().size == 0
