"""The ``dovetail`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with ``argv``, by default ``sys.argv``, and return the exit code."""
    try:
        from dovetail.cli.app import run_app

        return run_app(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        sys.stderr.write("\ndovetail: interrupted\n")
        return 130
