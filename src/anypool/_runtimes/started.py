"""Started: a coroutine whose first step has been taken."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any


class Started:
    """Awaits a coroutine from its second step on.

    Taking the first step by hand shows whether there is anything to wait for at all; most
    of what a pool does on return finishes there.

    Args:
        work: a coroutine, or another awaitable's iterator.
        trap: what the first step yielded, meant for the event loop.
    """

    def __init__(self, work: Any, trap: Any) -> None:
        self._work = work
        self._trap = trap

    def __await__(self) -> Generator[Any, Any, None]:
        work, trap = self._work, self._trap
        try:
            while True:
                try:
                    answer = yield trap
                except GeneratorExit:
                    work.close()
                    raise
                except BaseException as error:
                    trap = work.throw(error)
                else:
                    trap = work.send(answer)
        except StopIteration:
            return


