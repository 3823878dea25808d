"""Certificates: an authority that only the tests know."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import trustme


class Certificate(NamedTuple):
    """Files in PEM: a certificate and its private key."""

    certificate: str
    key: str


class Authority:
    """Issues certificates.

    Attributes:
        root: the file with its own certificate.
    """

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        self._directory = directory
        self.root = self.write_root(directory)

    def write_root(self, directory: Path) -> str:
        """Write its own certificate into a directory, and return the file."""
        path = directory / "root.pem"
        self._authority.cert_pem.write_to_path(path)
        return str(path)

    def issue(self, *names: str, common_name: str, directory: Path) -> Certificate:
        """Write a certificate, and a key that only its owner may read."""
        issued = self._authority.issue_cert(*names, common_name=common_name)
        files = Certificate(
            str(directory / f"{common_name}.pem"), str(directory / f"{common_name}.key")
        )
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(files.certificate, append=number > 0)
        with open(os.open(files.key, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(issued.private_key_pem.bytes())
        return files
