"""Hooks: what a driver's author writes for the contract."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import wraps
from typing import Any, ClassVar, Generic, cast
from unittest import SkipTest

from typing_extensions import TypeVar

from anypool import Driver

ConnT = TypeVar("ConnT")
CheckT = TypeVar("CheckT", bound=Callable[..., None])


class Hooks(Generic[ConnT]):
    """A connection, and how to leave it in each state.

    All may be plain methods or coroutine methods; they are called where the connection may
    be used. What isn't overridden is skipped, but for ``connect`` and ``use``.

    Attributes:
        driver: the driver to test. None (the default): what pools choose by themselves.
        backends: the event loops that the connections work in: "asyncio" (the default),
            "trio". For blocking connections, those in which to try them.
        over: whether to test under ``sync.over()`` as well. Default True.
        tells_open: whether ``state()`` tells a connection with an open transaction from one
            without. Default True.
        bound: seconds within which every return has to be over. Default 10.
    """

    driver: ClassVar[Driver[Any] | None] = None
    backends: ClassVar[tuple[str, ...]] = ("asyncio",)
    over: ClassVar[bool] = True
    tells_open: ClassVar[bool] = True
    bound: ClassVar[float] = 10.0

    def connect(self) -> ConnT | Awaitable[ConnT]:
        """Open a connection to a database that all of them share."""
        raise NotImplementedError(f"{type(self).__name__} needs a method connect()")

    def use(self, connection: ConnT, /) -> Any:
        """Do something harmless that fails on a connection which does not work."""
        raise NotImplementedError(f"{type(self).__name__} needs a method use()")

    def make_open(self, connection: ConnT, mark: int, /) -> Any:
        """Leave a transaction open in which a row with this number was written."""
        raise NotImplementedError

    def is_there(self, connection: ConnT, mark: int, /) -> Any:
        """Tell whether there is a row with this number."""
        raise NotImplementedError

    def make_changed(self, connection: ConnT, /) -> Any:
        """Change what the driver puts back on the client's side, such as autocommit."""
        raise NotImplementedError

    def is_changed(self, connection: ConnT, /) -> Any:
        """Tell whether it is as ``make_changed`` left it."""
        raise NotImplementedError

    def make_busy(self, connection: ConnT, /) -> Any:
        """Leave something under way: an unread result, a statement of another task.

        Returns:
            What its user would still refer to.
        """
        raise NotImplementedError

    def make_two_phase(self, connection: ConnT, /) -> Any:
        """Begin a two-phase transaction; don't prepare it."""
        raise NotImplementedError

    def make_session(self, connection: ConnT, /) -> Any:
        """Set something in the session that outlasts a rollback; leave nothing open."""
        raise NotImplementedError

    def is_session(self, connection: ConnT, /) -> Any:
        """Tell whether that is still set."""
        raise NotImplementedError

    def make_dead(self, connection: ConnT, /) -> Any:
        """Have the server end this connection, and return when it has.

        Don't use the connection for that: nobody on this side may notice.
        """
        raise NotImplementedError

    def make_closed(self, connection: ConnT, /) -> Any:
        """Close the connection, as its user might. Default: ``connection.close()``."""
        closing: Any = connection
        return closing.close()

    def is_closed(self, connection: ConnT, driver: Driver[ConnT], /) -> bool:
        """Tell whether a connection is closed. Default: by the driver's ``is_open``."""
        return not driver.is_open(connection)


def missing(hooks: Hooks[Any], names: Iterable[str]) -> list[str]:
    """Return those of these hooks that are not overridden."""
    kind = type(hooks)
    return [name for name in names if getattr(kind, name) is getattr(Hooks, name)]


def need(hooks: Hooks[Any], *names: str) -> None:
    """Skip a test for which a hook is missing.

    Raises:
        SkipTest: one of these is not overridden.
    """
    for name in missing(hooks, names):
        raise SkipTest(f"{type(hooks).__name__} has no {name}()")


def needs(*names: str) -> Callable[[CheckT], CheckT]:
    """Have a test skipped once, and not in every mode, where one of these is missing."""

    def decorate(test: CheckT) -> CheckT:
        @wraps(test)
        def run(self: Hooks[Any], *args: Any, **kwargs: Any) -> None:
            need(self, *names)
            test(self, *args, **kwargs)

        run.needs = names  # type: ignore[attr-defined]  # for pytest_generate_tests()
        return cast("CheckT", run)

    return decorate
