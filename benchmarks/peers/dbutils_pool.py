"""DBUtils' PooledDB, given a module of the DB-API to connect with."""

from __future__ import annotations

from types import SimpleNamespace

from dbutils.pooled_db import PooledDB

from ..fakes import Connection
from .peer import BlockingPeer, Size


class _Error(Exception):
    pass


def blocking(size: Size) -> BlockingPeer:
    def connect() -> Connection:
        size.sleep()
        return Connection()

    module = SimpleNamespace(
        connect=connect,
        threadsafety=1,
        OperationalError=_Error,
        InterfaceError=_Error,
        InternalError=_Error,
    )
    pool = PooledDB(
        module,
        mincached=size.at_start,
        maxcached=size.keep,
        maxconnections=size.limit,
        blocking=True,
    )

    def explicit(count: int) -> None:
        for _ in range(count):
            pool.connection().close()

    return BlockingPeer(pool.connection, explicit, pool.close)
