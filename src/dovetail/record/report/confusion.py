"""Confusion matrices: as inline SVG, and as recall and precision per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from dovetail.record.formatting import format_metric, plural
from dovetail.record.report.markup import card, escape
from dovetail.record.runs import as_number

Matrix = list[list[int]]

_MOST_DRAWN: Final = 40  # with more classes, there is only the table
_MOST_COUNTED: Final = 20  # with more classes, the cells show no counts
_MOST_LISTED: Final = 30  # with more classes, the table has only the worst
_LONGEST_NAME: Final = 18  # characters that fit beside the rows
_PALE_UNTIL: Final = 0.5  # a cell with a larger fraction of its row is dark and needs light digits


@frozen
class ClassResult:
    """The results of one class."""

    name: str
    #: The number of samples of the class.
    support: int
    #: The fraction of its samples that are predicted as this class; None if it has no samples.
    recall: float | None
    #: The fraction of samples predicted as this class that belong to it; None if there are none.
    precision: float | None
    #: The class it is most often mistaken for, and how often.
    mistaken_for: tuple[str, int] | None


def find_matrices(metrics: Mapping[str, Any]) -> dict[str, Matrix]:
    """Return the confusion matrices among ``metrics``, by name: square tables of counts."""
    return {
        name: [[int(cell) for cell in row] for row in value] for name, value in metrics.items() if _is_matrix(value)
    }


def _is_matrix(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(row, list) and len(row) == len(value) for row in value)
        and all(
            (count := as_number(cell)) is not None and count >= 0 and count.is_integer()
            for row in value
            for cell in row
        )
    )


def class_names(matrix: Sequence[Sequence[int]], names: object) -> list[str]:
    """Return one name per class: ``names`` if there are as many, else numbers from 0."""
    if isinstance(names, list) and len(names) == len(matrix):
        return [str(name) for name in names]
    return [str(number) for number in range(len(matrix))]


def per_class(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> list[ClassResult]:
    """Return the result of each class; rows of ``matrix`` are true classes, columns are predictions."""
    found = []
    for place, row in enumerate(matrix):
        support, predicted = sum(row), sum(other[place] for other in matrix)
        wrong = [(count, other) for other, count in enumerate(row) if other != place and count]
        count, other = max(wrong, key=lambda pair: (pair[0], -pair[1]), default=(0, -1))
        found.append(
            ClassResult(
                names[place],
                support,
                row[place] / support if support else None,
                row[place] / predicted if predicted else None,
                (names[other], count) if count else None,
            )
        )
    return found


def draw(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Return the matrix as an ``<svg>`` element; each cell is shaded by its fraction of the row."""
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
            fraction = count / total if total else 0.0
            x, y = left + predicted * cell, 5 + true * cell
            kind = "none" if not count else "right" if true == predicted else "wrong"
            title = f"{names[true]} taken for {names[predicted]}: {count:,} of {total:,}"
            side = f"{cell - 1:.1f}"
            parts.append(
                f'<g class="cell {kind}"><title>{escape(title)}</title><rect x="{x + 0.5:.1f}" y="{y + 0.5:.1f}"'
                f' width="{side}" height="{side}" rx="{min(3, cell / 8):.1f}" fill-opacity="{_opacity(fraction):.3f}"/>'
            )
            if size <= _MOST_COUNTED and count:
                dark = " dark" if fraction > _PALE_UNTIL else ""
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


def _opacity(fraction: float) -> float:
    """Return the opacity of a cell; a single mistake in a hundred is visible."""
    return 1.0 if fraction == 0 else 0.12 + 0.88 * fraction**0.7


# --- sections of the report -------------------------------------------------------------------------------------------


def confusion_sections(matrices: Mapping[str, Matrix], names: object) -> str:
    """Return the confusion matrix of the test split, the results of each class, and the matrices of groups of samples.

    The matrix of a group has the name of the first matrix, followed by the group: ``test_confusion_matrix_load_3``. A
    single group is not shown, because it is the whole split.
    """
    if not matrices:
        return ""
    (first, matrix), *others = matrices.items()
    groups = {
        name.removeprefix(f"{first}_"): other
        for name, other in others
        if name.startswith(f"{first}_") and len(other) == len(matrix) <= _MOST_DRAWN
    }
    return _confusion_section(matrix, names) + (_groups_section(groups, names) if len(groups) > 1 else "")


def _groups_section(groups: Mapping[str, Matrix], names: object) -> str:
    """Return the confusion matrix and the accuracy of each group of samples."""
    cards = []
    for name, matrix in groups.items():
        total, right = sum(map(sum, matrix)), sum(row[place] for place, row in enumerate(matrix))
        title = escape(name.replace("_", " "))
        note = (
            f"{format_metric('accuracy', right / total)} of {plural(total, 'sample')} right" if total else "no samples"
        )
        cards.append(card(f'<h3>{title}</h3><p class="muted">{note}</p>{draw(matrix, class_names(matrix, names))}'))
    return f'<h2>Groups, on the test split</h2><div class="charts">{"".join(cards)}</div>'


def _confusion_section(matrix: Matrix, names: object) -> str:
    """Return the confusion matrix of the test split, and a table of its classes."""
    known = class_names(matrix, names)
    classes = per_class(matrix, known)
    picture = f'<div class="card">{draw(matrix, known)}</div>' if len(matrix) <= _MOST_DRAWN else ""
    worst = sorted(classes, key=lambda result: (result.recall is None, result.recall))[:_MOST_LISTED]
    listed = classes if len(classes) <= _MOST_LISTED else worst
    note = (
        f'<p class="muted">The {len(listed)} of {len(classes)} classes with the lowest recall.</p>'
        if listed is worst
        else ""
    )
    rows = "".join(map(_class_row, listed))
    head = (
        '<tr><th>class</th><th class="n">samples</th><th class="n">recall</th><th class="b"></th>'
        '<th class="n">precision</th><th>mistaken for</th></tr>'
    )
    table = f'<div class="card"><table class="classes"><thead>{head}</thead><tbody>{rows}</tbody></table>{note}</div>'
    return f'<h2>Classes, on the test split</h2><div class="{"wide" if picture else ""}">{picture}{table}</div>'


def _class_row(result: ClassResult) -> str:
    recall = "–" if result.recall is None else f"{100 * result.recall:.1f} %"
    precision = "–" if result.precision is None else f"{100 * result.precision:.1f} %"
    wrong = f"{escape(result.mistaken_for[0])} ({result.mistaken_for[1]:,}×)" if result.mistaken_for else ""
    bar = f'<span class="bar"><i style="width:{100 * (result.recall or 0):.1f}%"></i></span>'
    return (
        f'<tr><td>{escape(result.name)}</td><td class="n">{result.support:,}</td><td class="n">{recall}</td>'
        f'<td class="b">{bar}</td><td class="n">{precision}</td><td class="muted">{wrong}</td></tr>'
    )
