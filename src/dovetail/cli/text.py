"""Plain text for the command line: examples in help, columns."""

from __future__ import annotations

from collections.abc import Sequence


def examples(*commands: str) -> str:
    """Return the part of a command's help that shows how it is used; click keeps its lines as they are."""
    return "\n".join(
        ["\b", "Example:" if len(commands) == 1 else "Examples:", *(f"  {command}" for command in commands)]
    )


def columns(rows: Sequence[Sequence[str]], *, head: Sequence[str] = (), indent: str = "", right: str = "") -> list[str]:
    """Return ``rows`` as lines with aligned columns.

    Args:
        rows: equally long rows of cells.
        head: titles of the columns; left out where there are no rows.
        indent: what each line begins with.
        right: the numbers of the columns that are aligned to the right, as digits: ``"23"``.
    """
    if not rows:
        return []
    table = [list(head), *rows] if head else list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if str(place) in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return lines
