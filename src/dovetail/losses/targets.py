"""Precision of scores, masks of targets, and checks of labels."""

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
        ValueError: the batch has no targets, or they are not a tensor.
    """
    targets: object = batch.get("targets")
    if not isinstance(targets, Tensor):
        missing = targets is None
        got = "has no 'targets'" if missing else f"has targets of {type(targets).__name__}, not a tensor"
        keys = ", ".join(sorted(batch)) or "nothing"
        raise ValueError(f"the batch {got}; it has {keys}")  # noqa: TRY004 (a collator's output is a value)
    return targets


def target_mask(batch: Batch, targets: Tensor) -> Tensor | None:
    """Return the batch's mask as booleans of the targets' shape, or None if no mask applies to the targets.

    A mask applies to the targets if its shape is a prefix of theirs: one flag per sample, or one per position of a
    sequence. Any other mask, such as ``[batch, time]`` beside targets of shape ``[batch]``, applies to the inputs.
    """
    mask = batch.get("mask")
    if mask is None or mask.shape != targets.shape[: mask.ndim]:
        return None
    return mask.bool().reshape(mask.shape + (1,) * (targets.ndim - mask.ndim)).expand(targets.shape)


def at_least_float32(scores: Tensor) -> Tensor:
    """Return half-precision scores as float32, others unchanged. On the CPU, autocast leaves softmax in half."""
    return scores.float() if scores.dtype.itemsize < torch.float32.itemsize else scores


def check_labels(name: str, targets: Tensor, num_classes: int, ignore_index: int | None = None) -> None:
    """Raise ValueError naming the first label that is not a class. Syncs with the device.

    Args:
        name: the loss or metric, for messages.
        targets: integer labels of any shape.
        num_classes: number of classes; labels are 0 to ``num_classes - 1``.
        ignore_index: a further label that is allowed.
    """
    outside = (targets < 0) | (targets >= num_classes)
    if ignore_index is not None:
        outside &= targets != ignore_index
    wrong = targets[outside]
    if wrong.numel():
        raise ValueError(
            f"{name}: label {int(wrong[0])} is out of range for {num_classes} classes, 0 to {num_classes - 1}"
        )


class LabelGuard:
    """Turns a label out of range into one clear error, without a device sync per step.

    On the CPU torch raises for such a label, and only then does the guard read the labels. On other devices the kernel
    would abort the process, so there the guard reads the labels of the first batch before it is computed: the first in
    training, and the first in evaluation.
    """

    def __init__(self, name: str, ignore_index: int) -> None:
        self._name = name
        self._ignore_index = ignore_index
        #: Whether gradients were enabled for the batches that were checked.
        self._checked: set[bool] = set()

    def __call__(self, compute: Callable[[], Tensor], targets: Tensor, num_classes: int) -> Tensor:
        """Return ``compute()``.

        Raises:
            ValueError: a label is out of range.
        """
        if targets.is_cpu:
            try:
                return compute()
            except (IndexError, RuntimeError):
                check_labels(self._name, targets, num_classes, self._ignore_index)
                raise
        self.check(targets, num_classes)
        return compute()

    def check(self, targets: Tensor, num_classes: int) -> None:
        """Check labels for which torch would not raise: every batch on the CPU, only first batches on other devices.

        Raises:
            ValueError: a label is out of range.
        """
        training = torch.is_grad_enabled()
        if targets.is_cpu or training not in self._checked:
            check_labels(self._name, targets, num_classes, self._ignore_index)
            self._checked.add(training)
