from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

class SQLiteConnectionPool:
    def __init__(
        self,
        connection_factory: Callable[[], Awaitable[Any]],
        pool_size: int | None = 5,
        acquisition_timeout: int | None = 30,
        idle_timeout: int | None = 86400,
        operation_timeout: int | None = 10,
    ) -> None: ...
    def connection(self) -> AbstractAsyncContextManager[Any]: ...
    async def close(self) -> None: ...
