"""The confusion matrix, of all samples and of groups of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import torch
from torch import Tensor

from dovetail.metrics.per_class import ClassCountingMetric, raise_if_outside
from dovetail.metrics.scores import count_labels
from dovetail.spec import AtLeast, Provided

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput

_MAX_GROUPS: Final = 24  # more matrices than a person reads
_GROUP_PREFIX: Final = "cells of "  # of a group's key in the state


class ConfusionMatrix(ClassCountingMetric):
    """How often each class (row) was predicted as each class (column). Its value is named ``confusion_matrix``.

    With ``by`` it also counts one matrix for each value of a column, such as a load, a machine or a speaker, named
    ``confusion_matrix_COLUMN_VALUE``. The report shows these side by side.

    Args:
        num_classes: number of classes; the dataset provides it, else the outputs do.
        ignore_index: a label that does not count.
        class_dim: the dimension of the outputs that holds the classes; by default the one that the targets lack.
        by: a column of the batch's ``meta``, one value for each sample.
        edges: increasing numbers that divide the column into groups, each from an edge up to the next; by default each
            value is a group.

    Raises:
        ValueError: ``num_classes`` is below 1, or ``edges`` do not increase or come without ``by``.
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
            raise ValueError(f"edges: must increase, got {list(edges)}")
        if edges and by is None:
            raise ValueError("edges: no column to divide; set by to its name")
        self._by, self._edges = by, tuple(edges)

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Add one batch. With ``by`` it syncs with the device, to find the values of the column.

        Raises:
            ValueError: shapes do not fit, the outputs do not have ``num_classes`` classes, or the batch does not have
                the column, or too many values of it.
        """
        scores = self._read(outputs, batch)
        classes, targets = scores.num_classes, scores.targets
        # -1 puts a label out of range into the extra count behind the cells.
        inside = (targets >= 0) & (targets < classes)
        cells = (targets * classes + scores.predictions()).where(inside, -1)
        self._add(cells=count_labels(cells, scores.kept, classes * classes))
        for name, rows in self._groups(batch):
            members = rows.to(cells.device).reshape(-1, *[1] * (cells.ndim - 1))
            self._add(**{f"{_GROUP_PREFIX}{name}": count_labels(cells, scores.kept & members, classes * classes)})
        if len(self._sums) > _MAX_GROUPS + 1:
            raise ValueError(
                f"{type(self).__name__}: by = '{self._by}' has more than {_MAX_GROUPS} values; set edges to group them"
            )

    def _groups(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield each group's name and its samples, as booleans ``[batch]``."""
        if self._by is None:
            return
        meta = batch.get("meta", {})
        if self._by not in meta:
            columns = ", ".join(sorted(meta)) or "none"
            raise ValueError(
                f"{type(self).__name__}: by = '{self._by}' is not a column of the batch's meta, which has {columns}; "
                "add it to the dataset's `meta`"
            )
        column = meta[self._by]
        if self._edges:
            values = torch.as_tensor(column)
            places = torch.bucketize(values.double(), torch.tensor(self._edges).to(values.device), right=True)
            names = _group_names(self._edges)
            yield from ((names[place], places == place) for place in sorted(set(places.tolist())))
        elif isinstance(column, Tensor):
            yield from ((f"{value:g}", column == value) for value in sorted(set(column.tolist())))
        else:
            for value in sorted(set(column)):
                yield str(value), torch.tensor([value == other for other in column])

    def compute(self) -> dict[str, list[list[int]]]:
        """Return each matrix as one list per row.

        Raises:
            ValueError: a label was out of range.
        """
        classes = self._num_classes or 0
        if not self._sums:
            return {"confusion_matrix": [[0] * classes for _ in range(classes)]}
        counts = {name: cells.cpu() for name, cells in self._sums.items()}
        raise_if_outside(type(self).__name__, int(counts["cells"][-1]), classes)
        tables: dict[str, Any] = {name: cells[:-1].reshape(classes, classes).tolist() for name, cells in counts.items()}
        groups = (name.removeprefix(_GROUP_PREFIX) for name in tables if name.startswith(_GROUP_PREFIX))
        return {
            "confusion_matrix": tables["cells"],
            **{
                f"confusion_matrix_{self._by}_{name}": tables[f"{_GROUP_PREFIX}{name}"]
                for name in sorted(groups, key=self._order)
            },
        }

    def _order(self, name: str) -> tuple[float, str]:
        """Return a sort key: groups by their edges, numbers by value, words after numbers."""
        if self._edges:
            return _group_names(self._edges).index(name), ""
        try:
            return float(name), ""
        except ValueError:
            return math.inf, name


def _group_names(edges: Sequence[float]) -> list[str]:
    """Return the names of the groups between ``edges``."""
    words = [f"{edge:g}" for edge in edges]
    inner = [f"{low}_to_{high}" for low, high in itertools.pairwise(words)]
    return [f"below_{words[0]}", *inner, f"from_{words[-1]}"]
