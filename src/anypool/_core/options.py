"""The options that pools take, and their checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction
from typing import Any, Final, Generic, Literal, TypeAlias, TypedDict

from typing_extensions import TypeVar

from .driver import Driver
from .listeners import Listener
from .log import Echo
from .resetmode import ResetMode

ConnT = TypeVar("ConnT")
LeaseT = TypeVar("LeaseT")

DisconnectScope: TypeAlias = Literal["connection", "pool"]
"""What is given up after an error that means a lost connection."""

POOL_DEFAULT: Final = -1.0
"""Stands for "the pool's own timeout" in connect()."""


class PoolOptions(TypedDict, Generic[ConnT, LeaseT], total=False):
    """Options of every pool."""

    recycle: float
    """Age in seconds from which a connection is replaced at checkout, and in an opened
    pool while it is idle; -1 (the default): never."""
    recycle_jitter: float | None
    """Up to how many seconds earlier than `recycle` a connection is replaced, at random, so
    that those that were opened together don't go together. Default None: a tenth of
    `recycle` in an opened pool, 0 in others."""
    pre_ping: bool | float
    """Whether to make a round trip to the server before a connection is handed out, and to
    replace it if that fails: True: always; a number: after as many seconds of idling.
    Default False."""
    echo: Echo
    """True logs what the pool does, "debug" every checkout and return as well, whatever
    the logger's level. Default None: as the logger is configured."""
    use_threadlocal: bool
    """Whether nested connect() calls of one caller share a connection. Default True."""
    listeners: Iterable[Listener[ConnT, LeaseT]] | None
    """Objects to call at connect, checkout and checkin. Default none."""
    reset_on_return: ResetMode | None
    """What happens to a connection that comes back: "rollback" (the default) or "commit"
    of an open transaction, "full" to undo all that was done to the session (then the
    connect listeners run again), or None for nothing."""
    on_disconnect: DisconnectScope
    """What an error that means a lost connection invalidates: that "connection" (the
    default), or all connections of the "pool" that are not newer, as after a failover."""
    is_disconnect: (
        type[Exception]
        | tuple[type[Exception], ...]
        | Callable[[Exception, ConnT], bool]
        | None
    )
    """Which errors mean a lost connection, beside those of which the driver knows it: a
    class of errors, several in a tuple, or a function of an error and the connection. The
    function is called wherever an error leaves a block; it must not block, nor use the
    connection. If it raises, that is logged and counts as False. Default None."""
    use_times: bool
    """Whether to measure for how long connections are checked out, for the statistics. Two
    looks at the clock a cycle; pools that have to do with time (`recycle`, `pre_ping`,
    `max_idle`, `keepalive`) take them anyway. Default False."""
    leak_after: float | None
    """Seconds after which whoever still has a connection is logged, once, with the place of
    the checkout, and counted. Default None: never."""
    slow_checkout: float | None
    """Seconds of waiting from which a checkout is logged, with the cause. Default None."""
    on_deadlock: Literal["wait", "raise"]
    """What happens to a caller whose waiting means that all who have connections wait for
    connections: "raise" a PoolDeadlockError at once, or "wait" for the timeout, since
    somebody else may return one. Default "wait"."""
    driver: Driver[ConnT] | None
    """How to reset, ping and close connections. Default: chosen by their class."""
    name: str | None
    """Added to the name of the pool's logger. Default none."""


class SizedOptions(PoolOptions[ConnT, LeaseT], total=False):
    """Options of pools with a size."""

    pool_size: int
    """How many connections to keep. Default 5."""


class QueuePoolOptions(SizedOptions[ConnT, LeaseT], total=False):
    """Options of QueuePool. A ``pool_size`` of 0 means no limit."""

    max_overflow: int
    """How many more than pool_size may be open at a time; -1: no limit. Default 10."""
    timeout: float | None
    """Seconds that a checkout may take, waiting and connecting included; 0: never wait
    for a free connection; None: wait for ever. Default 30."""
    min_size: int
    """How many connections an opened pool keeps at least. Default 0."""
    max_idle: float | None
    """Seconds after which an opened pool closes an idle connection, if there are more than
    `min_size`. Default None: never."""
    keepalive: float | None
    """Seconds after which an opened pool pings a connection that idles. Default None."""
    max_waiting: int | None
    """How many callers may wait for a free connection; who comes then gets a
    TooManyWaitersError. Default None: no limit."""
    use_lifo: bool
    """Whether the connection that came back last goes out first, so that in quiet times
    the others idle long enough to be closed. Default False: first in, first out."""
    fail_fast: bool
    """Whether opening waits for `min_size` connections, at least one, and raises the first
    connect error: for finding a wrong configuration at the start. Default False."""


BASE_DEFAULTS: dict[str, Any] = {
    "recycle": -1,
    "recycle_jitter": None,
    "pre_ping": False,
    "echo": None,
    "use_threadlocal": True,
    "listeners": None,
    "reset_on_return": "rollback",
    "on_disconnect": "connection",
    "is_disconnect": None,
    "use_times": False,
    "leak_after": None,
    "slow_checkout": None,
    "on_deadlock": "wait",
    "driver": None,
    "name": None,
}


def check_options(pool: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the base options with their defaults filled in, or say what is wrong."""
    for name in options:
        if name not in BASE_DEFAULTS:
            raise TypeError(f"{pool}() has no option {name!r}")
    merged = BASE_DEFAULTS | options
    check_number("recycle", merged["recycle"], minimum=0, never=-1)
    check_seconds("recycle_jitter", merged["recycle_jitter"])
    if not isinstance(merged["pre_ping"], bool):
        check_number("pre_ping", merged["pre_ping"], minimum=0)
    check_choice("echo", merged["echo"], (None, False, True, "debug"))
    check_bool("use_threadlocal", merged["use_threadlocal"])
    check_choice(
        "reset_on_return", merged["reset_on_return"], ("rollback", "commit", "full", None)
    )
    check_choice("on_disconnect", merged["on_disconnect"], ("connection", "pool"))
    check_errors("is_disconnect", merged["is_disconnect"])
    check_bool("use_times", merged["use_times"])
    check_seconds("leak_after", merged["leak_after"])
    check_seconds("slow_checkout", merged["slow_checkout"])
    check_choice("on_deadlock", merged["on_deadlock"], ("wait", "raise"))
    if merged["name"] is not None and not isinstance(merged["name"], str):
        raise TypeError(f"name: expected a string or None, not {_kind(merged['name'])}")
    return merged


def check_creator(creator: object) -> None:
    if not callable(creator):
        raise TypeError(
            f"creator: expected a function that returns a new connection, not "
            f"{_kind(creator)}; write lambda: connect(...)"
        )


def check_made(connection: object) -> None:
    if connection is None:
        raise TypeError(
            "creator: expected it to return a new connection, not None; is there a "
            "return statement?"
        )


def check_number(
    name: str, value: object, *, minimum: float, never: float | None = None
) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, not {_kind(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name}: expected a number that fits a float") from None
    if math.isnan(number) or (number < minimum and number != never):
        alternative = "" if never is None else f", or {never} for never"
        raise ValueError(f"{name}: expected {minimum} or more{alternative}, not {value}")


def check_count(name: str, value: object, *, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected a whole number, not {_kind(value)}")
    if value < minimum:
        raise ValueError(f"{name}: expected {minimum} or more, not {value}")


def check_seconds(name: str, value: object) -> None:
    if value is not None:
        check_number(name, value, minimum=0)


def check_timeout(value: object) -> None:
    check_seconds("timeout", value)


def check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, not {_kind(value)}")


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if not any(value is choice or value == choice for choice in choices) or (
        isinstance(value, int) and not isinstance(value, bool)
    ):
        expected = ", ".join(repr(choice) for choice in choices)
        kind = "another string" if isinstance(value, str) else _kind(value)
        raise ValueError(f"{name}: expected one of {expected}, not {kind}")


def check_errors(name: str, value: object) -> None:
    """Check what tells errors apart: None, classes, or a function."""
    if iscoroutinefunction(value):
        raise TypeError(f"{name}: expected a plain function, not a coroutine function")
    if value is None or (callable(value) and not isinstance(value, type)):
        return
    for each in value if isinstance(value, tuple) else (value,):
        if not isinstance(each, type):
            raise TypeError(
                f"{name}: expected error classes, or a function of error and connection, "
                f"not {_kind(each)}"
            )
        if not issubclass(each, Exception):
            raise TypeError(
                f"{name}: expected classes of Exception, not {each.__qualname__}"
            )


def _kind(value: object) -> str:
    # The type only: a value could be a secret in the wrong place.
    return f"a {type(value).__qualname__}"
