"""One caller, connections to spare: what a cycle costs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import anypool
from anypool import sync

from ..fakes import AsyncConnection, Connection
from ..loops import event_loops, run
from ..measure import CPU_TIME, Contest
from ..peers import ours
from ..peers.peer import AsyncPeer, BlockingPeer, Size
from ..peers.registry import async_peers, blocking_peers
from ..result import OURS, Row, rows
from .options import Options

BLOCK = "cycle, with block"
EXPLICIT = "cycle, two calls"
VARIANTS = "cycle, variants"
HEARD = "anypool, one listener of each kind"


class _Listener:
    """Listens to everything and does nothing."""

    def connect(self, connection: object, record: object) -> None: ...
    def checkout(self, connection: object, record: object, lease: object) -> None: ...
    def checkin(self, connection: object, record: object) -> None: ...


def measure(options: Options) -> list[Row]:
    """Measure all of them, in threads and on every event loop."""
    found = [*_blocking(options), *_blocking_variants(options)]
    for loop in event_loops():
        found += run(loop, _async, options, loop)
        found += run(loop, _async_variants, options, loop)
    return found


def _blocking(options: Options) -> list[Row]:
    peers = {name: make(Size()) for name, make in blocking_peers().items()}
    blocks = {name: peer.run for name, peer in peers.items()}
    calls = {name: peer.explicit for name, peer in peers.items() if peer.explicit}
    found = _contest(BLOCK, blocks, options) + _contest(EXPLICIT, calls, options)
    for peer in peers.values():
        peer.close()
    return found


def _contest(
    case: str, candidates: Mapping[str, Callable[[int], None]], options: Options
) -> list[Row]:
    contest = Contest(list(candidates), options.effort, clock=CPU_TIME)
    for turn in contest.turns():
        with turn:
            candidates[turn.name](turn.count)
    return rows(case, "threads", contest.summaries())


async def _async(options: Options, loop: str) -> list[Row]:
    peers = {name: await make(Size()) for name, make in async_peers(loop).items()}
    blocks = {name: peer.run for name, peer in peers.items()}
    calls = {name: peer.explicit for name, peer in peers.items() if peer.explicit}
    found = await _async_contest(BLOCK, loop, blocks, options)
    found += await _async_contest(EXPLICIT, loop, calls, options)
    for peer in peers.values():
        await peer.close()
    return found


async def _async_contest(
    case: str,
    loop: str,
    candidates: Mapping[str, Callable[[int], Awaitable[None]]],
    options: Options,
) -> list[Row]:
    contest = Contest(list(candidates), options.effort, clock=CPU_TIME)
    for turn in contest.turns():
        with turn:
            await candidates[turn.name](turn.count)
    return rows(case, loop, contest.summaries())


def _blocking_variants(options: Options) -> list[Row]:
    plain = ours.sync_pool(Size())
    heard: sync.QueuePool[Connection] = sync.QueuePool(Connection, listeners=[_Listener()])
    nested = ours.sync_pool(Size())
    unshared: sync.QueuePool[Connection] = sync.QueuePool(Connection, use_threadlocal=False)
    with nested.connect():
        return _contest(
            VARIANTS,
            {
                OURS: BlockingPeer(plain.connect).run,
                "anypool, nested": BlockingPeer(nested.connect).run,
                "anypool, unique_connection()": BlockingPeer(plain.unique_connection).run,
                "anypool, use_threadlocal=False": BlockingPeer(unshared.connect).run,
                HEARD: BlockingPeer(heard.connect).run,
            },
            options,
        )


async def _async_variants(options: Options, loop: str) -> list[Row]:
    async def create() -> AsyncConnection:
        return AsyncConnection()

    plain = ours.pool(Size())
    heard = anypool.QueuePool(create, listeners=[_Listener()])
    nested = ours.pool(Size())
    unshared = anypool.QueuePool(create, use_threadlocal=False)
    async with nested.connect():
        return await _async_contest(
            VARIANTS,
            loop,
            {
                OURS: AsyncPeer(plain.connect).run,
                "anypool, nested": AsyncPeer(nested.connect).run,
                "anypool, unique_connection()": AsyncPeer(plain.unique_connection).run,
                "anypool, use_threadlocal=False": AsyncPeer(unshared.connect).run,
                HEARD: AsyncPeer(heard.connect).run,
            },
            options,
        )
