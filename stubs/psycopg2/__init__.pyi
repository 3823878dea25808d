"""The part of psycopg2 that anypool and its tests use."""

from typing import Any

from . import extensions as extensions

def connect(dsn: str | None = ..., **kwargs: Any) -> extensions.connection: ...

class InterfaceError(Exception): ...
class ProgrammingError(Exception): ...
