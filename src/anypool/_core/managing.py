"""What the managers of both modes share: a pool for each distinct set of arguments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, Protocol

from typing_extensions import ParamSpec, TypeVar

P = ParamSpec("P")
ResultT_co = TypeVar("ResultT_co", covariant=True)
PoolT = TypeVar("PoolT")
ManagerT = TypeVar("ManagerT")


class Connector(Protocol[P, ResultT_co]):
    """A driver module, or anything else with a ``connect`` function."""

    @property
    def connect(self) -> Callable[P, ResultT_co]: ...


class Pools(Generic[PoolT]):
    """One pool for each distinct set of connect arguments, made when first asked for."""

    def __init__(
        self, make_pool: Callable[[Callable[[], Any]], PoolT], module: Any
    ) -> None:
        self._make_pool = make_pool
        self._module = module
        self._pools: dict[Hashable, PoolT] = {}
        self._lock = threading.Lock()

    def get(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PoolT:
        key = _frozen((args, kwargs))
        pool = self._pools.get(key)
        if pool is None:
            with self._lock:
                pool = self._pools.get(key)
                if pool is None:
                    pool = self._make_pool(lambda: self._module.connect(*args, **kwargs))
                    self._pools[key] = pool
        return pool

    def pop(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PoolT | None:
        with self._lock:
            return self._pools.pop(_frozen((args, kwargs)), None)

    def pop_all(self) -> list[PoolT]:
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
        return pools


class Managers(Generic[ManagerT]):
    """The managers of all managed modules."""

    def __init__(self) -> None:
        # By identity, since a module-like object need not be hashable.
        self._managers: dict[int, tuple[object, ManagerT]] = {}
        self._lock = threading.Lock()

    def get(self, module: object, make_manager: Callable[[], ManagerT]) -> ManagerT:
        with self._lock:
            entry = self._managers.get(id(module))
            if entry is None:
                entry = self._managers[id(module)] = module, make_manager()
            return entry[1]

    def pop_all(self) -> list[ManagerT]:
        with self._lock:
            managers = [manager for _, manager in self._managers.values()]
            self._managers.clear()
        return managers


def _frozen(value: Any) -> Hashable:
    """Make a key of connect arguments, which need not be hashable.

    Equal arguments of one type give equal keys; 1, 1.0 and True are different arguments.
    """
    kind = type(value)
    if isinstance(value, dict):
        return kind, frozenset((_frozen(k), _frozen(v)) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return kind, tuple(_frozen(item) for item in value)
    if isinstance(value, (set, frozenset)):
        return kind, frozenset(_frozen(item) for item in value)
    if isinstance(value, bytearray):
        return kind, bytes(value)
    try:
        hash(value)
    except TypeError:
        return _Identity(value)
    return kind, value


class _Identity:
    """Stands for an unhashable object: equal to nothing but itself."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)
