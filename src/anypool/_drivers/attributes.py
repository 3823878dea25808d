"""What connections of an unknown kind say of themselves in attributes, without I/O."""

from __future__ import annotations

import inspect
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

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


def differs(connection: Any, baseline: bool | None) -> bool:
    """Tell whether autocommit is not what plain_autocommit() has said before."""
    return baseline is not None and get(connection, "autocommit") is not baseline


def has_unread_result(connection: Any) -> bool:
    """Tell whether there are rows that nobody has read, and which are in the way."""
    return get(connection, "unread_result") is True
