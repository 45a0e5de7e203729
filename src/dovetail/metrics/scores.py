"""Class scores, true labels and masks, read from a model's outputs and a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dovetail.losses.targets import read_targets, target_mask

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput


class Scores(NamedTuple):
    """Class scores with the classes on the last dimension, the true labels, and which of these count."""

    #: ``[…, classes]``, or the labels' shape for binary scores.
    logits: Tensor
    targets: Tensor
    #: Booleans of the labels' shape; None for all.
    mask: Tensor | None
    #: A label that does not count.
    ignore_index: int

    @property
    def kept(self) -> Tensor:
        """Which labels count: booleans of the labels' shape."""
        kept = self.targets != self.ignore_index
        return kept if self.mask is None else kept & self.mask

    @property
    def binary(self) -> bool:
        """Whether there is one score per label; above 0 predicts class 1."""
        return self.logits.shape == self.targets.shape

    @property
    def num_classes(self) -> int:
        """How many classes the scores are of."""
        return 2 if self.binary else self.logits.shape[-1]

    def predictions(self) -> Tensor:
        """Return the predicted labels, of the shape of the true ones."""
        return (self.logits > 0).long() if self.binary else self.logits.argmax(dim=-1)


class ScoreReader:
    """Aligns the outputs and labels of each batch without reading a value.

    It finds the dimension of the classes from shapes, once: it reads a later batch whose texts happen to be as long as
    there are classes in the same way as the earlier ones.

    Args:
        metric: the metric's name, for messages.
        ignore_index: a label that does not count.
        class_dim: the dimension of the logits that holds the classes; by default the one that the targets lack.
        shift: whether position ``t`` predicts target ``t + 1``.
    """

    def __init__(self, metric: str, ignore_index: int, class_dim: int | None, *, shift: bool = False) -> None:
        self._metric = metric
        self._ignore_index = ignore_index
        self._class_dim = class_dim
        self._shift = shift
        # Of the last batch: the shapes of logits and targets, and the dimension of the classes, None for binary scores.
        self._shapes: tuple[torch.Size, torch.Size] | None = None
        self._dim: int | None = None

    def __call__(self, outputs: ModelOutput, batch: Batch) -> Scores:
        """Return the scores of one batch.

        Args:
            outputs: logits ``[batch, classes, …]`` as cross-entropy takes them, ``[batch, time, classes]`` as language
                models return them, or ``[batch, …]`` with binary scores.
            batch: integer targets ``[batch, …]``; a mask of that shape, or of a prefix of it, leaves labels out.

        Raises:
            ValueError: targets are not labels, shapes do not fit, or either of two dimensions could hold the classes.
        """
        logits, targets = outputs.logits, read_targets(batch)
        if targets.is_floating_point() or targets.is_complex():
            raise ValueError(
                f"{self._metric}: needs class labels, but targets are {targets.dtype} of shape {list(targets.shape)}"
            )
        shapes = logits.shape, targets.shape
        if shapes != self._shapes:
            self._dim = None if shapes[0] == shapes[1] else self._class_dimension(logits, targets)
            self._shapes = shapes
        if self._dim is not None and self._dim not in {-1, len(shapes[0]) - 1}:
            logits = logits.movedim(self._dim, -1)
        mask = target_mask(batch, targets)
        if self._shift:
            logits, targets, mask = logits[:, :-1], targets[:, 1:], None if mask is None else mask[:, 1:]
        return Scores(logits, targets, mask, self._ignore_index)

    def _class_dimension(self, logits: Tensor, targets: Tensor) -> int:
        shape = list(logits.shape)
        fitting = [dim for dim in (1, -1) if _without(shape, dim) == list(targets.shape)]
        if self._class_dim is not None and logits.ndim > len(("batch", "classes")):
            fitting = [dim for dim in fitting if dim % logits.ndim == self._class_dim % logits.ndim]
        if not fitting:
            raise ValueError(
                f"{self._metric}: outputs have shape {shape} and targets {list(targets.shape)}; "
                "outputs need the targets' shape and one more dimension, for the classes"
            )
        if logits.ndim > len(("batch", "classes")):
            if len(fitting) > 1:
                raise ValueError(
                    f"{self._metric}: outputs of shape {shape} could have their classes on dimension 1 or on the last; "
                    "set class_dim = 1 or -1"
                )
            self._class_dim = fitting[0]
        return fitting[0]


def _without(shape: list[int], dim: int) -> list[int]:
    return [size for place, size in enumerate(shape) if place != dim % len(shape)]


def count_labels(labels: Tensor, kept: Tensor, num_classes: int) -> Tensor:
    """Count labels per class, without a device sync.

    Args:
        labels: integers of any shape.
        kept: which of them count, as booleans of that shape.
        num_classes: number of classes ``K``.

    Returns:
        int64 of shape ``[K + 1]``; the last number counts labels that are out of range.
    """
    outside = (labels < 0) | (labels >= num_classes)
    places = labels.long().where(~outside, num_classes).flatten()
    counts = torch.zeros(num_classes + 1, dtype=torch.int64, device=labels.device)
    return counts.scatter_add_(0, places, kept.flatten().long())
