"""DuckDB."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..._core.url import DatabaseURL
from .arguments import typed


def creator(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> partial[Any]:
    arguments = typed(url.arguments, {"read_only": bool}, "duckdb.connect()")
    return partial(module.connect, url.database or ":memory:", **arguments | connect_args)
