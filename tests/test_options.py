"""Options: what they do, and what is said about wrong ones."""

from __future__ import annotations

import copy
import logging
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

import anypool

from .support.modes import Mode


async def _coroutine_function(error: Exception, connection: object) -> bool:
    raise NotImplementedError


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"pool_size": -1}, ValueError, "pool_size: expected 0 or more, not -1"),
    ({"pool_size": "5"}, TypeError, "pool_size: expected a whole number, not a str"),
    ({"pool_size": True}, TypeError, "pool_size: expected a whole number, not a bool"),
    ({"max_overflow": -2}, ValueError, "max_overflow: expected -1 or more, not -2"),
    ({"timeout": -1}, ValueError, "timeout: expected 0 or more, not -1"),
    ({"timeout": "1"}, TypeError, "timeout: expected a number, not a str"),
    ({"timeout": float("nan")}, ValueError, "timeout: expected 0 or more, not nan"),
    ({"recycle": -2}, ValueError, "recycle: expected 0 or more, or -1 for never, not -2"),
    ({"recycle": None}, TypeError, "recycle: expected a number, not a NoneType"),
    ({"echo": "loud"}, ValueError, "echo: expected one of None, False, True, 'debug', not"),
    (
        {"use_threadlocal": 1},
        TypeError,
        "use_threadlocal: expected True or False, not a int",
    ),
    ({"reset_on_return": "x"}, ValueError, "reset_on_return: expected one of 'rollback'"),
    ({"reset_on_return": 0}, ValueError, "reset_on_return: expected one of 'rollback'"),
    ({"name": 7}, TypeError, "name: expected a string or None, not a int"),
    ({"listeners": [7]}, TypeError, "listeners: a int has none of the methods"),
    (
        {"is_disconnect": "40001"},
        TypeError,
        "is_disconnect: expected error classes, or a function of error and connection, not "
        "a str",
    ),
    ({"is_disconnect": [OSError]}, TypeError, "is_disconnect: expected error classes, or"),
    ({"is_disconnect": (OSError, "x")}, TypeError, "is_disconnect: expected error classes"),
    (
        {"is_disconnect": int},
        TypeError,
        "is_disconnect: expected classes of Exception, not",
    ),
    (
        {"is_disconnect": (OSError, KeyboardInterrupt)},
        TypeError,
        "is_disconnect: expected classes of Exception, not KeyboardInterrupt",
    ),
    (
        {"is_disconnect": _coroutine_function},
        TypeError,
        "is_disconnect: expected a plain function, not a coroutine function",
    ),
    ({"pool_sise": 7}, TypeError, "QueuePool() has no option 'pool_sise'"),
]


@pytest.mark.parametrize(("options", "error", "message"), WRONG)
def test_wrong_options_are_named(
    mode: Mode, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        mode.pool(**options)


@pytest.mark.parametrize("name", ["timeout", "recycle", "pre_ping", "keepalive"])
def test_number_that_no_clock_knows(mode: Mode, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected a number that fits a float"):
        mode.pool(**{name: 10**400})


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
async def test_neither_copied_nor_pickled(mode: Mode, how: Callable[[Any], Any]) -> None:
    """A copy that ends would close what the original has."""
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    for thing in (pool, lease):
        with pytest.raises(TypeError, match="can't be copied or pickled"):
            how(thing)
    await mode.go(lease.close())
    assert pool.checkedin() == 1
    await mode.go(pool.close())


def test_creator_must_be_a_function(mode: Mode) -> None:
    """A common slip, and the message must not show what may be a DSN."""
    with pytest.raises(TypeError, match="creator: expected a function") as info:
        mode.pools.QueuePool("host=h password=SECRET")
    assert "SECRET" not in str(info.value)


@pytest.mark.parametrize(
    "kind", ["QueuePool", "NullPool", "StaticPool", "AssertionPool", "Singleton"]
)
async def test_creator_must_return_something(mode: Mode, kind: str) -> None:
    """A return that was forgotten is an error, and takes no slot away."""
    connect = mode.world.connect

    def forgetful() -> None:
        pass

    async def forgetful_async() -> None:
        pass

    async def connect_async() -> Any:
        return await connect()

    forgets = True

    def create() -> Any:
        if mode.world.coroutine:
            return forgetful_async() if forgets else connect_async()
        return forgetful() if forgets else connect()

    pool = mode.pool(kind, creator=create)
    for _ in range(2):
        with pytest.raises(TypeError, match="creator: expected it to return a new"):
            await mode.go(pool.connect(timeout=1))
    forgets = False
    async with mode.block(pool.connect()) as connection:
        assert connection.number == 1
    assert pool.stats().failed == 2
    assert pool.stats().opened == 1
    await mode.go(pool.dispose())


async def test_wrong_timeout_of_a_checkout(mode: Mode) -> None:
    pool = mode.pool()
    with pytest.raises(ValueError, match="timeout: expected 0 or more"):
        await mode.go(pool.connect(timeout=-2))
    with pytest.raises(TypeError, match="timeout: expected a number"):
        await mode.go(pool.unique_connection(timeout="soon"))


async def test_recycle_replaces_old_connections_at_checkout(mode: Mode) -> None:
    pool = mode.pool(recycle=60)
    async with mode.block(pool.connect()):
        pass
    runtime = getattr(pool, "async_pool", pool)._runtime
    read = runtime.now
    runtime.now = lambda: read() + 59
    async with mode.block(pool.connect()) as conn:
        assert conn.number == 1
    runtime.now = lambda: read() + 61
    lease = await mode.go(pool.connect())
    lease.info["note"] = 1
    assert lease.connection.number == 2
    await mode.go(lease.close())
    assert mode.world.open == [2]
    runtime.now = lambda: read() + 150
    lease = await mode.go(pool.connect())
    assert lease.info == {}  # lives as long as the driver's connection
    await mode.go(lease.close())


@pytest.mark.parametrize(("reset", "done"), [("rollback", 1), ("commit", 1), (None, 0)])
async def test_reset_on_return(mode: Mode, reset: Any, done: int) -> None:
    pool = mode.pool(reset_on_return=reset)
    async with mode.block(pool.connect()):
        pass
    assert mode.world.count("rollback") == (done if reset == "rollback" else 0)
    assert mode.world.count("commit") == (done if reset == "commit" else 0)


async def test_log_at_debug_tells_all_but_secrets(
    mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything that happens is in the log, and no repr of a connection, which may show
    a password, nor the text of a driver's error."""
    caplog.set_level(logging.DEBUG, logger="anypool")
    pool = mode.pool(name="main", recycle=0)
    async with mode.block(pool.connect()):
        pass
    lease = await mode.go(pool.connect())
    mode.world.fail["close"] = OSError("password=SECRET")
    await mode.go(lease.invalidate(OSError("password=SECRET")))
    mode.world.fail["connect"] = OSError("password=SECRET")
    with pytest.raises(OSError, match="SECRET"):
        await mode.go(pool.connect())
    await mode.go(pool.dispose())
    text = caplog.text
    for part in (
        "Created new connection <",
        "checked out",
        "returned",
        "exceeded its age; recycling",
        "Invalidate connection <",
        "(reason: OSError)",
        "Error on close: OSError",
        "Error on connect: OSError",
        "Pool disposed.",
    ):
        assert part in text, part
    assert "SECRET" not in text
    assert {record.name for record in caplog.records} == {"anypool.pool.QueuePool.main"}


async def test_silence_by_default(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    pool = mode.pool()
    async with mode.block(pool.connect()):
        pass
    assert caplog.records == []


@pytest.mark.parametrize(("echo", "checkouts"), [(True, False), ("debug", True)])
async def test_echo_speaks_whatever_the_level(
    mode: Mode, caplog: pytest.LogCaptureFixture, echo: Any, checkouts: bool
) -> None:
    """One pool speaks; others of the same logger stay silent."""
    pool, other = mode.pool(echo=echo), mode.pool()
    async with mode.block(pool.connect()):
        assert "Created new connection" in caplog.text
        assert ("checked out" in caplog.text) is checkouts
    heard = len(caplog.records)
    async with mode.block(other.connect()):
        assert len(caplog.records) == heard


async def test_reprs_show_no_secrets(mode: Mode) -> None:
    pool = mode.pool()
    lease = await mode.go(pool.connect())
    for thing in (pool, lease, getattr(pool, "async_pool", pool)):
        assert "SECRET" not in repr(thing)
    assert "checkedout" not in repr(lease)
    await mode.go(lease.detach())
    assert "detached" in repr(lease)
    await mode.go(lease.close())
    assert "closed" in repr(lease)


async def test_status(mode: Mode) -> None:
    pool = mode.pool()
    async with mode.block(pool.connect()):
        assert pool.status() == (
            "Pool size: 5 Connections in pool: 0 Current Overflow: -4 "
            "Current Checked out connections: 1"
        )


def test_errors_are_one_family() -> None:
    for error in (
        anypool.PoolTimeoutError,
        anypool.PoolClosedError,
        anypool.InvalidRequestError,
        anypool.DisconnectionError,
    ):
        assert issubclass(error, anypool.PoolError)
    assert issubclass(anypool.PoolTimeoutError, TimeoutError)


@pytest.mark.parametrize("configured", [False, True])
def test_echo_is_heard_without_any_configuration(
    configured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a handler of its own, unless the program has one."""
    added: list[logging.Handler] = []
    monkeypatch.setattr(logging.Logger, "addHandler", lambda _, each: added.append(each))
    monkeypatch.setattr(logging.Logger, "hasHandlers", lambda _: configured)
    mode = Mode("blocking")
    mode.pool()
    assert not added
    mode.pool(echo=True)
    assert [type(each) for each in added] == ([] if configured else [logging.StreamHandler])
