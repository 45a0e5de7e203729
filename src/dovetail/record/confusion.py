"""The confusion matrix: as inline SVG, and as figures per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from dovetail.record.markup import escape
from dovetail.record.runs import number

Matrix = list[list[int]]

#: Classes up to which the matrix is drawn; beyond, only the table of classes says anything.
MOST_DRAWN: Final = 40
_MOST_COUNTED: Final = 20  # classes up to which each cell shows its count
_LONGEST_NAME: Final = 18  # characters that fit beside the rows
_PALE_UNTIL: Final = 0.5  # share of a row from which a cell is dark enough to need light digits


@frozen
class ClassFigures:
    """How one class fared."""

    name: str
    #: Samples of the class.
    support: int
    #: Share of its samples found; None where there are none.
    recall: float | None
    #: Share right among the samples taken for it; None where there are none.
    precision: float | None
    #: The class it is most often taken for, and how often.
    mistaken_for: tuple[str, int] | None


def find_matrices(figures: Mapping[str, Any]) -> dict[str, Matrix]:
    """Return the square tables of whole numbers among ``figures``, by name."""
    return {
        name: [[int(cell) for cell in row] for row in value] for name, value in figures.items() if _is_matrix(value)
    }


def _is_matrix(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(row, list) and len(row) == len(value) for row in value)
        and all((cell := number(one)) is not None and cell >= 0 and cell.is_integer() for row in value for one in row)
    )


def class_names(matrix: Sequence[Sequence[int]], names: object) -> list[str]:
    """Return one name per class: ``names`` where they fit, else numbers from 0."""
    if isinstance(names, list) and len(names) == len(matrix):
        return [str(name) for name in names]
    return [str(number) for number in range(len(matrix))]


def per_class(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> list[ClassFigures]:
    """Return each class's figures; rows of ``matrix`` are true classes, columns are predictions."""
    found = []
    for place, row in enumerate(matrix):
        support, predicted = sum(row), sum(other[place] for other in matrix)
        wrong = [(count, other) for other, count in enumerate(row) if other != place and count]
        count, other = max(wrong, key=lambda pair: (pair[0], -pair[1]), default=(0, -1))
        found.append(
            ClassFigures(
                names[place],
                support,
                row[place] / support if support else None,
                row[place] / predicted if predicted else None,
                (names[other], count) if count else None,
            )
        )
    return found


def draw(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Return the matrix as an ``<svg>`` element: shade by the share of the row, so that rare classes are seen too."""
    size = len(matrix)
    cell = 440 / size
    shown = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in names]
    left = 34 + 7.4 * max(map(len, shown))
    bottom = 40 + (7 * max(map(len, shown)) if _slanted(shown, cell) else 10)
    width, height = left + 450, 450 + bottom
    parts = [
        (
            f'<svg class="confusion" viewBox="0 0 {width} {height}" role="img" aria-label="Confusion matrix"'
            ' xmlns="http://www.w3.org/2000/svg">'
        )
    ]
    for true, row in enumerate(matrix):
        total = sum(row)
        for predicted, count in enumerate(row):
            share = count / total if total else 0.0
            x, y = left + predicted * cell, 5 + true * cell
            kind = "none" if not count else "right" if true == predicted else "wrong"
            title = f"{names[true]} taken for {names[predicted]}: {count:,} of {total:,}"
            side = f"{cell - 1:.1f}"
            parts.append(
                f'<g class="cell {kind}"><title>{escape(title)}</title><rect x="{x + 0.5:.1f}" y="{y + 0.5:.1f}"'
                f' width="{side}" height="{side}" rx="{min(3, cell / 8):.1f}" fill-opacity="{_shade(share):.3f}"/>'
            )
            if size <= _MOST_COUNTED and count:
                dark = " dark" if share > _PALE_UNTIL else ""
                text_size = min(15, cell * (0.42 if count < 1000 else 0.3))  # noqa: PLR2004 (four digits need a smaller size)
                parts.append(
                    f'<text class="count{dark}" style="font-size:{text_size:.1f}px" x="{x + cell / 2:.1f}"'
                    f' y="{y + cell / 2:.1f}" dy="0.36em">{count}</text>'
                )
            parts.append("</g>")
    parts += _names(shown, left, cell)
    middle = 5 + size * cell / 2
    parts.append(f'<text class="side" x="{left + 220}" y="{height - 6}">predicted</text>')
    parts.append(f'<text class="side" transform="translate(14 {middle}) rotate(-90)">true</text></svg>')
    return "".join(parts)


def _names(shown: Sequence[str], left: float, cell: float) -> list[str]:
    slanted = _slanted(shown, cell)
    style = f'style="font-size:{min(14.0, cell * 0.9):.1f}px"'
    parts = []
    for place, name in enumerate(shown):
        at = (place + 0.5) * cell
        column = (
            f'class="row" transform="translate({left + at:.1f} 458) rotate(-60)"'
            if slanted
            else f'class="column" x="{left + at:.1f}" y="464"'
        )
        parts.append(f'<text class="row" {style} x="{left - 8:.1f}" y="{5 + at:.1f}" dy="0.36em">{escape(name)}</text>')
        parts.append(f"<text {column} {style}>{escape(name)}</text>")
    return parts


def _slanted(shown: Sequence[str], cell: float) -> bool:
    return max(map(len, shown)) * 10 > cell


def _shade(share: float) -> float:
    """Return an opacity at which a single mistake in a hundred is seen."""
    return 1.0 if share == 0 else 0.12 + 0.88 * share**0.7
