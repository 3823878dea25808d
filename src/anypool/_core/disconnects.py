"""Disconnects: which errors mean that a connection is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic

from typing_extensions import TypeVar

from .errors import DisconnectionError, PoolError
from .log import PoolLog
from .record import ConnectionRecord

ConnT = TypeVar("ConnT")


class Disconnects(Generic[ConnT]):
    """Knows what the application says of errors, and asks the driver for the rest."""

    __slots__ = ("_classes", "_function", "_log")

    def __init__(self, known: Any, log: PoolLog) -> None:
        """Take the option ``is_disconnect``, as it was checked."""
        classes = () if known is None else known
        is_function = not isinstance(classes, (type, tuple))
        self._classes: Any = () if is_function else classes
        self._function: Callable[[Exception, ConnT], bool] | None
        self._function = known if is_function else None
        self._log = log

    def include(self, error: BaseException, record: ConnectionRecord[ConnT]) -> bool:
        """Tell whether an error means that a slot's connection is lost.

        Args:
            error: no group of errors.
            record: the slot.
        """
        connection = record.connection
        if connection is None or _is_of_pool(error):
            return False
        return self._says(error, connection) or record._driver.is_disconnect(
            error, connection
        )

    def _says(self, error: BaseException, connection: ConnT) -> bool:
        """Tell what the application says."""
        if not isinstance(error, Exception):
            return False
        if self._function is None:
            return isinstance(error, self._classes)
        try:
            return bool(self._function(error, connection))
        except Exception as failure:
            self._log.exception("The option is_disconnect failed", failure)
            return False


def _is_of_pool(error: BaseException) -> bool:
    """Tell whether it is a pool's own, as that of a nested checkout: no connection's."""
    return isinstance(error, PoolError) and not isinstance(error, DisconnectionError)
