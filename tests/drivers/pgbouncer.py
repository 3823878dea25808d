"""A private PgBouncer in front of the tests' PostgreSQL server."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from .servers import PATIENCE, Postgres

BACKENDS = 8
"""How many connections to the server it may have."""

_CONFIG = """\
[databases]
{database} = host={host} port={server_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {directory}/users
admin_users = {role}
pool_mode = {pool_mode}
default_pool_size = {backends}
max_db_connections = {backends}
max_client_conn = 500
logfile = {directory}/log
"""


class PgBouncer:
    """Pools a few connections to the server, for a role of its own.

    Attributes:
        pool_mode: "transaction" or "session".
        role: who logs in there, and from there to the server.
    """

    def __init__(self, server: Postgres, pool_mode: str) -> None:
        program = find_or_install()
        self.server = server
        self.pool_mode = pool_mode
        self.role = f"{server.table}_{pool_mode}"
        password = secrets.token_hex()
        server.ask(f"CREATE ROLE {self.role} LOGIN PASSWORD '{password}'")
        server.ask(f"GRANT ALL ON {server.table} TO {self.role}")
        self._directory = Path(tempfile.mkdtemp(prefix="anypool-pgbouncer-"))
        (self._directory / "users").write_text(f'"{self.role}" "{password}"\n')
        self._start(program)

    def _start(self, program: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        config = self._directory / "config"
        config.write_text(
            _CONFIG.format(
                database=self.server.url.database,
                host=self.server.host,
                server_port=self.server.port,
                port=self.port,
                directory=self._directory,
                role=self.role,
                pool_mode=self.pool_mode,
                backends=BACKENDS,
            )
        )
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:  # which PgBouncer refuses to be
            nobody = pwd.getpwnam("nobody")
            identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            for path in (self._directory, *self._directory.iterdir()):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        self._process = subprocess.Popen(
            [program, "-q", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **identity,
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._console = self._connect("pgbouncer")
            except psycopg.OperationalError:
                ended = self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    log = self.log()
                    self.close()
                    raise RuntimeError(f"PgBouncer does not start:\n{log}") from None
                time.sleep(0.02)
            else:
                return

    def _connect(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.role,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
            prepare_threshold=None,  # the console knows nothing of that
        )

    def dsn(self) -> str:
        """Return a URL that psycopg and asyncpg understand as well as create_pool()."""
        return f"postgresql://{self.role}@127.0.0.1:{self.port}/{self.server.url.database}"

    def clients(self) -> int:
        """Return how many clients there are at this moment."""
        with closing(self._console.cursor()) as cursor:
            rows = cursor.execute("SHOW CLIENTS").fetchall()
            names = [column.name for column in cursor.description or ()]
        database = names.index("database")
        return sum(row[database] == self.server.url.database for row in rows)

    def backends(self) -> int:
        """Return how many connections to the server there are at this moment."""
        count: int = self.server.ask(
            f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{self.role}'"
        )
        return count

    def log(self) -> str:
        """Return the end of what it has written down."""
        log = self._directory / "log"
        return log.read_text()[-3000:] if log.exists() else "(no log)"

    def close(self) -> None:
        if hasattr(self, "_console"):
            self._console.close()
        self._process.terminate()
        self._process.wait(PATIENCE)
        self.server.until(
            f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{self.role}'", 0
        )
        self.server.ask(f"DROP OWNED BY {self.role}")
        self.server.ask(f"DROP ROLE {self.role}")
        shutil.rmtree(self._directory)


def find_or_install() -> str:
    """Return where the program is; install it from the distribution's packages if missing.

    Raises:
        FileNotFoundError: there is none, and it can't be installed.
    """
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    if not shutil.which("pgbouncer", path=places) and os.geteuid() == 0:
        for arguments in (("install",), ("update",), ("install",)):
            if shutil.which("apt-get") and not shutil.which("pgbouncer", path=places):
                _apt_get(*arguments)
    program = shutil.which("pgbouncer", path=places)
    if program is None:
        raise FileNotFoundError("pgbouncer: not installed")
    return program


def _apt_get(command: str) -> None:
    names = ["--no-install-recommends", "pgbouncer"] if command == "install" else []
    subprocess.run(
        ["apt-get", "--yes", "--quiet", command, *names],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
    )
