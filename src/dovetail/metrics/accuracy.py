"""Accuracy, also top-k."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch

from dovetail.metrics.base import SumMetric
from dovetail.metrics.scores import ScoreReader
from dovetail.ops import count_right
from dovetail.spec import AtLeast

if TYPE_CHECKING:
    from torch import Tensor

    from dovetail.data.batch import Batch
    from dovetail.metrics.scores import Scores
    from dovetail.models.output import ModelOutput


class Accuracy(SumMetric):
    """The fraction of labels that are predicted correctly, 0 to 1; NaN if no label counts.

    Its value is named ``accuracy``, or ``top5_accuracy`` with ``top_k = 5``.

    Args:
        top_k: a prediction is correct if the class is among this many highest scores, ≥ 1.
        ignore_index: a label that does not count.
        class_dim: the dimension of the outputs that holds the classes; by default the one that the targets lack.
        shift: whether position ``t`` predicts target ``t + 1``, as in a language model whose targets are its inputs.

    Raises:
        ValueError: ``top_k`` is below 1.
    """

    def __init__(
        self,
        *,
        top_k: Annotated[int, AtLeast(1)] = 1,
        ignore_index: int = -100,
        class_dim: int | None = None,
        shift: bool = False,
    ) -> None:
        super().__init__()
        if top_k < 1:
            raise ValueError(f"top_k: must be at least 1, got {top_k}")
        self._top_k = top_k
        self._read = ScoreReader("accuracy", ignore_index, class_dim, shift=shift)

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Add one batch.

        Raises:
            ValueError: shapes do not fit, or there are fewer classes than ``top_k``.
        """
        scores = self._read(outputs, batch)
        if self._top_k == 1 and not scores.binary:
            counts = count_right(scores.logits, scores.targets, scores.mask, scores.ignore_index)
        else:
            right, kept = self._right(scores), scores.kept
            counts = torch.stack([torch.count_nonzero(right & kept), torch.count_nonzero(kept)])
        self._add(right_and_total=counts)

    def _right(self, scores: Scores) -> Tensor:
        if self._top_k == 1:
            return scores.predictions() == scores.targets
        if scores.binary or self._top_k > scores.num_classes:
            raise ValueError(f"accuracy: top_k = {self._top_k}, but the outputs have only {scores.num_classes} classes")
        best = scores.logits.topk(self._top_k, dim=-1).indices
        return (best == scores.targets.unsqueeze(-1)).any(dim=-1)

    def compute(self) -> dict[str, float]:
        """Return the accuracy."""
        right, total = self._sums["right_and_total"].tolist() if self._sums else (0, 0)
        name = "accuracy" if self._top_k == 1 else f"top{self._top_k}_accuracy"
        return {name: right / total if total else float("nan")}
