"""A private PostgreSQL server, which a test may stop, start, and have its own way with."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .authority import Authority
from .servers import Postgres, wait_for

_CONFIG = """\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
full_page_writes = off
max_connections = 60
"""

_TLS_CONFIG = """\
ssl = on
ssl_ca_file = '{root}'
ssl_cert_file = '{certificate}'
ssl_key_file = '{key}'
"""

_ACCESS = """\
hostssl all certified 127.0.0.1/32 cert
host    all certified 127.0.0.1/32 reject
host    all all       127.0.0.1/32 trust
"""


class PostgresDaemon:
    """A server in a directory of its own.

    Attributes:
        server: the server, from the side of its administrator.
    """

    server: Postgres

    def __init__(self, authority: Authority | None = None) -> None:
        self._initdb, self._postgres = _programs()
        self._directory = Path(tempfile.mkdtemp(prefix="anypool-postgres-"))
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:  # which the server refuses to be
            user = _unprivileged()
            self._identity = {
                "user": user.pw_uid,
                "group": user.pw_gid,
                "extra_groups": [],
            }
            os.chown(self._directory, user.pw_uid, user.pw_gid)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        try:
            self._install(authority)
            self.start()
        except BaseException:
            self.close()
            raise

    def _install(self, authority: Authority | None) -> None:
        data = self._directory / "data"
        subprocess.run(
            [self._initdb, "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"],
            check=True,
            capture_output=True,
            **self._identity,
        )
        config = _CONFIG
        if authority is not None:
            files = authority.issue(
                "localhost", common_name="server", directory=self._directory
            )
            root = authority.write_root(self._directory)
            if self._identity:
                for path in (*files, root):
                    os.chown(path, self._identity["user"], self._identity["group"])
            config += _TLS_CONFIG.format(root=root, **files._asdict())
        (data / "postgresql.conf").write_text(config)
        (data / "pg_hba.conf").write_text(_ACCESS)

    def start(self) -> None:
        """Run the server, and wait until it answers."""
        with (self._directory / "log").open("a") as log:
            self._process = subprocess.Popen(
                [self._postgres, "-D", self._directory / "data", "-p", str(self._port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._identity,
            )
        self.server = wait_for(self._connected)

    def _connected(self) -> Postgres | None:
        assert self._process.poll() is None, (self._directory / "log").read_text()
        with suppress(Exception):
            return Postgres(f"postgresql://postgres@127.0.0.1:{self._port}/postgres")
        return None

    def stop(self) -> None:
        """End all sessions, then the server."""
        with suppress(Exception):
            self.server.admin.close()
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def close(self) -> None:
        if hasattr(self, "_process"):
            self.stop()
        shutil.rmtree(self._directory)


@contextmanager
def private_postgres(authority: Authority | None = None) -> Iterator[PostgresDaemon]:
    """Install a server, run it, and remove it.

    Raises:
        FileNotFoundError: it is not installed on this machine.
    """
    daemon = PostgresDaemon(authority)
    try:
        yield daemon
    finally:
        daemon.close()


def _programs() -> tuple[str, str]:
    """Find the programs of the newest version."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = sorted(versions, key=lambda path: float(path.parts[-3]))[-1:]
    here = shutil.which("initdb")
    places = newest or ([Path(here)] if here else [])
    for initdb in places:
        if initdb.with_name("postgres").exists():
            return str(initdb), str(initdb.with_name("postgres"))
    raise FileNotFoundError("no initdb and postgres here")


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise FileNotFoundError("nobody here to run a server")
