"""Plain text and JSON for the command line: examples in help texts, aligned columns, documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import click


def examples(*commands: str) -> str:
    """Return the examples of a command's help; click keeps the line breaks."""
    title = "Example:" if len(commands) == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  {command}" for command in commands)])


def columns(rows: Sequence[Sequence[str]], *, head: Sequence[str] = (), indent: str = "", right: str = "") -> list[str]:
    """Return ``rows`` as lines with aligned columns.

    Args:
        rows: rows of cells, all of the same length.
        head: the titles of the columns; not shown if there are no rows.
        indent: the text that each line starts with.
        right: the numbers of the columns to align right, as digits: ``"23"``.
    """
    if not rows:
        return []
    table = [list(head), *rows] if head else list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if str(number) in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return lines


def echo_json(document: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Print ``document`` as indented JSON; ``default`` converts values that JSON cannot represent."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=default))
