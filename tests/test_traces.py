"""Random scripts of operations, run on the pools of every mode and on a model.

For each step: what it gave, the connection's number, the counts, and what was done to
connections and told to listeners.
"""

from __future__ import annotations

import gc
import random
import warnings
from typing import Any

import pytest

import anypool

from .support.model import ModelLease, ModelPool
from .support.modes import Mode

SCRIPTS = 60  # for each of the modes
STEPS = 40

OPERATIONS = {
    "connect": 8,
    "unique": 5,
    "close": 8,
    "drop": 2,
    "invalidate": 2,
    "detach": 2,
    "cursor": 3,
    "failing cursor": 2,
    "read info": 3,
    "write info": 3,
    "reject": 1,
    "failing connects": 1,
}


class Script:
    """A random script: the model decides with it what can be done next."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        choose = self.random
        self.options: dict[str, Any] = {
            "pool_size": choose.randint(1, 3),
            "max_overflow": choose.choice([-1, 0, 1, 2]),
            "use_threadlocal": choose.random() < 0.6,
        }
        self.model = ModelPool(**self.options)

    def next_operation(self) -> str:
        return self.random.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]


class Listener:
    def __init__(self, run: Run) -> None:
        self._run = run

    def connect(self, connection: Any, record: Any) -> None:
        self._run.mode.world.events.append(("connected", connection.number))

    def checkout(self, connection: Any, record: Any, lease: Any) -> None:
        self._run.mode.world.events.append(("checkout", connection.number))
        if connection.number in self._run.script.model.rejected:
            raise anypool.DisconnectionError

    def checkin(self, connection: Any, record: Any) -> None:
        number: Any = None if connection is None else connection.number
        self._run.mode.world.events.append(("checkin", number))


class Run:
    """One script on one pool."""

    def __init__(self, mode: Mode, seed: int) -> None:
        self.mode = mode
        self.script = Script(seed)
        mode.world.connections.clear()
        mode.world.events.clear()
        mode.world.fail.clear()
        self.pool = mode.pool(timeout=0, listeners=[Listener(self)], **self.script.options)
        # The leases that the script holds: the model's, and the pool's.
        self.held: list[tuple[ModelLease, Any]] = []
        self.log: list[str] = []

    async def go(self) -> None:
        for _ in range(STEPS):
            operation = self.script.next_operation()
            self.log.append(operation)
            self.script.model.events.clear()
            self.mode.world.events.clear()
            await self._step(operation)
            await self._compare()
        while self.held:
            expected, lease = self.held.pop()
            for _ in range(expected.count):
                expected.close()
                await self.mode.go(lease.close())
        await self.mode.go(self.pool.dispose())
        assert self.mode.world.open == []

    async def _step(self, operation: str) -> None:
        model = self.script.model
        choose = self.script.random
        if operation == "connect":
            await self._connect(model.connect(), self.pool.connect)
        elif operation == "unique":
            await self._connect(model.unique(), self.pool.unique_connection)
        elif operation == "reject":
            model.rejected = set(
                choose.sample(range(1, model.made + 3), choose.randint(0, model.made + 2))
            )
        elif operation == "failing connects":
            model.connect_fails = not model.connect_fails
            self.mode.world.fail.pop("connect", None)
            if model.connect_fails:
                self.mode.world.fail["connect"] = OSError("refused")
        elif self.held:
            await self._use(operation, choose.randrange(len(self.held)))

    async def _connect(self, expected: ModelLease | str, connect: Any) -> None:
        try:
            lease = await self.mode.go(connect())
        except Exception as error:
            assert type(error).__name__ == expected, self.log
            return
        assert isinstance(expected, ModelLease), (self.log, expected)
        assert lease.connection.number == expected.connection, self.log
        for other, theirs in self.held:
            assert (other is expected) == (theirs is lease), self.log
        if all(other is not expected for other, _ in self.held):
            self.held.append((expected, lease))

    async def _use(self, operation: str, index: int) -> None:
        expected, lease = self.held[index]
        if operation == "close":
            expected.close()
            await self.mode.go(lease.close())
            if not expected.count and self.script.random.random() < 0.7:
                del self.held[index]
        elif operation == "drop":
            del self.held[index], lease
            expected.drop()
            await self._settle()
        elif operation == "invalidate":
            await self._same(expected.invalidate(), lease.invalidate)
        elif operation == "detach":
            await self._same(expected.detach(), lease.detach)
        elif operation == "cursor":
            await self._same(expected.cursor(fails=False), lease.cursor)
        elif operation == "failing cursor":
            self.mode.world.fail["cursor"] = OSError("no cursor")
            await self._same(expected.cursor(fails=True), lease.cursor)
            del self.mode.world.fail["cursor"]
        elif operation == "read info":
            await self._same_info(expected, lease)
        else:
            info = expected.info()
            if not isinstance(info, str):
                info["note"] = lease.info["note"] = len(self.log)
            await self._same_info(expected, lease)

    async def _same(self, expected: str, operate: Any) -> None:
        try:
            await self.mode.go(operate())
        except Exception as error:
            assert type(error).__name__ == expected, self.log
        else:
            assert expected == "ok", self.log

    async def _same_info(self, expected: ModelLease, lease: Any) -> None:
        info = expected.info()
        if isinstance(info, str):
            with pytest.raises(anypool.InvalidRequestError):
                lease.info
        else:
            assert lease.info == info, self.log

    def _counts(self) -> tuple[int, int, int, int]:
        pool = self.pool
        return (pool.size(), pool.checkedin(), pool.overflow(), pool.checkedout())

    async def _settle(self) -> None:
        """Let the event loop finish what a finalizer left to it."""
        model = self.script.model
        gc.collect()
        try:
            await self.mode.until(
                lambda: (
                    self._counts() == model.counts()
                    and self.mode.world.events == model.events
                )
            )
        except AssertionError:
            return  # _compare() says what differs

    async def _compare(self) -> None:
        model = self.script.model
        counts = self._counts()
        assert counts == model.counts(), self.log
        assert self.mode.world.events == model.events, self.log
        for expected, lease in self.held:
            assert lease.is_valid == (expected.connection is not None), self.log
            if expected.connection is not None:
                assert lease.connection.number == expected.connection, self.log


@pytest.mark.parametrize("part", range(5))
async def test_random_scripts_agree_with_the_model(mode: Mode, part: int) -> None:
    """Every step gives what the original's semantics say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for seed in range(part * SCRIPTS, (part + 1) * SCRIPTS):
            await Run(mode, seed).go()
