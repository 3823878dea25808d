"""``python -m anypool``, and the command ``anypool``."""

from __future__ import annotations

import sys

_EXTRA = {"aiosqlite", "rich", "typer"}


def main() -> None:
    """Run the command line. It needs the extra ``cli``; without it, exits with status 2."""
    try:
        # Not before: without the extra this is as far as it gets.
        from ._demo.cli import app
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        sys.exit(_missing(error.name))
    app()


def _missing(module: str) -> int:
    print(
        f"anypool: there is no {module} here, which the command line needs: "
        "pip install 'anypool[cli]'",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    main()
