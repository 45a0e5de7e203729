"""The confidence of a model in its predictions, right or wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from dovetail.metrics.base import SumMetric
from dovetail.metrics.scores import ScoreReader

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput

_FIVE: Final = 5


class Confidence(SumMetric):
    """The probabilities of the most probable classes, and the entropy of the distribution over all classes.

    Its values are means over labels: ``top1_confidence``, the probability of the most probable class;
    ``top5_confidence``, the total probability of the five most probable classes, or of all if there are fewer; and
    ``entropy``, ``−Σ p log p`` in nats: 0 for a certain model, the logarithm of the number of classes for a uniform
    distribution. NaN if no label counts.

    Args:
        ignore_index: a label whose prediction does not count.
        class_dim: the dimension of the outputs that holds the classes; by default the one that the targets lack.
        shift: whether position ``t`` predicts target ``t + 1``, as in a language model whose targets are its inputs.
    """

    def __init__(self, *, ignore_index: int = -100, class_dim: int | None = None, shift: bool = False) -> None:
        super().__init__()
        self._read = ScoreReader("confidence", ignore_index, class_dim, shift=shift)

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Add one batch.

        Raises:
            ValueError: shapes do not fit.
        """
        scores = self._read(outputs, batch)
        logits = torch.stack([torch.zeros_like(scores.logits), scores.logits], -1) if scores.binary else scores.logits
        values = confidence_of(logits)
        sums = {name: value.where(scores.kept, 0.0).sum() for name, value in values.items()}
        self._add(total=torch.count_nonzero(scores.kept), **sums)

    def compute(self) -> dict[str, float]:
        """Return the three values."""
        return {name: self._mean(name) for name in ("top1_confidence", "top5_confidence", "entropy")}


def confidence_of(logits: Tensor) -> dict[str, Tensor]:
    """Return ``top1_confidence``, ``top5_confidence`` and ``entropy`` (in nats) of each prediction.

    Args:
        logits: scores ``[…, classes]``.

    Returns:
        Tensors ``[…]``, in double precision if the device supports it.
    """
    dtype = torch.float32 if logits.device.type == "mps" else torch.float64  # MPS has no float64
    log_p = logits.to(dtype).log_softmax(-1)
    p = log_p.exp()
    best = p.topk(min(_FIVE, p.shape[-1]), dim=-1).values
    return {
        "top1_confidence": best[..., 0],
        "top5_confidence": best.sum(-1).clamp(max=1.0),
        "entropy": torch.special.entr(p).sum(-1),
    }
