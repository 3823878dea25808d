"""Suspects: connections of unknown drivers from which an error came.

Such a driver's errors don't say for certain whether the connection is lost; nor does its
rollback(), which may well do nothing. So the next reset takes a closer look.
"""

from __future__ import annotations

from .._core.driver import CannotReset
from .losses import is_network_error, is_of_driver

# PEP 249: errors that tell of data and statements.
_HARMLESS = {"IntegrityError", "DataError", "NotSupportedError"}


class Suspects:
    """Notes which connections are suspect, until they are cleared or closed."""

    def __init__(self) -> None:
        # By identity: not all connections can be hashed or weakly referenced. What is
        # left here by mistake costs another connection a closer look, and no more.
        # With each, whether it was cut short. Drivers look by themselves whether there is
        # any at all: calls cost more than the reset of a connection that does nothing.
        self.listed: dict[int, bool] = {}

    def note(self, error: BaseException, connection: object) -> None:
        """Look at an error that left the block of a connection."""
        if isinstance(error, TimeoutError):
            # Perhaps in the middle of an answer, which the next caller must not get.
            self.listed[id(connection)] = True
        elif _is_suspicious(error, connection):
            self.listed.setdefault(id(connection), False)

    def is_suspect(self, connection: object) -> bool:
        return id(connection) in self.listed

    def clear(self, connection: object) -> bool:
        """Take a connection off the list; tell whether it is to be pinged.

        Raises:
            CannotReset: not even that would say enough.
        """
        cut_short = self.listed.pop(id(connection), None)
        if cut_short:
            raise CannotReset
        return cut_short is not None

    def forget(self, connection: object) -> None:
        self.listed.pop(id(connection), None)


def _is_suspicious(error: BaseException, connection: object) -> bool:
    names = {base.__name__ for base in type(error).__mro__}
    if names & _HARMLESS:
        return False
    # A wrapper's errors may be those of the package that it wraps: then it is the class
    # that all errors of PEP 249 have above them.
    if isinstance(error, OSError) or is_network_error(error) or "Error" in names:
        return True
    return is_of_driver(error, connection)
