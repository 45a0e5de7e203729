"""From a model's outputs and a batch to predicted and true labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dovetail.losses.targets import read_targets, target_mask

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class Scores(NamedTuple):
    """Class scores with their classes on the last dimension, the true labels, and which of them count."""

    #: ``[…, classes]``, or the labels' shape for one score of yes against no.
    logits: Tensor
    targets: Tensor
    #: Booleans of the labels' shape.
    kept: Tensor

    @property
    def binary(self) -> bool:
        """Whether there is one score per label: above 0 says class 1."""
        return self.logits.shape == self.targets.shape

    @property
    def num_classes(self) -> int:
        """How many classes the scores tell apart."""
        return 2 if self.binary else self.logits.shape[-1]

    def predictions(self) -> Tensor:
        """Return the predicted labels, of the shape of the true ones."""
        return (self.logits > 0).long() if self.binary else self.logits.argmax(dim=-1)


def read_scores(
    who: str,
    outputs: ModelOutput,
    batch: Batch,
    *,
    ignore_index: int = -100,
    class_dim: int | None = None,
    shift: bool = False,
) -> Scores:
    """Line up a batch's outputs and labels, without looking at a value.

    Args:
        who: the metric, for messages.
        outputs: logits ``[batch, classes, …]`` as cross-entropy takes them, ``[batch, time, classes]`` as language
            models give them, or ``[batch, …]`` with one score of yes against no.
        batch: integer targets ``[batch, …]``; a mask of that shape, or of its beginning, leaves labels out.
        ignore_index: a label that does not count.
        class_dim: which dimension of the logits holds the classes; by default the one that the targets lack.
        shift: whether position ``t`` predicts target ``t + 1``.

    Raises:
        ValueError: targets are no labels, shapes do not fit, or more than one dimension could hold the classes.
    """
    logits, targets = outputs.logits, read_targets(batch)
    if targets.is_floating_point() or targets.is_complex():
        msg = f"{who}: needs class labels, but targets are {targets.dtype} of shape {list(targets.shape)}"
        raise ValueError(msg)
    if logits.shape != targets.shape:
        logits = logits.movedim(_class_dimension(who, logits, targets, class_dim), -1)
    kept = targets != ignore_index
    mask = target_mask(batch, targets)
    if mask is not None:
        kept = kept & mask
    if shift:
        logits, targets, kept = logits[:, :-1], targets[:, 1:], kept[:, 1:]
    return Scores(logits, targets, kept)


def _class_dimension(who: str, logits: Tensor, targets: Tensor, said: int | None) -> int:
    shape = list(logits.shape)
    candidates = {place for place in (1, logits.ndim - 1) if shape[:place] + shape[place + 1 :] == list(targets.shape)}
    if said is not None:
        candidates &= {said % logits.ndim}
    if len(candidates) == 1:
        return candidates.pop()
    if candidates:
        msg = f"{who}: outputs {shape} could have their classes on dimension 1 or the last; set class_dim = 1 or -1"
    else:
        msg = f"{who}: outputs have shape {shape} and targets {list(targets.shape)}; one dimension more must be classes"
    raise ValueError(msg)


def count_labels(labels: Tensor, kept: Tensor, num_classes: int) -> Tensor:
    """Count labels per class, without a device sync.

    Args:
        labels: integers, of any shape.
        kept: booleans of that shape: which of them count.
        num_classes: number of classes ``K``.

    Returns:
        int64 of shape ``[K + 1]``; the last counts labels that are no class.
    """
    outside = (labels < 0) | (labels >= num_classes)
    places = labels.long().where(~outside, num_classes).flatten()
    counts = torch.zeros(num_classes + 1, dtype=torch.int64, device=labels.device)
    return counts.scatter_add_(0, places, kept.flatten().long())
