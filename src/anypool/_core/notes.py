"""Notes: what an application notes of a connection, and in front of the driver's own."""

from __future__ import annotations

from typing import Any
from weakref import ref


class Notes(dict[Any, Any]):
    """The ``info`` of a record and its leases.

    Some drivers' connections have an ``info`` themselves, which that of a lease hides:
    psycopg's and psycopg2's say there what the server is, and what the session does. So
    that whoever takes a lease for a connection finds this, attributes that a dictionary
    lacks are those of the connection's ``info``.
    """

    __slots__ = ("_record",)

    def __init__(self, record: Any) -> None:
        super().__init__()
        self._record = ref(record)  # weak: the record is not to wait for the collector

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            record = self._record()
            info = getattr(record and record.connection, "info", None)
            if info is not None:
                return getattr(info, name)
        raise AttributeError(f"neither notes nor the connection's info have {name!r}")
