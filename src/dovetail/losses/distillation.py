"""Knowledge distillation: Hinton, Vinyals and Dean, «Distilling the knowledge in a neural network», 2015."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.losses.result import LossResult, mean_of
from dovetail.losses.targets import LabelGuard, read_targets, target_mask, wide
from dovetail.pieces.criterion import create_criterion
from dovetail.spec.limits import Between, MoreThan

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput

#: Where a trainer puts what the teacher said, among a student's outputs.
TEACHER_LOGITS: Final = "teacher_logits"
_HARD: Final = {"cross_entropy": "ce", "label_smoothing": "label_smoothing", "focal": "focal"}


class DistillationLoss(nn.Module):
    """``alpha · T² · KL(teacher ‖ student) + (1 - alpha) · hard``, both probabilities softened by the temperature T.

    The factor T² keeps the soft part's gradient as large as it is at T = 1. The trainer ``distillation`` asks the
    teacher. In evaluation there is no teacher, and the loss is the hard part alone, so that students of different
    teachers can be compared.

    Args:
        temperature: T, above 0: the higher, the more of what the teacher thinks of the wrong classes is taught.
        alpha: share of the soft part, 0 to 1.
        hard_loss_type: what is made of the labels: ``"cross_entropy"``, ``"label_smoothing"`` (0.1) or ``"focal"``.
        ignore_index: a label that does not count, for either part.

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
            msg = f"temperature: must be above 0, got {temperature:g}"
            raise ValueError(msg)
        if not 0 <= alpha <= 1:
            msg = f"alpha: must be between 0 and 1, got {alpha:g}"
            raise ValueError(msg)
        if hard_loss_type not in _HARD:
            msg = f"hard_loss_type: {hard_loss_type!r} is not one of {', '.join(_HARD)}"
            raise ValueError(msg)
        self.temperature, self.alpha = temperature, alpha
        self.ignore_index = ignore_index
        self.hard = create_criterion(_HARD[hard_loss_type], reduction="none", ignore_index=ignore_index)
        self._guard = LabelGuard("distillation", ignore_index)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the mean over the labels that count; with a teacher, also the parts ``soft`` and ``hard``.

        Args:
            outputs: the student's logits ``[batch, classes, …]``, and the teacher's of that shape as
                ``extras["teacher_logits"]``; without these the hard part alone, in evaluation only.
            batch: integer targets ``[batch, …]``, or shares of each class in the logits' shape; a mask of the former
                shape, or of its beginning, leaves labels out.

        Raises:
            ValueError: shapes do not fit, a label is none of the classes, or while training there is no teacher.
        """
        student, targets = outputs.logits, read_targets(batch)
        teacher: Any = outputs.extras.get(TEACHER_LOGITS)
        if not isinstance(teacher, Tensor) and self.training:
            msg = 'distillation: the batch has no teacher\'s logits; set trainer.type = "distillation"'
            raise ValueError(msg)
        self._check(student, targets, teacher)
        hard_of = self._hard_of_shares if targets.is_floating_point() else self._hard_of_classes
        each, kept = hard_of(student, targets, batch)
        weight = kept.sum()
        hard = mean_of(each.where(kept, 0.0).sum(), weight)
        if not isinstance(teacher, Tensor):
            return LossResult(hard, {}, weight)
        soft = mean_of(self._soft(student, teacher).where(kept, 0.0).sum(), weight)
        return LossResult(self.alpha * soft + (1 - self.alpha) * hard, {"soft": soft, "hard": hard}, weight)

    def _hard_of_classes(self, student: Tensor, targets: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the hard loss of every label that is a class, and which count."""
        targets = targets.long()
        mask = target_mask(batch, targets)
        if mask is not None:
            targets = targets.where(mask, self.ignore_index)
        each = self._guard(lambda: self.hard(student, targets), targets, student.shape[1])
        return each, targets != self.ignore_index

    def _hard_of_shares(self, student: Tensor, targets: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the hard loss of every label that is a share of each class, and which count."""
        each: Tensor = self.hard(student, targets.to(student.dtype))
        mask = target_mask(batch, each)
        return each, torch.ones_like(each, dtype=torch.bool) if mask is None else mask

    def _soft(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return ``T² · KL(teacher ‖ student)`` of every label."""
        student = wide(student)
        wanted = F.log_softmax(teacher.detach().to(student.dtype) / self.temperature, dim=1)
        said = F.log_softmax(student / self.temperature, dim=1)
        return F.kl_div(said, wanted, reduction="none", log_target=True).sum(dim=1) * self.temperature**2

    def _check(self, student: Tensor, targets: Tensor, teacher: Any) -> None:
        shape = list(student.shape)
        wanted = shape if targets.is_floating_point() else [*shape[:1], *shape[2:]]
        if student.ndim < len(("batch", "classes")) or list(targets.shape) != wanted:
            msg = (
                f"distillation: outputs have shape {shape}, targets {list(targets.shape)} of {targets.dtype}; it needs "
                f"[batch, classes, …] and integer labels without the classes, or shares of the classes in that shape"
            )
            raise ValueError(msg)
        if isinstance(teacher, Tensor) and teacher.shape != student.shape:
            msg = f"distillation: the student's outputs have shape {shape}, the teacher's {list(teacher.shape)}"
            raise ValueError(msg)
