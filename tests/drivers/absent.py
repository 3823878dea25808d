"""Drivers that can't be had for the interpreter that runs the tests.

Only a free-threaded one goes without. Elsewhere a driver that is missing is an error.
"""

from __future__ import annotations

import sys
import sysconfig
from importlib import import_module
from importlib.util import find_spec
from typing import Any

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

# Importing it would turn the GIL on for all tests that follow.
NEED_GIL = ("duckdb",)


def reason(driver: str) -> str | None:
    """Say why there is no such driver here; None: there is."""
    if FREE_THREADED and find_spec(driver) is None:
        return f"{driver} is not installed here, and needn't be without the GIL"
    if driver in NEED_GIL and FREE_THREADED and not _is_gil_enabled():
        return f"{driver} would turn the GIL on"
    return None


def module_of(name: str) -> Any:
    """Import a driver, or make what stands for its module where it is absent."""
    driver = name.partition(".")[0]
    return import_module(name) if reason(driver) is None else Absent


def _is_gil_enabled() -> bool:
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


class _Anything(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent


class Absent(Exception, metaclass=_Anything):
    """Stands for the module and all that is in it: functions, types and errors."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args)

    def __getattr__(self, name: str) -> Any:
        return Absent
