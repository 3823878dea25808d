"""asyncpg, as if it were libpq."""

from __future__ import annotations

from functools import partial
from inspect import signature
from typing import Any

from ..._core.url import DatabaseURL
from .arguments import addressed, awaiting, kinds_of, typed, unknown_argument
from .tls import check_sslmode, named, ssl_module, tls_context

_KINDS: dict[str, type] = {"port": int, "timeout": float, "command_timeout": float}

_TLS = {
    "ssl",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
}


def creator(module: Any, url: DatabaseURL, connect_args: dict[str, Any]) -> partial[Any]:
    arguments = addressed(url, "database")
    # As in a DSN: what the driver doesn't know are settings of the server's.
    known = signature(module.connect).parameters
    for name, kind in (("host", str), ("port", int)):
        if "," in str(arguments.get(name, "")):
            arguments[name] = [kind(each) for each in arguments[name].split(",")]
    tls = {name: arguments.pop(name) for name in list(arguments) if name in _TLS}
    for name in arguments:
        if name.startswith("ssl"):  # the server would have none of that as a setting
            raise unknown_argument(name, "asyncpg.connect()", {*known, *_TLS})
    if tls:
        arguments["ssl"] = _tls(tls)
    settings = {
        name: str(arguments.pop(name)) for name in list(arguments) if name not in known
    }
    arguments = typed(arguments, kinds_of(known) | _KINDS, "asyncpg.connect()")
    if settings:
        arguments["server_settings"] = settings
    return awaiting(module.connect, arguments | connect_args)


def _tls(given: dict[str, Any]) -> Any:
    """Make what asyncpg takes for TLS of what libpq does."""
    if given.keys() >= {"ssl", "sslmode"}:
        raise TypeError("url: ssl and sslmode are the same: give one of them")
    # "ssl" is what the driver itself calls it.
    name = "ssl" if "ssl" in given else "sslmode"
    root = given.get("sslrootcert")
    system = root == "system"  # the authorities that this machine trusts
    mode = given.pop(name, "verify-full" if system else "prefer")
    if name == "ssl":
        mode = {"true": "verify-full", "false": "disable"}.get(mode.lower(), mode)
    check_sslmode(name, mode)
    if mode == "disable" or not given:
        return mode
    if system and mode != "verify-full":
        raise ValueError(f"url: {name}: with sslrootcert=system, expected verify-full")
    context = tls_context(given, "sslrootcert", "sslcert", "sslkey", "sslpassword")
    context.check_hostname = mode == "verify-full"
    if not root and mode not in ("verify-ca", "verify-full"):
        context.verify_mode = ssl_module().CERT_NONE
    if given.get("sslcrl"):
        with named("sslcrl"):
            context.load_verify_locations(cafile=given["sslcrl"])
        context.verify_flags |= ssl_module().VERIFY_CRL_CHECK_CHAIN
    versions = {"TLSv1.2": "TLSv1_2", "TLSv1.3": "TLSv1_3"}
    for end in ("minimum", "maximum"):
        version = given.get(f"ssl_{end[:3]}_protocol_version")
        if version not in (None, *versions):
            possible = " or ".join(versions)
            raise ValueError(f"url: ssl_{end[:3]}_protocol_version: expected {possible}")
        if version is not None:
            version = getattr(ssl_module().TLSVersion, versions[version])
            setattr(context, f"{end}_version", version)
    return context
