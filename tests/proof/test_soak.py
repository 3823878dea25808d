"""A short soak; `make soak` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_short_soak() -> None:
    """A few rounds of everything leave no traces."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.soak"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "SOAK_SECONDS": "3"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    assert " transfers" in result.stdout
