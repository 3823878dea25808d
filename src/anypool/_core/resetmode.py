"""ResetMode: what is done to a connection that comes back."""

from __future__ import annotations

from typing import Literal, TypeAlias

ResetMode: TypeAlias = Literal["rollback", "commit", "full"]
"""What a driver does to a connection that comes back: end the open transaction, or leave
no trace of the session at all."""
