"""Job: work on a slot that goes on when its caller has been cancelled."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
from anyio import CancelScope

from .background import Background


class Job:
    """Runs work in a task of its own.

    Attributes:
        done: whether the work has ended.
        afterwards: called when the work has ended, if its caller left before that.
    """

    def __init__(self, background: Background, work: Coroutine[Any, Any, None]) -> None:
        self.done = False
        self.afterwards: Callable[[Job], object] | None = None
        self._background = background
        self._runtime = background.runtime
        self._work = work
        self._begun = False
        self._left = False
        self._gate = self._runtime.gate()
        self._error: BaseException | None = None

    async def run(
        self, *, interrupt: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        """Wait for the work; raises what it raised.

        Args:
            interrupt: stay until the work is done even if cancelled, which is then raised;
                and call this, to have it done soon.
        """
        self._background.spawn(self._run(), self._ended)
        try:
            await self._runtime.wait(self._gate, None)
            if not self._begun:
                await self._runtime.complete(self._work)
        except BaseException:
            self._left = True
            if interrupt is not None and not self.done:
                self._background.spawn(interrupt())
            while interrupt is not None and not self.done:
                # More than one native cancellation may come; asyncio's break any shield.
                with suppress(anyio.get_cancelled_exc_class()), CancelScope(shield=True):
                    await self._runtime.wait(self._gate, None)
            if self.done and not self._begun:
                self._work.close()
            raise
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback holds this job

    def _ended(self) -> None:
        # asyncio.run cancels all tasks in the end, this one included; a task that is
        # cancelled before its first step never gets to its own code.
        if not self._begun and not self.done:
            self.done = True
            self._gate.release()
            if self._left:
                self._work.close()
                self._tell()

    async def _run(self) -> None:
        self._begun = True
        try:
            await self._work
        except anyio.get_cancelled_exc_class() as error:
            self._error = error
            raise
        except BaseException as error:
            self._error = error  # for the caller
        finally:
            self.done = True
            self._gate.release()
            self._tell()

    def _tell(self) -> None:
        if self.afterwards is not None:
            self.afterwards(self)
