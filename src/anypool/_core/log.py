"""PoolLog: what a pool says, and to whom.

Nothing here ever formats a connection, a creator argument or the text of a driver's
error: each could carry a password or a DSN. Connections are named by class and number,
errors by their class.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, TypeAlias

Echo: TypeAlias = bool | Literal["debug"] | None


class PoolLog:
    """Writes to the logger ``anypool.pool.<Class>`` (``.<name>``).

    ``echo`` lets one pool speak regardless of the logger's level: records go straight to
    the handlers, so that other pools of the same logger stay as they are.
    """

    def __init__(self, pool_class: str, name: str | None, echo: Echo) -> None:
        suffix = f".{name}" if name else ""
        self.logger = logging.getLogger(f"anypool.pool.{pool_class}{suffix}")
        self._echo_level = {True: logging.INFO, "debug": logging.DEBUG}.get(
            echo or "", logging.CRITICAL + 1
        )
        if echo and not self.logger.hasHandlers():
            logging.getLogger("anypool").addHandler(logging.StreamHandler())

    def enabled(self, level: int) -> bool:
        """Tell whether a message of this level would be seen."""
        return level >= self._echo_level or self.logger.isEnabledFor(level)

    def debug(self, message: str, *args: object) -> None:
        self._write(logging.DEBUG, message, args)

    def info(self, message: str, *args: object) -> None:
        self._write(logging.INFO, message, args)

    def warning(self, message: str, *args: object) -> None:
        self._write(logging.WARNING, message, args)

    def error(self, message: str, *args: object) -> None:
        self._write(logging.ERROR, message, args)

    def exception(self, message: str, error: BaseException, *args: object) -> None:
        """Log an error of the application's own code, with its traceback."""
        self.logger.error(message, *args, exc_info=error)

    def _write(self, level: int, message: str, args: tuple[Any, ...]) -> None:
        if self.logger.isEnabledFor(level):
            self.logger.log(level, message, *args)
        elif level >= self._echo_level:
            self.logger.handle(
                self.logger.makeRecord(
                    self.logger.name, level, __file__, 0, message, args, None
                )
            )
