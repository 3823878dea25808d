"""DatabaseURL: where a database is and how to connect, in one line.

No message here quotes any part of a URL that it can't make out: that could be a password.
"""

from __future__ import annotations

from typing import Any

# urllib.parse is imported by need: with ipaddress, which it loads, it is a quarter of the
# time that importing anypool takes.


class DatabaseURL:
    """The parts of ``dialect+driver://user:password@host:port/database?name=value``.

    What comes after the question mark are options of the pool, and arguments of the
    driver's connect function. Special characters are written with percent signs.

    Raises:
        TypeError, ValueError: this is no such URL; the message says what is wrong.
    """

    def __init__(self, url: str) -> None:
        from urllib.parse import unquote

        if not isinstance(url, str):
            raise TypeError(f"url: expected a string, not a {type(url).__qualname__}")
        scheme, separator, rest = url.partition("://")
        if not separator or not scheme.replace("+", "").isalnum():
            raise ValueError("url: expected dialect://user:password@host:port/database")
        rest, _, query = rest.partition("?")
        authority, slash, database = rest.partition("/")
        if "#" in rest or (authority and "@" in database):
            raise ValueError(_SPECIAL)
        credentials, _, address = authority.rpartition("@")
        user, colon, password = credentials.partition(":")
        self.scheme = scheme.lower()
        self.user = unquote(user) or None
        self.password = unquote(password) if colon else None
        # Several, separated by commas, as libpq writes them.
        self.addresses = [_host_and_port(each) for each in address.split(",")]
        self.host, self.port = self.addresses[0]
        self.database = unquote(database) if slash else ""
        self.arguments = _arguments(query)

    def __repr__(self) -> str:
        # Arguments are left out: some drivers take secrets there, too.
        user = f"{self.user}@" if self.user else ""
        host = self.host or ""
        return f"<DatabaseURL {self.scheme}://{user}{host}/{self.database}>"


_SPECIAL = "url: in names and passwords, write : / ? # and @ with percent signs"


def _host_and_port(address: str) -> tuple[str | None, int | None]:
    from urllib.parse import unquote

    if address.startswith("["):  # IPv6
        host, bracket, port = address[1:].partition("]")
        if not bracket:
            raise ValueError("url: the bracket around the address is not closed")
        port = port.removeprefix(":")
    else:
        host, _, port = address.partition(":")
    if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"url: the port is not a number from 0 to 65535; {_SPECIAL[5:]}")
    return unquote(host) or None, int(port) if port else None


def _arguments(query: str) -> dict[str, Any]:
    from urllib.parse import parse_qsl

    arguments: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if not name.isidentifier():
            # Perhaps the rest of a password with a question mark in it.
            raise ValueError(f"url: an argument's name is no word; {_SPECIAL[5:]}")
        if name in arguments:
            raise ValueError("url: an argument after the question mark is given twice")
        arguments[name] = value
    return arguments


_TRUTH = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def value_of(name: str, text: str, kind: type | None) -> Any:
    """Read an argument's value as what it is for.

    Args:
        name: of the argument, for the error.
        text: what stands in the URL.
        kind: bool, int, float, str, or None for an option of a pool, which may be each.

    Raises:
        ValueError: it can't be read as that; the message doesn't show it.
    """
    word = text.lower()
    if kind is str:
        return text
    if word == "none":
        return None
    if kind is bool or (kind is None and word in ("true", "false")):
        if word in _TRUTH:
            return _TRUTH[word]
        raise ValueError(f"url: {name}: expected true or false")
    for number in (int, float) if kind in (None, float) else (int,):
        try:
            return number(text)
        except ValueError:
            continue
    if kind is None:
        return text
    raise ValueError(f"url: {name}: expected a number")
