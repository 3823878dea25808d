"""What connections of an unknown kind say of themselves in attributes, without I/O."""

from __future__ import annotations

import inspect
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from .._core.driver import BUSY, CHANGED, ConnectionState
from .openness import get

_ABSENT = object()


def plain_autocommit(connection: Any) -> bool | None:
    """Return the connection's ``autocommit``, if that is a plain attribute and a bool.

    It isn't if reading it may be more than that: MySQL Connector/Python asks the server.
    """
    kind = inspect.getattr_static(type(connection), "autocommit", _ABSENT)
    if kind is _ABSENT or isinstance(
        kind, (bool, GetSetDescriptorType, MemberDescriptorType)
    ):
        value = get(connection, "autocommit")
        return value if isinstance(value, bool) else None
    return None


def state_by_attributes(connection: Any, baseline: bool | None) -> ConnectionState | None:
    """Tell whether a connection is BUSY or CHANGED, as far as it says so itself.

    It is BUSY with rows that nobody has read, and which are in the way.

    Args:
        connection: the connection.
        baseline: what plain_autocommit() has said before.
    """
    try:
        if getattr(connection, "unread_result", False) is True:
            return BUSY
        if baseline is not None and connection.autocommit is not baseline:
            return CHANGED
    except Exception:  # from a property that would rather not say
        return None
    return None
