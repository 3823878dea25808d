"""What connections were like when they were new, before any connect listener."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeAlias
from weakref import WeakKeyDictionary

from typing_extensions import TypeVar

from .._core.driver import CannotReset

Parameter: TypeAlias = Callable[[str], str | None]
"""Gives what the server reported of itself, by name; None if it never did."""


class Original(Protocol):
    """A connection's Python side, as it was."""

    @property
    def read_only(self) -> bool:
        """Whether the server was not one to write to."""
        ...


OriginalT = TypeVar("OriginalT", bound=Original)


class Originals(Generic[OriginalT]):
    """Keeps them. A full reset goes back to these, as the listeners are called after it."""

    def __init__(self) -> None:
        self._noted: WeakKeyDictionary[object, OriginalT] = WeakKeyDictionary()

    def note(self, connection: object, original: OriginalT) -> None:
        """Keep it, unless there is one already."""
        self._noted.setdefault(connection, original)

    def of(self, connection: object) -> OriginalT:
        """Return it.

        Raises:
            CannotReset: it is not known.
        """
        original = self._noted.get(connection)
        if original is None:
            raise CannotReset
        return original

    def is_demoted(self, connection: object, parameter: Parameter) -> bool:
        """Tell whether a server that refused to write (SQLSTATE 25006) is a standby."""
        original = self._noted.get(connection)
        return is_read_only(parameter, original is not None and original.read_only)


def is_read_only(parameter: Parameter, from_the_start: bool = True) -> bool:
    """Tell whether PostgreSQL can't be written to, by what it reports of itself.

    The same error comes of a transaction that its user began as READ ONLY. What tells them
    apart is reported since PostgreSQL 14.

    Args:
        parameter: gives what the server reported last.
        from_the_start: whether the session's default was to be read-only when the
            connection was new. If it became so later, that was its user's wish.
    """
    standby = parameter("in_hot_standby")
    if standby is None or standby == "on":
        # Where the server is older, or a pooler in between, a standby can't be excluded.
        return True
    return from_the_start and parameter("default_transaction_read_only") == "on"
