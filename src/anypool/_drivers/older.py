"""Drivers written for the protocol as it was first: ``needs_reset``, and no ``state``."""

from __future__ import annotations

from typing import Any

from .._core.driver import CLEAN, CLOSED, OPEN, ConnectionState, Driver


class OlderDriver:
    """Makes a driver without ``state`` and ``baseline`` fit today's protocol."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def baseline(self, connection: Any, /) -> Any:
        self._driver.needs_reset(connection)  # it may begin to watch the connection

    def holds_data(self, connection: Any, /) -> bool:
        return False

    def state(self, connection: Any, baseline: Any, /) -> ConnectionState:
        if not self._driver.is_open(connection):
            return CLOSED
        return OPEN if self._driver.needs_reset(connection) else CLEAN

    def restore(self, connection: Any, baseline: Any, /) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)


def adapted(driver: Driver[Any]) -> Driver[Any]:
    """Return the driver, or what stands for it if it was written for the older protocol."""
    if not hasattr(driver, "state") and hasattr(driver, "needs_reset"):
        adapter: Any = OlderDriver(driver)  # whose other methods are the driver's
        return adapter  # type: ignore[no-any-return]  # the same
    return driver
