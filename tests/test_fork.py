"""Forks, with opened pools that are at work: the child never touches the parent's sockets.

Each script runs in an interpreter of its own, which must end with status 0 and with nothing
on stderr; so must its children. Whoever uses a connection of another process says so there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from anypool import sync
from anypool._core.process import process
from anypool._core.record import ConnectionRecord

from .support.fakes import World
from .test_exit import run

HEAD = """
import multiprocessing, os, time, traceback

class Owned:
    # A connection that knows which process it belongs to.
    def __init__(self):
        self.pid, self.closed = os.getpid(), False
    def use(self, what):
        if self.pid != os.getpid():
            os.write(2, f"{what} in another process\\n".encode())
    def execute(self, statement): self.use("execute")
    def ping(self): self.use("ping")
    def rollback(self): self.use("rollback")
    def close(self): self.use("close"); self.closed = True
    def __del__(self):
        if self.pid != os.getpid():
            os.write(2, b"freed in another process\\n")

class AsyncOwned(Owned):
    async def execute(self, statement): self.use("execute"); await anyio.sleep(0)
    async def ping(self): self.use("ping"); await anyio.sleep(0)
    async def rollback(self): self.use("rollback"); await anyio.sleep(0)
    async def close(self): self.use("close"); self.closed = True
    def terminate(self): self.use("terminate"); self.closed = True

async def async_owned():
    await anyio.sleep(0.001)
    return AsyncOwned()

def check(pid):
    _, status = os.waitpid(pid, 0)
    assert status == 0, status

def in_child(function, *args):
    # Without exec, and without the parent's atexit functions, as gunicorn's workers end.
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        function(*args)
        gc.collect()
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    os._exit(code)

def use_and_close(pool):
    stats = pool.stats()
    assert (stats.size, stats.opened, stats.checkouts) == (0, 0, 0), stats
    threads = [threading.Thread(target=use, args=(pool,)) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert pool.stats().checked_out == 0
    pool.wait(5)
    assert pool.stats().size >= 2
    pool.close()
    left = [t.name for t in threading.enumerate() if t.name.startswith("anypool")]
    assert left in ([], ["anypool exit"]), left
    stats = pool.stats()
    assert sum(stats.closed.values()) == stats.opened, stats

def use(pool):
    for _ in range(5):
        with pool.connect() as conn:
            pool.call(conn.execute, "select 1")
"""
OPTIONS = "pool_size=4, max_overflow=0, min_size=2, pre_ping=True, keepalive=60, recycle=60"
QUIET = ("-W", "ignore::DeprecationWarning", "-W", "error::ResourceWarning")

forks = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


@forks
@pytest.mark.parametrize("creator", ["Owned", "async_owned"])
def test_blocking_pool(creator: str, tmp_path: Path) -> None:
    """Several children at once, forked while a connection is out and others are busy."""
    script = f"""{HEAD}
pool = sync.QueuePool({creator}, {OPTIONS})
pool.open()
pool.wait()
over = threading.Event()
def work():
    while not over.is_set():
        use(pool)
busy = [threading.Thread(target=work, daemon=True) for _ in range(2)]
for thread in busy: thread.start()
with pool.connect() as mine:
    for _ in range(3):
        children = [in_child(use_and_close, pool) for _ in range(2)]
        for child in children: check(child)
    pool.call(mine.execute, "select 1")
over.set()
for thread in busy: thread.join()
pool.close()
print("done")
"""
    run(script, tmp_path, *QUIET)


@forks
@pytest.mark.parametrize("kind", ["QueuePool", "SingletonThreadPool", "StaticPool"])
def test_what_other_threads_have_as_their_own(kind: str, tmp_path: Path) -> None:
    """Python drops that in the child, before any hook: the parent still uses it."""
    script = f"""{HEAD}
pool = sync.{kind}(Owned)
local, ready, forked = threading.local(), threading.Event(), threading.Event()
def work():
    local.lease = pool.connect()
    local.unnamed = sync.{kind}(Owned)
    local.unnamed.connect().close()
    local.detached = pool.unique_connection() if {kind!r} == "QueuePool" else None
    if local.detached: local.detached.detach()
    ready.set()
    forked.wait()
    with pool.connect() as mine:
        assert mine is local.lease.connection and not mine.closed
    local.lease.close()
    if local.detached: local.detached.close()
    local.unnamed.close()
thread = threading.Thread(target=work)
thread.start()
ready.wait()
check(in_child(lambda: None))
check(in_child(use, pool))
forked.set()
thread.join()
pool.close()
print("done")
"""
    run(script, tmp_path, *QUIET)


@forks
def test_facade_that_is_just_moving_to_its_loop(tmp_path: Path) -> None:
    """In a thread of the parent, which the child does not have."""
    script = f"""{HEAD}
moving, go_on = threading.Event(), threading.Event()
def create():
    return async_owned()
pool = sync.QueuePool(create, {OPTIONS})
really = sync.QueuePool._pool_class.__init__
def slow(*args, **options):
    moving.set()
    go_on.wait()
    really(*args, **options)
sync.QueuePool._pool_class.__init__ = slow
thread = threading.Thread(target=use, args=(pool,))
thread.start()
moving.wait()
def child():
    go_on.set()
    use(pool)
check(in_child(child))
go_on.set()
thread.join()
pool.close()
print("done")
"""
    run(script, tmp_path, *QUIET)


@forks
def test_facade_over_an_async_pool(tmp_path: Path) -> None:
    """In the child there is no loop that it could call: it says so, and doesn't wait."""
    script = f"""{HEAD}
async def main():
    pool = anypool.QueuePool(async_owned)
    facade = sync.over(pool)
    await anyio.to_thread.run_sync(use, facade)
    def refused():
        try:
            facade.connect()
        except anypool.InvalidRequestError as error:
            assert "no running event loop" in str(error)
        else:
            raise AssertionError
    def child():
        thread = threading.Thread(target=in_child_thread, args=(refused,))
        thread.start()
        thread.join()
        assert fine
    fine = []
    def in_child_thread(function):
        function()
        fine.append(1)
    check(in_child(child))
    await anyio.to_thread.run_sync(use, facade)
    await pool.close()
anyio.run(main)
print("done")
"""
    run(script, tmp_path, *QUIET)


@forks
@pytest.mark.parametrize("what", ["connect", "ping", "close"])
def test_blocking_pool_in_the_middle_of_something(what: str, tmp_path: Path) -> None:
    """What a thread of the parent is doing when it forks has no end in the child."""
    script = f"""{HEAD}
reached, go_on = threading.Event(), threading.Event()
def hold(self=None):
    if holding:
        reached.set()
        go_on.wait()
holding = False
class Held(Owned):
    def __init__(self): hold(); super().__init__()
    def ping(self): hold(); super().ping()
    def close(self): hold(); super().close()
pool = sync.QueuePool(Held, {OPTIONS})
pool.open()
pool.wait()
holding = True
if {what!r} == "connect":
    ledger = pool.async_pool._ledger
    ledger.decide(ledger.growth.begin_connects, ledger, 1)
elif {what!r} == "ping":
    user = threading.Thread(target=use, args=(pool,))
    user.start()
else:
    pool.drain()
reached.wait()
def child():
    global holding
    holding = False
    use_and_close(pool)
check(in_child(child))
go_on.set()
use(pool)
if {what!r} == "ping":
    user.join()
pool.close()
print("done")
"""
    run(script, tmp_path, *QUIET)


@forks
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_pool(backend: str, tmp_path: Path) -> None:
    """A child forked inside the loop, while tasks are at work, runs a loop of its own."""
    script = f"""{HEAD}
pool = anypool.QueuePool(async_owned, {OPTIONS})
async def spin():
    while True:
        async with pool.connect() as conn:
            await conn.execute("select 1")
        await anyio.sleep(0)
async def serve():
    assert pool.stats().size == 0
    async with anyio.create_task_group() as tasks:
        for _ in range(4): tasks.start_soon(once)
    assert pool.stats().checked_out == 0
    await pool.wait(5)
    await pool.close()
    stats = pool.stats()
    assert sum(stats.closed.values()) == stats.opened, stats
async def once():
    async with pool.connect() as conn:
        await conn.execute("select 1")
async def main():
    async with pool:
        await pool.wait()
        async with anyio.create_task_group() as tasks:
            for _ in range(3): tasks.start_soon(spin)
            for pause in range(5):
                lease = await pool.unique_connection()
                for _ in range(pause): await anyio.lowlevel.checkpoint()
                if {backend!r} == "asyncio":
                    child = in_child(lambda: asyncio.run(serve()))
                else:
                    import trio
                    child = in_child(lambda: threaded(lambda: trio.run(serve)))
                check(child)
                await lease.connection.execute("select 1")
                await lease.close()
            tasks.cancel_scope.cancel()
def threaded(function):
    # trio refuses a run inside of a run in the same thread.
    failed = []
    def guarded():
        try: function()
        except BaseException: failed.append(traceback.format_exc())
    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    assert not failed, failed[0]
anyio.run(main, backend={backend!r})
print("done")
"""
    run(script, tmp_path, *QUIET)


@forks
@pytest.mark.parametrize("creator", ["Owned", "async_owned"])
def test_multiprocessing(creator: str, tmp_path: Path) -> None:
    """Workers of the fork context get the pool as it is in the module."""
    script = f"""{HEAD}
pool = sync.QueuePool({creator}, {OPTIONS})
pool.open()
pool.wait()
def work(number):
    use(pool)
    return os.getpid()
with multiprocessing.get_context("fork").Pool(2) as workers:
    pids = set(workers.map(work, range(20)))
    workers.close()
    workers.join()
assert pids and os.getpid() not in pids
use(pool)
pool.close()
print("done")
"""
    run(script, tmp_path, *QUIET)


def test_what_is_finalized_before_any_hook_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a child, where no test can look on."""
    world = World(coroutine=False)
    spared: list[Any] = []
    monkeypatch.setattr(process, "_spared", spared)
    pool = sync.QueuePool(world.connect)
    lease = pool.connect()
    record: ConnectionRecord[Any] = ConnectionRecord(0, None)
    record.connection = lease.connection
    monkeypatch.setattr(process, "_pid", 0)
    del record
    assert spared == [(lease.connection,)]
    assert not world.events_of(1)
    process.settle()
    lease.close()
    pool.close()
