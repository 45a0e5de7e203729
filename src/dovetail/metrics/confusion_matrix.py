"""The confusion matrix, of all samples and of those with one value in a column."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import torch
from torch import Tensor

from dovetail.kernel.kind import Provided
from dovetail.metrics.class_counts import ClassCountingMetric, refuse_outside
from dovetail.metrics.reading import count_labels
from dovetail.spec.limits import AtLeast

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput

_MOST_GROUPS: Final = 24  # beyond, nobody looks at each
_OF: Final = "cells of "  # begins the name under which a group is counted


class ConfusionMatrix(ClassCountingMetric):
    """How often a class (row) was taken for another (column). Its figure is called ``confusion_matrix``.

    With ``by`` it is also counted apart for each value of a column, such as a load, a machine or a speaker, as
    ``confusion_matrix_COLUMN_VALUE``, and the report shows one beside the other.

    Args:
        num_classes: number of classes; the dataset provides it, else it is read off the outputs.
        ignore_index: a label that does not count.
        class_dim: which dimension of the outputs holds the classes; by default the one that the targets lack.
        by: a column that travels in the batch's ``meta``, one value for each sample.
        edges: put numbers of that column into groups that end at these, rising; else each value is a group.

    Raises:
        ValueError: ``num_classes`` is below 1, or edges do not rise, or are given without a column.
    """

    def __init__(
        self,
        *,
        num_classes: Annotated[int | None, Provided, AtLeast(1)] = None,
        ignore_index: int = -100,
        class_dim: int | None = None,
        by: str | None = None,
        edges: Sequence[float] = (),
    ) -> None:
        super().__init__(num_classes=num_classes, ignore_index=ignore_index, class_dim=class_dim)
        if list(edges) != sorted(set(edges)):
            raise ValueError(f"edges must rise, got {list(edges)}")
        if edges and by is None:
            raise ValueError("edges: they divide a column; name it with by = …")
        self._by, self._edges = by, tuple(edges)

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Take in one batch. With ``by`` it waits for the device, as it has to know which values there are.

        Raises:
            ValueError: shapes do not fit, the outputs do not have ``num_classes`` classes, or the batch does not carry
                the column, or too many values of it.
        """
        scores = self._read(outputs, batch)
        classes, targets = scores.num_classes, scores.targets
        # A label that is no class leaves the table, so that it is counted beside it.
        inside = (targets >= 0) & (targets < classes)
        cells = (targets * classes + scores.predictions()).where(inside, -1)
        self._add(cells=count_labels(cells, scores.kept, classes * classes))
        for name, rows in self._groups(batch):
            among = rows.to(cells.device).reshape(-1, *[1] * (cells.ndim - 1))
            self._add(**{f"{_OF}{name}": count_labels(cells, scores.kept & among, classes * classes)})
        if len(self._counts) > _MOST_GROUPS + 1:
            raise ValueError(
                f"{type(self).__name__}: by = '{self._by}' has more than {_MOST_GROUPS} values; set edges to group them"
            )

    def _groups(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield the name of each group in a batch and which samples are in it, ``[batch]`` booleans."""
        if self._by is None:
            return
        meta = batch.get("meta", {})
        if self._by not in meta:
            known = f"it carries {', '.join(sorted(meta))}" if meta else "it carries none"
            raise ValueError(
                f"{type(self).__name__}: by = '{self._by}' is no column of the batch's meta, {known}; "
                "the dataset's `meta` says which do"
            )
        column = meta[self._by]
        if self._edges:
            values = torch.as_tensor(column)
            places = torch.bucketize(values.double(), torch.tensor(self._edges).to(values.device), right=True)
            names = _between(self._edges)
            yield from ((names[place], places == place) for place in sorted(set(places.tolist())))
        elif isinstance(column, Tensor):
            yield from ((_word(value), column == value) for value in sorted(set(column.tolist())))
        else:
            yield from ((str(one), torch.tensor([one == other for other in column])) for one in sorted(set(column)))

    def compute(self) -> dict[str, list[list[int]]]:
        """Return each table as one list per row.

        Raises:
            ValueError: some label was none of the classes.
        """
        classes = self._num_classes or 0
        if not self._counts:
            return {"confusion_matrix": [[0] * classes for _ in range(classes)]}
        counts = {name: cells.cpu() for name, cells in self._counts.items()}
        refuse_outside(type(self).__name__, int(counts["cells"][-1]), classes)
        tables: dict[str, Any] = {name: one[:-1].reshape(classes, classes).tolist() for name, one in counts.items()}
        groups = sorted((name.removeprefix(_OF) for name in tables if name.startswith(_OF)), key=self._order)
        return {
            "confusion_matrix": tables["cells"],
            **{f"confusion_matrix_{self._by}_{name}": tables[f"{_OF}{name}"] for name in groups},
        }

    def _order(self, name: str) -> tuple[float, str]:
        """Sort numbers by their size, and words after them."""
        if self._edges:
            return _between(self._edges).index(name), ""
        try:
            return float(name), ""
        except ValueError:
            return math.inf, name


def _word(value: float) -> str:
    return f"{value:g}"


def _between(edges: Sequence[float]) -> list[str]:
    """Return what the groups are called that end at ``edges``."""
    words = [_word(edge) for edge in edges]
    inner = [f"{low}_to_{high}" for low, high in itertools.pairwise(words)]
    return [f"below_{words[0]}", *inner, f"from_{words[-1]}"]
