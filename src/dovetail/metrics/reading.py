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
    """Class scores with their classes on the last dimension, the true labels, and what says which of them count."""

    #: ``[…, classes]``, or the labels' shape for one score of yes against no.
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
        """Whether there is one score per label: above 0 says class 1."""
        return self.logits.shape == self.targets.shape

    @property
    def num_classes(self) -> int:
        """How many classes the scores tell apart."""
        return 2 if self.binary else self.logits.shape[-1]

    def predictions(self) -> Tensor:
        """Return the predicted labels, of the shape of the true ones."""
        return (self.logits > 0).long() if self.binary else self.logits.argmax(dim=-1)


class ScoreReader:
    """Lines up the outputs and labels of batch after batch, without looking at a value.

    Where the classes are is found from shapes, once: a later batch whose texts happen to be as long as there are
    classes is read as those before it.

    Args:
        who: the metric, for messages.
        ignore_index: a label that does not count.
        class_dim: which dimension of the logits holds the classes; by default the one that the targets lack.
        shift: whether position ``t`` predicts target ``t + 1``.
    """

    def __init__(self, who: str, ignore_index: int, class_dim: int | None, *, shift: bool = False) -> None:
        self._who = who
        self._ignore_index = ignore_index
        self._class_dim = class_dim
        self._shift = shift
        # Of the last batch: the shapes of logits and targets, and which dimension holds the classes; None for none.
        self._shapes: tuple[torch.Size, torch.Size] | None = None
        self._dim: int | None = None

    def __call__(self, outputs: ModelOutput, batch: Batch) -> Scores:
        """Read one batch.

        Args:
            outputs: logits ``[batch, classes, …]`` as cross-entropy takes them, ``[batch, time, classes]`` as language
                models give them, or ``[batch, …]`` with one score of yes against no.
            batch: integer targets ``[batch, …]``; a mask of that shape, or of its beginning, leaves labels out.

        Raises:
            ValueError: targets are no labels, shapes do not fit, or either of two dimensions could hold the classes.
        """
        logits, targets = outputs.logits, read_targets(batch)
        if targets.is_floating_point() or targets.is_complex():
            msg = f"{self._who}: needs class labels, but targets are {targets.dtype} of shape {list(targets.shape)}"
            raise ValueError(msg)
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
            got = f"outputs have shape {shape} and targets {list(targets.shape)}"
            msg = f"{self._who}: {got}; one dimension more must be classes"
            raise ValueError(msg)
        if logits.ndim > len(("batch", "classes")):
            if len(fitting) > 1:
                could = "could have their classes on dimension 1 or on the last"
                msg = f"{self._who}: outputs of shape {shape} {could}; set class_dim = 1 or -1"
                raise ValueError(msg)
            self._class_dim = fitting[0]
        return fitting[0]


def _without(shape: list[int], dim: int) -> list[int]:
    return [size for place, size in enumerate(shape) if place != dim % len(shape)]


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
