"""What aiomysql and asyncmy have in common beyond that: coroutines, and asyncio."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, ClassVar

from .._core.driver import CannotReset
from .._core.resetmode import ResetMode
from . import mysql
from .coroutine import CoroutineDriver
from .mysql_commands import Answers, Baseline, Commands, baseline_of, is_answer, watch


class AsyncCommands(Commands):
    """The same for a coroutine method."""

    async def __call__(self, command: int, sql: bytes | str) -> Any:
        connection: Any = self._connection()
        marks = self._begin(connection, command, sql)
        try:
            answer = await type(connection)._execute_command(connection, command, sql)
            connection.server_status |= marks
        except BaseException as error:
            self._failed(connection, error)
            raise
        return answer


class AsyncAnswers(Answers):
    """The same for a coroutine method."""

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        connection: Any = self._connection()
        connection.server_status |= self._marks
        try:
            answer = await self._method(connection, *args, **kwargs)
        except connection.Error as error:
            self._failed(connection, error)
            raise
        self._done(connection)
        return answer


class AsyncMySQLDriver(CoroutineDriver):
    """Goes by the server's status flags, where these are known for certain.

    Attributes:
        settings: names of the connection's attributes that callers may change.
    """

    settings: ClassVar[tuple[str, ...]]

    def baseline(self, connection: Any, /) -> Baseline:
        return watch(connection, AsyncCommands, AsyncAnswers, self.settings)

    async def reset(self, connection: Any, mode: ResetMode, /) -> None:
        mysql.check_not_prepared(connection)
        for statement in mysql.two_phase_ends(connection):
            with suppress(connection.Error):
                await connection.query(statement)
        if mode != "full":
            await getattr(connection, mode)()
            return
        await connection._execute_command(mysql.COM_RESET_CONNECTION, b"")
        await connection._read_ok_packet()
        self.forget_statements(connection)
        mysql.put_back(connection)
        sql_mode = baseline_of(connection).setting("sql_mode")
        for statement in mysql.session_settings(connection, sql_mode):
            await connection.query(statement)
        mysql.check_database(connection)

    async def restore(self, connection: Any, baseline: Baseline, /) -> None:
        await connection.autocommit(bool(baseline.status))
        connection.autocommit_mode = baseline.autocommit_mode

    async def interrupt(self, connection: Any, /) -> None:
        # Where a statement's caller was cancelled, these drivers have closed the connection
        # there and then, since the answer is still to come. One that another task waits
        # for can't be stopped.
        await asyncio.sleep(0)  # who has been given something to read may do so
        if self.is_waiting(connection) or mysql.is_running(connection):
            raise CannotReset
        await read_rest(connection)

    async def ping(self, connection: Any, /) -> None:
        await connection.ping(reconnect=False)

    async def close(self, connection: Any, /) -> None:
        try:
            # With a goodbye to the server, unless that is busy with something else.
            if not mysql.is_busy(connection):
                await connection.ensure_closed()
        finally:
            mysql.forget_rest(connection)
            connection.close()

    def is_waiting(self, connection: Any, /) -> bool:
        """Tell whether some task waits for the server."""
        raise NotImplementedError

    def forget_statements(self, connection: Any, /) -> None:
        """The server has forgotten all prepared statements."""


async def read_rest(connection: Any) -> None:
    """Read what is left of the rows and results of what was executed last.

    The driver itself would do so before the next command, however many there are.

    Raises:
        CannotReset: that takes too long.
    """
    try:
        async with asyncio.timeout(mysql.REST_TIMEOUT):
            while mysql.has_rest(connection):
                result = connection._result
                if result.unbuffered_active:
                    await result._finish_unbuffered_query()
                else:
                    await connection.next_result()
    except TimeoutError:
        raise CannotReset from None
    except connection.Error as error:
        if not is_answer(error):
            raise
