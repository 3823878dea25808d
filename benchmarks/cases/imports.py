"""What importing costs, each time in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

from ..measure import summarize
from ..result import OURS, Row
from .options import Options

CASE = "import"

# Already imported by most programs: not to be counted for the one that comes first.
_COMMON = "asyncio, dataclasses, inspect, logging, threading, typing, weakref"

_MODULES = {
    OURS: "anypool",
    f"{OURS}.sync": "anypool.sync",
    # With those of its modules that any use of it loads.
    "anyio": "anyio, anyio.from_thread, anyio.lowlevel, anyio.to_thread",
    "SQLAlchemy": "sqlalchemy.pool",
    "psycopg_pool": "psycopg_pool",
    "asyncpg": "asyncpg",
    "DBUtils": "dbutils.pooled_db",
    "aiosqlitepool": "aiosqlitepool",
    "generic-connection-pool": "generic_connection_pool.asyncio",
}

_SCRIPT = f"""
import {_COMMON}, sys, time
start = time.perf_counter()
import {{module}}
print(time.perf_counter() - start)
"""


def measure(options: Options) -> list[Row]:
    """Measure ours, anyio by itself, and the others."""
    modules = {
        name: module
        for name, module in _MODULES.items()
        if find_spec(module.partition(",")[0].partition(".")[0])
    }
    for module in modules.values():
        _import_time(module)
    samples: dict[str, list[float]] = {name: [] for name in modules}
    for _ in range(max(2, options.effort.rounds // 2)):
        for name, module in modules.items():
            samples[name].append(_import_time(module))
    return [
        Row(
            CASE,
            "process",
            name,
            summary.median / 1000,
            summary.low / 1000,
            summary.high / 1000,
            summary.ratio,
            unit="ms",
        )
        for name, summary in summarize(samples, OURS).items()
    ]


def _import_time(module: str) -> float:
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(module=module)],
        check=True,
        capture_output=True,
        text=True,
        # As installed: compiled. Without this, each import might compile all of it anew.
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""},
    )
    return float(run.stdout)
