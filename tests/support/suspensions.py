"""Doing something at each suspension of a coroutine in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class AtSuspension:
    """Awaits a coroutine, and strikes when it suspends for the nth time.

    Args:
        work: the coroutine.
        number: which suspension; counted from 1.
        act: called just before the suspension; or None: what the coroutine waits for is
            awaited to its end, and then CancelledError is raised in place of its result,
            as asyncio does when a task is cancelled in the moment before it goes on.

    Attributes:
        count: how many suspensions there were.
        struck: whether there were that many.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, None],
        number: int,
        act: Callable[[], object] | None,
    ) -> None:
        self.count = 0
        self.struck = False
        self._work = work
        self._number = number
        self._act = act

    def __await__(self) -> Generator[Any, Any, None]:
        work = self._work
        try:
            trap = work.send(None)
            while True:
                self.count += 1
                now = self.count == self._number
                if now:
                    self.struck = True
                    if self._act is not None:
                        self._act()
                try:
                    answer = yield trap
                    if now and self._act is None:
                        raise asyncio.CancelledError
                except GeneratorExit:
                    work.close()
                    raise
                except BaseException as error:
                    trap = work.throw(error)
                else:
                    # No reference to the answer is kept: trio's may be an exception, and
                    # all that its traceback refers to would live on.
                    box = [answer]
                    del answer
                    trap = work.send(box.pop())
        except StopIteration:
            return
