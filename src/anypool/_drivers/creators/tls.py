"""TLS contexts of what a URL says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def check_sslmode(name: str, mode: Any) -> None:
    if mode not in _SSLMODES:
        raise ValueError(f"url: {name}: expected {', '.join(_SSLMODES)}")


def tls_context(
    given: dict[str, Any], root: str, certificate: str, key: str, password: str
) -> Any:
    """Make a context that checks who the server is; the names are those of arguments."""
    ssl = ssl_module()
    authority = given.get(root)
    with named(root):
        context = ssl.create_default_context(
            cafile=None if authority == "system" else authority
        )
    # As libpq: authorities of databases are old, and not made by the book.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if given.get(certificate):
        with named(certificate):
            context.load_cert_chain(
                given[certificate], given.get(key), lambda: given.get(password) or ""
            )
    return context


@contextmanager
def named(name: str) -> Iterator[None]:
    """Say of which argument a file can't be read."""
    try:
        yield
    except OSError as error:  # ssl's errors are such, too
        reason = error.strerror if type(error).__module__ == "builtins" else None
        shown = reason or "not what is expected there"
        raise ValueError(f"url: {name}: can't be read: {shown}") from None


def ssl_module() -> Any:
    # By need: importing it takes some ms.
    return import_module("ssl")
