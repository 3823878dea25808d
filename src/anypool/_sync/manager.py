"""manage(), blocking: a driver module whose connect() goes through pools."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import Any, Generic, overload

from typing_extensions import ParamSpec, TypeVar

from .._core.managing import Connector, Managers, Pools
from .._core.options import POOL_DEFAULT
from .base import Pool
from .lease import PooledConnection
from .queue import QueuePool

P = ParamSpec("P")
ConnT = TypeVar("ConnT")

_getframe = sys._getframe


class Manager(Generic[P, ConnT]):
    """A proxy of a driver module. Attributes that it lacks are the module's."""

    def __init__(
        self, module: Any, poolclass: type[Pool[Any]], options: dict[str, Any]
    ) -> None:
        self._module = module
        self._pools: Pools[Pool[ConnT]] = Pools(
            lambda creator: poolclass(creator, **options), module
        )

    def connect(self, *args: P.args, **kwargs: P.kwargs) -> PooledConnection[ConnT]:
        """Check out a connection with these arguments."""
        facade = self._pools.get(args, kwargs)
        pool = facade.async_pool
        frame = _getframe(1)
        return facade._checkout(
            pool._use_threadlocal, POOL_DEFAULT, frame.f_code, frame.f_lasti
        )

    def get_pool(self, *args: P.args, **kwargs: P.kwargs) -> Pool[ConnT]:
        """Return the pool for these connect arguments; make it if there is none."""
        return self._pools.get(args, kwargs)

    def dispose(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Dispose of the pool for these connect arguments, and forget it."""
        pool = self._pools.pop(args, kwargs)
        if pool is not None:
            pool.dispose()

    def close(self) -> None:
        """Dispose of all pools, and forget them."""
        for pool in self._pools.pop_all():
            pool.dispose()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._module, name)

    def __repr__(self) -> str:
        return (
            f"<Manager of {getattr(self._module, '__name__', type(self._module).__name__)}>"
        )


_managers: Managers[Manager[..., Any]] = Managers()


@overload
def manage(
    module: Connector[P, Awaitable[ConnT]],
    poolclass: type[Pool[Any]] = QueuePool,
    **params: Any,
) -> Manager[P, ConnT]: ...
@overload
def manage(
    module: Connector[P, Awaitable[ConnT] | ConnT],
    poolclass: type[Pool[Any]] = QueuePool,
    **params: Any,
) -> Manager[P, ConnT]: ...
def manage(
    module: Any, poolclass: type[Pool[Any]] = QueuePool, **params: Any
) -> Manager[..., Any]:
    """Return a proxy of a driver module that pools its connections.

    There is one proxy for each module; the options of the first call hold.

    Args:
        module: a module, or other object, with a ``connect`` function.
        poolclass: the class of the pools, one for each distinct set of connect arguments.
            Default QueuePool.
        params: options for the pools.
    """
    return _managers.get(module, lambda: Manager(module, poolclass, params))


def clear_managers() -> None:
    """Dispose of all pools of all managed modules, and forget their proxies."""
    for manager in _managers.pop_all():
        manager.close()
