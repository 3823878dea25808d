"""The contract kit finds fault with drivers that have faults, and with the right test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest

import anypool
import anypool.testing
from anypool import ConnectionState

from .toy import Toy, ToyContract, ToyDriver


class Forgetful(ToyDriver):
    def reset(self, connection: Toy, mode: Any, /) -> None:
        pass


class Commits(ToyDriver):
    def reset(self, connection: Toy, mode: Any, /) -> None:
        connection.commit()


class Blind(ToyDriver):
    def state(self, connection: Toy, baseline: Any, /) -> ConnectionState:
        return ConnectionState.CLEAN


class Alarmist(ToyDriver):
    def state(self, connection: Toy, baseline: Any, /) -> ConnectionState:
        return ConnectionState.OPEN


class Asking(ToyDriver):
    def state(self, connection: Toy, baseline: Any, /) -> ConnectionState:
        time.sleep(0.11)  # as long as a round trip can be
        return super().state(connection, baseline)


class Undoes(ToyDriver):
    def restore(self, connection: Toy, baseline: Any, /) -> None:
        pass


class Keeps(ToyDriver):
    def close(self, connection: Toy, /) -> None:
        pass


class Slow(ToyDriver):
    def reset(self, connection: Toy, mode: Any, /) -> None:
        time.sleep(0.3)  # longer than the bound
        super().reset(connection, mode)


class Reassuring(ToyDriver):
    def ping(self, connection: Toy, /) -> None:
        pass

    def is_disconnect(self, error: BaseException, connection: Toy, /) -> bool:
        return False


class Nervous(ToyDriver):
    def is_disconnect(self, error: BaseException, connection: Toy, /) -> bool:
        return True


class Writes(ToyDriver):
    def ping(self, connection: Toy, /) -> None:
        connection.cursor().execute("INSERT INTO t VALUES (-1)")


class Awaits(ToyDriver):
    def terminate(self, connection: Toy, /) -> bool:
        connection.close()
        answer: Any = "later"
        return answer  # type: ignore[no-any-return]  # the fault


class Refuses(ToyDriver):
    def terminate(self, connection: Toy, /) -> bool:
        connection.close()
        return False


FAULTS: list[tuple[type[ToyDriver], str, tuple[Any, ...], str]] = [
    (Forgetful, "test_open", ("blocking", "rollback"), "connection is open"),
    (Forgetful, "test_open", ("asyncio", "commit"), "connection is open"),
    (Forgetful, "test_reset_ends_transaction", (), "says open"),
    (Commits, "test_open", ("over", "rollback"), "not rolled back"),
    (Commits, "test_reset_ends_transaction", (), "the row is wrong"),
    (Blind, "test_tells_state", ("open",), "left open: .* clean"),
    (Blind, "test_tells_state", ("busy",), "left busy: .* clean"),
    (Blind, "test_tells_state", ("closed",), "left closed: .* clean"),
    (Blind, "test_open", ("blocking", "rollback"), "not rolled back"),
    (Blind, "test_closed", ("blocking", "rollback"), "handed on"),
    (Alarmist, "test_tells_state", ("clean",), "left clean: .* open"),
    (Alarmist, "test_clean", ("asyncio", "rollback"), "connection is open"),
    (Asking, "test_tells_state", ("clean",), "round trip"),
    (Blind, "test_changed", ("blocking", "rollback"), "not put back"),
    (Undoes, "test_restore_puts_back", (), "changed"),
    (Keeps, "test_close", (), "leaves it open"),
    (Keeps, "test_clean", ("blocking", "rollback"), "did not happen"),
    (Slow, "test_open", ("blocking", "rollback"), "the return took"),
    (Slow, "test_open", ("asyncio", "rollback"), "the return took"),
    (Reassuring, "test_ping_tells_dead_connection", (), "alive"),
    (Reassuring, "test_tells_lost_connection", (), "says False"),
    (Reassuring, "test_dead_while_idle", ("blocking", None), "handed on"),
    (Nervous, "test_tells_lost_connection", (), "says True"),
    (Writes, "test_ping_leaves_nothing_open", (), "open"),
    (Awaits, "test_terminate", (), "gave 'later'"),
    (Refuses, "test_terminate", (), "done all the same"),
]


@pytest.fixture
def contract(tmp_path: Path) -> Iterator[Callable[[ToyDriver], ToyContract]]:
    made: list[Toy] = []

    class Contract(ToyContract):
        bound = 0.2

        def connect(self) -> Toy:
            made.append(super().connect())
            return made[-1]

    def make(driver: ToyDriver) -> ToyContract:
        kind = type("Contract", (Contract,), {"driver": driver})
        contract: ToyContract = kind()
        contract.make_file(tmp_path)
        return contract

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("driver", "test", "args", "message"),
    FAULTS,
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_fault_is_found(
    contract: Callable[[ToyDriver], ToyContract],
    driver: type[ToyDriver],
    test: str,
    args: tuple[Any, ...],
    message: str,
) -> None:
    with pytest.raises(AssertionError, match=message):
        getattr(contract(driver()), test)(*args)


def test_pools_choice_is_looked_at_as_well(
    contract: Callable[[Any], ToyContract], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anypool._drivers.registry._registered", {})
    anypool.register_driver(Toy, Forgetful())
    with pytest.raises(AssertionError, match="connection is open"):
        contract(None).test_open("blocking", "rollback")


@pytest.mark.parametrize("missing", ["make_open", "make_busy", "make_dead"])
def test_missing_hook_is_a_reason_to_skip(tmp_path: Path, missing: str) -> None:
    hook = getattr(anypool.testing.DriverContract, missing)
    contract = type("Without", (ToyContract,), {missing: hook})()
    test = "test_dead" if missing == "make_dead" else missing.replace("make_", "test_")
    with pytest.raises(SkipTest, match=rf"Without has no {missing}\(\)"):
        getattr(contract, test)("blocking", "rollback")


@pytest.mark.parametrize("name", ["connect", "use"])
def test_hook_that_everybody_needs(tmp_path: Path, name: str) -> None:
    hook = getattr(anypool.testing.DriverContract, name)
    contract = type("Without", (ToyContract,), {name: hook, "driver": ToyDriver()})()
    contract.make_file(tmp_path)
    with pytest.raises((NotImplementedError, AssertionError)) as caught:
        contract.test_clean("blocking", "rollback")
    assert f"Without needs a method {name}()" in repr(
        [caught.value, caught.value.__cause__]
    )
