"""Knowledge distillation: Hinton, Vinyals and Dean, «Distilling the knowledge in a neural network», 2015."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.losses.classification import LabelSmoothingCrossEntropy
from dovetail.losses.focal import FocalLoss
from dovetail.losses.result import LossResult, safe_mean
from dovetail.losses.targets import LabelGuard, at_least_float32, read_targets, target_mask
from dovetail.spec import Between, MoreThan

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput

#: The key of the teacher's logits in the extras of a student's outputs; the trainer sets it.
TEACHER_LOGITS: Final = "teacher_logits"
_HARD_LOSSES: Final = {
    "cross_entropy": nn.CrossEntropyLoss,
    "label_smoothing": LabelSmoothingCrossEntropy,
    "focal": FocalLoss,
}


class DistillationLoss(nn.Module):
    """``alpha · T² · KL(teacher ‖ student) + (1 - alpha) · hard``, both distributions softened by the temperature T.

    The factor T² keeps the gradient of the soft part as large as at T = 1. The trainer ``distillation`` runs the
    teacher. In evaluation there is no teacher, and the loss is the hard part alone, so that students of different
    teachers can be compared.

    Args:
        temperature: T, above 0: the higher, the more the student learns of the teacher's probabilities for the wrong
            classes.
        alpha: fraction of the soft part, 0 to 1.
        hard_loss_type: the loss of the labels: ``"cross_entropy"``, ``"label_smoothing"`` (0.1) or ``"focal"``.
        ignore_index: a label that counts in neither part.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(
        self,
        temperature: Annotated[float, MoreThan(0)] = 4.0,
        alpha: Annotated[float, Between(0, 1)] = 0.7,
        hard_loss_type: Literal["cross_entropy", "label_smoothing", "focal"] = "cross_entropy",
        *,
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature: must be above 0, got {temperature:g}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha: must be between 0 and 1, got {alpha:g}")
        if hard_loss_type not in _HARD_LOSSES:
            raise ValueError(f"hard_loss_type: {hard_loss_type!r} is not one of {', '.join(_HARD_LOSSES)}")
        self.temperature, self.alpha = temperature, alpha
        self.ignore_index = ignore_index
        self.hard: nn.Module = _HARD_LOSSES[hard_loss_type](reduction="none", ignore_index=ignore_index)
        self._guard = LabelGuard("distillation", ignore_index)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the mean over the labels that count; with a teacher, also the parts ``soft`` and ``hard``.

        Args:
            outputs: the student's logits ``[batch, classes, …]``, and the teacher's logits of that shape as
                ``extras["teacher_logits"]``. Without a teacher, in evaluation only, the loss is the hard part.
            batch: integer targets ``[batch, …]``, or class probabilities of the logits' shape; a mask of the integer
                targets' shape, or of a prefix of it, leaves labels out.

        Raises:
            ValueError: shapes do not fit, a label is out of range, or there is no teacher in training.
        """
        student, targets = outputs.logits, read_targets(batch)
        teacher: Any = outputs.extras.get(TEACHER_LOGITS)
        if not isinstance(teacher, Tensor) and self.training:
            raise ValueError('distillation: the batch has no teacher\'s logits; set trainer.type = "distillation"')
        self._check(student, targets, teacher)
        hard_loss = self._hard_of_probabilities if targets.is_floating_point() else self._hard_of_labels
        each, kept = hard_loss(student, targets, batch)
        weight = kept.sum()
        hard = safe_mean(each.where(kept, 0.0).sum(), weight)
        if not isinstance(teacher, Tensor):
            return LossResult(hard, {}, weight)
        soft = safe_mean(self._soft(student, teacher).where(kept, 0.0).sum(), weight)
        return LossResult(self.alpha * soft + (1 - self.alpha) * hard, {"soft": soft, "hard": hard}, weight)

    def _hard_of_labels(self, student: Tensor, targets: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the hard loss of each integer label, and which labels count."""
        targets = targets.long()
        mask = target_mask(batch, targets)
        if mask is not None:
            targets = targets.where(mask, self.ignore_index)
        each = self._guard(lambda: self.hard(student, targets), targets, student.shape[1])
        return each, targets != self.ignore_index

    def _hard_of_probabilities(self, student: Tensor, targets: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the hard loss of each distribution over the classes, and which of them count."""
        each: Tensor = self.hard(student, targets.to(student.dtype))
        mask = target_mask(batch, each)
        return each, torch.ones_like(each, dtype=torch.bool) if mask is None else mask

    def _soft(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return ``T² · KL(teacher ‖ student)`` of each label."""
        student = at_least_float32(student)
        log_teacher = F.log_softmax(teacher.detach().to(student.dtype) / self.temperature, dim=1)
        log_student = F.log_softmax(student / self.temperature, dim=1)
        return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=1) * self.temperature**2

    def _check(self, student: Tensor, targets: Tensor, teacher: Any) -> None:
        shape = list(student.shape)
        wanted = shape if targets.is_floating_point() else [*shape[:1], *shape[2:]]
        if student.ndim < len(("batch", "classes")) or list(targets.shape) != wanted:
            raise ValueError(
                f"distillation: outputs have shape {shape}, targets {list(targets.shape)} of {targets.dtype}; it needs "
                "[batch, classes, …] and integer labels without the classes, or class probabilities of that shape"
            )
        if isinstance(teacher, Tensor) and teacher.shape != student.shape:
            raise ValueError(
                f"distillation: the student's outputs have shape {shape}, the teacher's {list(teacher.shape)}"
            )
