"""manage(): a driver module whose connect() goes through pools."""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any

import pytest

from .support.modes import Mode


def make_module(mode: Mode) -> Any:
    """A driver module, with a connect() that notes its arguments."""
    module = ModuleType("driver")
    module.paramstyle = "qmark"  # type: ignore[attr-defined]  # a made-up module
    module.__path__ = []
    module.calls = []  # type: ignore[attr-defined]  # a made-up module

    def connect(*args: Any, **kwargs: Any) -> Any:
        module.calls.append((args, kwargs))
        return mode.world.connect()

    module.connect = connect  # type: ignore[attr-defined]  # a made-up module
    return module


async def test_a_pool_for_each_set_of_arguments(mode: Mode) -> None:
    module = make_module(mode)
    manager = mode.pools.manage(module, pool_size=2)
    assert mode.pools.manage(module) is manager
    async with mode.block(manager.connect("one", user="a")) as first:
        async with mode.block(manager.connect("one", user="a")) as again:
            assert again is first
        async with mode.block(manager.connect("two", user="a")) as second:
            assert second is not first
    assert manager.get_pool("one", user="a") is manager.get_pool("one", user="a")
    assert manager.get_pool("one", user="a") is not manager.get_pool("two", user="a")
    assert manager.get_pool("one", user="a").size() == 2
    assert manager.paramstyle == "qmark"
    assert "one" not in repr(manager)
    await mode.go(manager.dispose("two", user="a"))
    assert mode.world.open == [first.number]
    await mode.go(mode.pools.clear_managers())
    assert mode.world.open == []
    assert mode.pools.manage(module) is not manager
    await mode.go(mode.pools.clear_managers())


async def test_leak_is_told_with_its_place(mode: Mode) -> None:
    manager = mode.pools.manage(make_module(mode))
    lease = await mode.go(manager.connect("one"))
    with pytest.warns(ResourceWarning, match=r"checked out at .*test_manage\.py:\d+"):
        del lease
        await mode.settle()
    await mode.go(mode.pools.clear_managers())


async def test_arguments_need_not_be_hashable(mode: Mode) -> None:
    module = make_module(mode)
    manager = mode.pools.manage(module)
    hosts = {"hosts": ["a", {"port": 1}], "flags": {1, 2}, "key": bytearray(b"k")}
    twin = {"key": bytearray(b"k"), "flags": {2, 1}, "hosts": ["a", {"port": 1}]}
    assert manager.get_pool(**hosts) is manager.get_pool(**twin)
    assert manager.get_pool(1) is not manager.get_pool(True)
    assert manager.get_pool(1) is not manager.get_pool(1.0)
    assert manager.get_pool([1]) is not manager.get_pool((1,))
    assert manager.get_pool(bytearray(b"k")) is not manager.get_pool(b"k")

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]  # the point

    thing = Unhashable()
    assert manager.get_pool(thing) is manager.get_pool(thing)
    assert manager.get_pool(thing) is not manager.get_pool(Unhashable())
    await mode.go(mode.pools.clear_managers())


async def test_poolclass(mode: Mode) -> None:
    manager = mode.pools.manage(make_module(mode), poolclass=mode.pools.NullPool)
    async with mode.block(manager.connect()):
        pass
    assert mode.world.open == []
    with pytest.raises(AttributeError):
        manager.nonsense
    with pytest.raises(AttributeError):
        manager.__path__  # the module's own affair
    await mode.go(manager.dispose("never connected to"))
    await mode.go(mode.pools.clear_managers())


async def test_nothing_is_shared_where_the_options_say_so(mode: Mode) -> None:
    manager = mode.pools.manage(make_module(mode), use_threadlocal=False)
    async with mode.block(manager.connect()) as first:
        async with mode.block(manager.connect()) as second:
            assert second is not first
    await mode.go(mode.pools.clear_managers())


async def test_another_thread_makes_the_pool_a_moment_before(mode: Mode) -> None:
    manager = mode.pools.manage(make_module(mode))
    made: list[Any] = []

    class Lock:
        """Is had by another thread first."""

        def __enter__(self) -> None:
            manager._pools._lock = lock
            made.append(manager.get_pool("same"))
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    lock, manager._pools._lock = manager._pools._lock, Lock()
    assert manager.get_pool("same") is made[0]
    await mode.go(mode.pools.clear_managers())


async def test_two_threads_make_one_pool(mode: Mode) -> None:
    """The same arguments at the same time, from many threads: one pool."""
    manager = mode.pools.manage(make_module(mode))
    barrier = threading.Barrier(8)
    pools: list[Any] = []

    def ask() -> None:
        barrier.wait(10)
        pools.append(manager.get_pool("same"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(pools) == 8
    assert len(set(map(id, pools))) == 1
    await mode.go(mode.pools.clear_managers())
