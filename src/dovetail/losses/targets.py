"""Reading scores and targets: in which precision, which of them count, and whether their labels exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from dovetail.data.batch import Batch


def read_targets(batch: Batch) -> Tensor:
    """Return the batch's targets.

    Raises:
        ValueError: the batch has none, or they are not a tensor.
    """
    targets: object = batch.get("targets")
    if not isinstance(targets, Tensor):
        missing = targets is None
        got = "has no 'targets'" if missing else f"has targets of {type(targets).__name__}, not a tensor"
        msg = f"the batch {got}; it has {', '.join(sorted(batch)) or 'nothing'}"
        raise ValueError(msg)  # noqa: TRY004 (what the collator made is a value, not an argument of the wrong type)
    return targets


def target_mask(batch: Batch, targets: Tensor) -> Tensor | None:
    """Return the batch's mask as booleans where it speaks of the targets, else None.

    A mask speaks of the targets when its shape is the beginning of theirs: one flag per sample, or one per
    position of a sequence. Any other mask, such as ``[batch, time]`` beside targets of shape ``[batch]``, is
    about the inputs.
    """
    mask = batch.get("mask")
    if mask is None or mask.shape != targets.shape[: mask.ndim]:
        return None
    return mask.bool().reshape(mask.shape + (1,) * (targets.ndim - mask.ndim)).expand(targets.shape)


def wide(scores: Tensor) -> Tensor:
    """Return half-precision scores in single precision: on the CPU autocast leaves a softmax in half precision."""
    return scores.float() if scores.dtype.itemsize < torch.float32.itemsize else scores


def check_labels(who: str, targets: Tensor, num_classes: int, ignore_index: int | None = None) -> None:
    """Raise if a label is none of the classes. Reads values, so on a GPU it waits for the device.

    Raises:
        ValueError: names the first such label.
    """
    outside = (targets < 0) | (targets >= num_classes)
    if ignore_index is not None:
        outside &= targets != ignore_index
    wrong = targets[outside]
    if wrong.numel():
        msg = f"{who}: label {int(wrong[0])} is out of range for {num_classes} classes, 0 to {num_classes - 1}"
        raise ValueError(msg)


class LabelGuard:
    """Turns a label outside the classes into one clear error, without a device sync per step.

    On the CPU torch refuses such a label itself, and only then are the labels looked at. Elsewhere a kernel
    would abort the whole process, so there the labels of the first batch are looked at before it: the first of
    training, and the first of evaluation.
    """

    def __init__(self, who: str, ignore_index: int) -> None:
        self._who = who
        self._ignore_index = ignore_index
        #: Whether gradients were wanted of the batches that were looked at.
        self._seen: set[bool] = set()

    def __call__(self, compute: Callable[[], Tensor], targets: Tensor, num_classes: int) -> Tensor:
        """Return ``compute()``.

        Raises:
            ValueError: a label is out of range.
        """
        if targets.is_cpu:
            try:
                return compute()
            except (IndexError, RuntimeError):
                check_labels(self._who, targets, num_classes, self._ignore_index)
                raise
        self.look(targets, num_classes)
        return compute()

    def look(self, targets: Tensor, num_classes: int) -> None:
        """Look at labels that torch would not refuse: on the CPU at all of them, elsewhere at those of a first batch.

        Raises:
            ValueError: a label is out of range.
        """
        training = torch.is_grad_enabled()
        if targets.is_cpu or training not in self._seen:
            check_labels(self._who, targets, num_classes, self._ignore_index)
            self._seen.add(training)
