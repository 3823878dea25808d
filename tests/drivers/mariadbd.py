"""A private MariaDB server, of which a test may change what all sessions see."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .authority import Authority
from .servers import MariaDB, wait_for


@contextmanager
def private_server(authority: Authority | None = None) -> Iterator[MariaDB]:
    """Install a server in a directory of its own, run it, and remove it.

    Args:
        authority: issues its certificate; without one, it knows nothing of TLS.

    Raises:
        FileNotFoundError: it is not installed on this machine.
    """
    programs = [shutil.which(name) for name in ("mariadb-install-db", "mariadbd")]
    if None in programs:
        raise FileNotFoundError("no mariadbd here")
    directory = Path(tempfile.mkdtemp(prefix="anypool-mariadb-"))
    options = [f"--datadir={directory}/data"]
    if os.geteuid() == 0:  # which the server refuses to be
        options.append("--user=mysql")
        shutil.chown(directory, "mysql")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    try:
        install = [str(programs[0]), "--no-defaults", *options]
        install.append("--auth-root-authentication-method=normal")
        subprocess.run(install, check=True, capture_output=True)
        serve = [str(programs[1]), "--no-defaults", *options, f"--port={port}"]
        serve += ["--bind-address=127.0.0.1", f"--socket={directory}/socket"]
        if authority is not None:
            files = authority.issue("localhost", common_name="server", directory=directory)
            root = authority.write_root(directory)
            serve += [f"--ssl-ca={root}", f"--ssl-cert={files.certificate}"]
            serve += [f"--ssl-key={files.key}"]
            if os.geteuid() == 0:
                shutil.chown(files.key, "mysql")
        with (directory / "log").open("w") as log:
            process = subprocess.Popen(serve, stdout=log, stderr=log)
        try:
            server = wait_for(lambda: _connected(port))
            # Anonymous accounts on this machine would go before those that tests make.
            server.ask("DELETE FROM mysql.global_priv WHERE User = ''")
            server.ask("FLUSH PRIVILEGES")
            yield server
            server.close()
        finally:
            process.terminate()
            process.wait()
    finally:
        shutil.rmtree(directory)


def _connected(port: int) -> MariaDB | None:
    with suppress(Exception):
        return MariaDB(f"mysql://root@127.0.0.1:{port}/test")
    return None
