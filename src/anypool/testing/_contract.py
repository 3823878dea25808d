"""DriverContract: what holds of every driver, as tests."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from inspect import iscoroutinefunction
from typing import Any, Generic

from anypool import ResetMode

from ._hooks import ConnT, missing, needs
from ._protocol_tests import ProtocolTests
from ._stage import Stage
from ._trial import Trial, new_mark

RESETS: tuple[ResetMode | None, ...] = ("rollback", "commit", "full", None)

FEW = ("block", "drop", "cancel")
"""Endings that differ to a driver; others are tried where it costs little."""

LEFT = ("clean", "open", "changed", "busy", "two_phase", "closed")


class DriverContract(ProtocolTests[ConnT], Generic[ConnT]):
    """Tests of a driver, for pytest to collect: subclass it as ``class TestMyDriver``.

    Say how to connect, and how to leave a connection in each state: see the hooks
    ``connect``, ``use``, ``make_open`` and so on. Connections are then left in each state,
    in each mode, with each ``reset_on_return``, in each way that a caller can end, and the
    tests look at what the next caller finds, how long that took, and what is left in the
    end. The class may use fixtures as any class of tests does.
    """

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Tell pytest of the modes, resets and states to test."""
        skipped = missing(self, getattr(metafunc.function, "needs", ()))
        values: Any
        for name, values in (("mode", self._modes()), ("reset", RESETS), ("left", LEFT)):
            if name in metafunc.fixturenames:
                if skipped:
                    values = values[:1]
                metafunc.parametrize(name, values, ids=map(str, values))

    def _modes(self) -> list[str]:
        modes = [*self.backends, *(["over"] if self.over else [])]
        # The loop behind a blocking pool of async connections is asyncio's.
        if "asyncio" in self.backends or not iscoroutinefunction(self.connect):
            modes.insert(0, "blocking")
        return modes

    def _on_stage(
        self, mode: str, body: Callable[[Stage], Coroutine[Any, Any, None]]
    ) -> None:
        stage = Stage(mode, self.backends[0])
        stage.run(lambda: body(stage))

    def test_clean(self, mode: str, reset: ResetMode | None) -> None:
        """A clean connection goes back as it is."""

        async def body(stage: Stage) -> None:
            async with Trial(self, stage, reset) as trial:
                for name, ending in trial.endings().items():
                    left = await trial.leave(name, ending, None)
                    async with trial.next(name) as connection:
                        # After a cancellation it is not known what it was doing.
                        if reset != "full" and name != "cancel":
                            trial.check(connection is left, name, "it was closed")

        self._on_stage(mode, body)

    @needs("make_open", "is_there")
    def test_open(self, mode: str, reset: ResetMode | None) -> None:
        """What is open is rolled back, committed, or left, as the pool was told."""

        async def body(stage: Stage) -> None:
            async with Trial(self, stage, reset) as trial:
                for name, ending in trial.endings().items():
                    mark = new_mark()
                    left = await trial.leave(name, ending, self.make_open, mark)
                    async with trial.next(name, as_left=reset is None) as connection:
                        there = await trial.call(self.is_there, connection, mark)
                        if reset is None:
                            trial.check(connection is left, name, "it was closed")
                        elif reset == "commit":
                            # One that was cut short may be closed.
                            trial.check(there or name == "cancel", name, "not committed")
                        else:
                            trial.check(not there, name, "not rolled back")
                    if reset is None:
                        async with trial.next(name) as connection:
                            there = await trial.call(self.is_there, connection, mark)
                            trial.check(not there, name, "closing it has committed")

        self._on_stage(mode, body)

    @needs("make_changed", "is_changed")
    def test_changed(self, mode: str, reset: ResetMode | None) -> None:
        """What was changed on the client's side is put back, but with None."""

        async def body(stage: Stage) -> None:
            async with Trial(self, stage, reset) as trial:
                for name, ending in trial.endings(*FEW).items():
                    await trial.leave(name, ending, self.make_changed)
                    async with trial.next(name, as_left=reset is None) as connection:
                        changed = await trial.call(self.is_changed, connection)
                        trial.check(not changed or reset is None, name, "not put back")

        self._on_stage(mode, body)

    @needs("make_busy")
    def test_busy(self, mode: str, reset: ResetMode | None) -> None:
        """What is under way is stopped or closed, whatever the pool was told."""

        async def body(stage: Stage) -> None:
            async with Trial(self, stage, reset) as trial:
                for name, ending in trial.endings("block", "drop").items():
                    await trial.leave(name, ending, self.make_busy)
                    # Of a statement that was stopped, a transaction may remain.
                    async with trial.next(name, as_left=reset is None):
                        pass

        self._on_stage(mode, body)

    @needs("make_two_phase")
    def test_two_phase(self, mode: str, reset: ResetMode | None) -> None:
        """A two-phase transaction is ended, but with None."""

        async def body(stage: Stage) -> None:
            async with Trial(self, stage, reset) as trial:
                for name, ending in trial.endings(*FEW).items():
                    await trial.leave(name, ending, self.make_two_phase)
                    async with trial.next(name, as_left=reset is None):
                        pass

        self._on_stage(mode, body)

    @needs("make_session", "is_session")
    def test_session(self, mode: str, reset: ResetMode | None) -> None:
        """With "full", nothing of the session is left."""

        async def body(stage: Stage) -> None:
            async with Trial(self, stage, reset) as trial:
                for name, ending in trial.endings(*FEW).items():
                    await trial.leave(name, ending, self.make_session)
                    async with trial.next(name) as connection:
                        # A look may begin a transaction, which is no matter here.
                        still = await trial.call(self.is_session, connection)
                        trial.check(not still or reset != "full", name, "it is still set")

        self._on_stage(mode, body)

    def test_closed(self, mode: str, reset: ResetMode | None) -> None:
        """What its user has closed is not handed on."""

        async def body(stage: Stage) -> None:
            async with Trial(self, stage, reset) as trial:
                for name, ending in trial.endings(*FEW).items():
                    left = await trial.leave(name, ending, self.make_closed)
                    async with trial.next(name) as connection:
                        trial.check(connection is not left, name, "it was handed on")

        self._on_stage(mode, body)

    @needs("make_dead")
    def test_dead(self, mode: str, reset: ResetMode | None) -> None:
        """The error of a lost connection comes out, and its slot connects anew."""

        async def body(stage: Stage) -> None:
            async with Trial(self, stage, reset) as trial:
                left: list[Any] = []
                failed = False
                try:
                    async with stage.block(trial.pool) as connection:
                        left.append(connection)
                        await trial.call(self.make_dead, connection)
                        await trial.call(self.use, connection)
                except Exception:
                    failed = True
                trial.check(failed, "error", "use() works on a dead connection")
                async with trial.next("error") as connection:
                    trial.check(connection is not left[0], "error", "it was handed on")

        self._on_stage(mode, body)

    @needs("make_dead")
    def test_dead_while_idle(self, mode: str, reset: ResetMode | None) -> None:
        """With ``pre_ping``, nobody gets a connection that has died in the pool."""

        async def body(stage: Stage) -> None:
            async with Trial(self, stage, reset, pre_ping=True) as trial:
                for name, ending in trial.endings("block", "close").items():
                    left = await trial.leave(name, ending, None)
                    await trial.call(self.make_dead, left)
                    async with trial.next(name) as connection:
                        trial.check(connection is not left, name, "it was handed on")

        self._on_stage(mode, body)

    def test_capacity(self, mode: str) -> None:
        """No two callers share a connection, and none is lost."""

        async def body(stage: Stage) -> None:
            async with Trial(self, stage, "rollback", pool_size=2, max_overflow=1) as trial:
                for _ in range(2):
                    leases = [
                        await stage.go(trial.pool.unique_connection()) for _ in range(3)
                    ]
                    for lease in leases:
                        await trial.call(self.use, lease.connection)
                    count = len({id(lease.connection) for lease in leases})
                    trial.check(count == 3, "close", "callers share a connection")
                    for lease in leases:
                        await stage.go(lease.close())
                stats = trial.pool.stats()
                trial.check(stats.idle == 2, "close", f"not 2 are kept: {stats}")
                overflow = stats.closed.get("overflow")
                trial.check(overflow == 2, "close", f"not 2 of overflow closed: {stats}")

        self._on_stage(mode, body)
