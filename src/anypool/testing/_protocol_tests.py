"""The part of the contract that a driver keeps by itself, without a pool."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic
from unittest import SkipTest

from anypool import CannotReset, ConnectionState, Driver

from ._hooks import ConnT, Hooks, need, needs
from ._reach import chosen_driver
from ._stage import Stage
from ._trial import new_mark, settled

QUICK = 0.1
"""Seconds within which a look at the state is over, even on a slow machine."""


class Specimen:
    """A connection outside of any pool, and its driver.

    Attributes:
        connection: the connection.
        driver: its driver.
        baseline: what the driver has noted of it.
    """

    def __init__(self, hooks: Hooks[Any], connection: Any, made: object) -> None:
        self.connection = connection
        self.driver: Driver[Any] = hooks.driver or chosen_driver(connection, made)
        self.baseline = self.driver.baseline(connection)

    def state(self) -> ConnectionState:
        """Ask for the state, here and in another thread: both get the same at once."""
        answers: list[Any] = []

        def ask() -> None:
            try:
                answers.append(self.driver.state(self.connection, self.baseline))
            except BaseException as error:
                answers.append(error)

        start = time.monotonic()
        ask()
        lasted = time.monotonic() - start
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        for answer in answers:
            assert isinstance(answer, ConnectionState), f"state() gave {answer!r}"
        assert answers[0] is answers[1], f"state() in another thread: {answers}"
        assert lasted < QUICK, f"state() took {lasted:.3f} s: is that a round trip?"
        state: ConnectionState = answers[0]
        return state


class ProtocolTests(Hooks[ConnT], Generic[ConnT]):
    """Each test has a connection of its own, in an event loop if that needs one."""

    def _alone(self, body: Callable[[Specimen], Coroutine[Any, Any, None]]) -> None:
        async def run() -> None:
            made = self.connect()
            connection = await settled(made)
            specimen = Specimen(self, connection, made)
            try:
                await body(specimen)
            finally:
                specimen.driver.terminate(connection)

        Stage(self.backends[0]).run(run)

    def _expected(self, state: ConnectionState) -> tuple[ConnectionState, ...]:
        if state is ConnectionState.CLEAN and not self.tells_open:
            return ConnectionState.CLEAN, ConnectionState.OPEN
        return (state,)

    def test_tells_state(self, left: str) -> None:
        """``state()`` tells what the connection is in, without a round trip."""
        need(self, *([] if left in ("clean", "closed") else [f"make_{left}"]))

        async def body(it: Specimen) -> None:
            kept = None
            if left == "open":
                await settled(self.make_open(it.connection, new_mark()))
            elif left != "clean":
                kept = await settled(getattr(self, f"make_{left}")(it.connection))
            state = it.state()
            expected = self._expected(ConnectionState[left.upper()])
            assert state in expected, f"left {left}: state() says {state.value}"
            is_open = it.driver.is_open(it.connection)
            assert is_open == (left != "closed"), f"left {left}: is_open() says {is_open}"
            del kept

        self._alone(body)

    @needs("make_open", "is_there")
    def test_reset_ends_transaction(self) -> None:
        """``reset(connection, "rollback")`` and "commit" end what is open, as they say."""

        async def body(it: Specimen) -> None:
            for mode in ("rollback", "commit"):
                mark = new_mark()
                await settled(self.make_open(it.connection, mark))
                await settled(it.driver.reset(it.connection, mode))
                state = it.state()
                assert state in self._expected(ConnectionState.CLEAN), (
                    f"after reset({mode!r}), state() says {state.value}"
                )
                there = bool(await settled(self.is_there(it.connection, mark)))
                assert there == (mode == "commit"), f"reset({mode!r}): the row is wrong"

        self._alone(body)

    @needs("make_changed", "is_changed")
    def test_restore_puts_back(self) -> None:
        """``restore()`` puts back what was changed, or raises."""

        async def body(it: Specimen) -> None:
            await settled(self.make_changed(it.connection))
            assert await settled(self.is_changed(it.connection)), "make_changed() is idle"
            await settled(it.driver.reset(it.connection, "rollback"))
            try:
                await settled(it.driver.restore(it.connection, it.baseline))
            except CannotReset:
                return
            state = it.state()
            assert state in self._expected(ConnectionState.CLEAN), state.value
            assert not await settled(self.is_changed(it.connection)), "it is as it was left"

        self._alone(body)

    def test_ping_leaves_nothing_open(self) -> None:
        """``ping()`` works on a good connection, and begins nothing."""

        async def body(it: Specimen) -> None:
            for _ in range(2):
                await settled(it.driver.ping(it.connection))
                state = it.state()
                assert state in self._expected(ConnectionState.CLEAN), state.value
            await settled(self.use(it.connection))

        self._alone(body)

    @needs("make_dead")
    def test_ping_tells_dead_connection(self) -> None:
        """``ping()`` raises on a connection that the server has ended, and ends soon."""

        async def body(it: Specimen) -> None:
            await settled(self.make_dead(it.connection))
            start = time.monotonic()
            try:
                await settled(it.driver.ping(it.connection))
            except Exception:
                assert time.monotonic() - start < self.bound
                return
            raise AssertionError("ping() says that a dead connection is alive")

        self._alone(body)

    def test_tells_lost_connection(self) -> None:
        """``is_disconnect()`` knows the errors of a lost connection, and no others."""

        async def body(it: Specimen) -> None:
            for error in (ValueError("something else"), KeyError("x")):
                lost = it.driver.is_disconnect(error, it.connection)
                assert lost is False, f"is_disconnect({error!r}) says {lost!r}"
            need(self, "make_dead")
            await settled(self.make_dead(it.connection))
            failure: Exception | None = None
            try:
                await settled(self.use(it.connection))
            except Exception as error:
                failure = error
            assert failure is not None, "use() works on a dead connection"
            lost = it.driver.is_disconnect(failure, it.connection)
            assert lost is True, f"is_disconnect({failure!r}) says {lost!r}"

        self._alone(body)

    def test_close(self) -> None:
        """``close()`` closes, and what comes after it does no harm."""

        async def body(it: Specimen) -> None:
            await settled(it.driver.close(it.connection))
            assert self.is_closed(it.connection, it.driver), "close() leaves it open"
            assert it.state() is ConnectionState.CLOSED
            ended = it.driver.terminate(it.connection)
            assert isinstance(ended, bool), f"terminate() gave {ended!r}"
            assert self.is_closed(it.connection, it.driver)

        self._alone(body)

    def test_terminate(self) -> None:
        """``terminate()`` closes at once, without waiting, and as often as one likes."""

        async def body(it: Specimen) -> None:
            start = time.monotonic()
            ended: object = it.driver.terminate(it.connection)
            lasted = time.monotonic() - start
            assert isinstance(ended, bool), f"terminate() gave {ended!r}"
            if not ended:
                assert it.state() is not ConnectionState.CLOSED, "it was done all the same"
                raise SkipTest("this kind of connection can't be closed without waiting")
            assert lasted < 1.0, f"terminate() took {lasted:.1f} s"
            await Stage(self.backends[0]).until(
                lambda: self.is_closed(it.connection, it.driver), self.bound
            )
            assert it.driver.terminate(it.connection) in (True, False)
            assert it.state() is ConnectionState.CLOSED

        self._alone(body)

    def test_interrupt_ends_soon(self) -> None:
        """``interrupt()`` on an idle connection ends soon; if it returns, all is well."""

        async def body(it: Specimen) -> None:
            start = time.monotonic()
            try:
                await settled(it.driver.interrupt(it.connection))
            except Exception:
                assert time.monotonic() - start < self.bound
                return
            assert time.monotonic() - start < self.bound
            await settled(self.use(it.connection))

        self._alone(body)
