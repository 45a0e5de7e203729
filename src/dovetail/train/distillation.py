"""Knowledge distillation: Hinton et al., «Distilling the knowledge in a neural network», 2015."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from attrs import evolve
from torch import nn

from dovetail.checkpoint.weights import load_weights
from dovetail.kernel.build import Part
from dovetail.losses.distillation import TEACHER_LOGITS, DistillationLoss
from dovetail.spec import Model
from dovetail.train.forward import Forward
from dovetail.train.trainer import StandardTrainer

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.losses.result import LossResult
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.train")


class DistillationTrainer(StandardTrainer):
    """Passes a teacher's logits for each training batch to the loss, as the output ``teacher_logits``.

    The run's model is the student. The teacher is frozen and not saved in checkpoints. Validation and test use the
    student alone.

    Args:
        teacher_model: the teacher.
        teacher_weights: a checkpoint's folder or a ``.safetensors`` file with the teacher's weights; None if
            ``teacher_model`` already has its weights, as an object passed from Python.

    Raises:
        CheckpointError: the weights cannot be read, or do not fit the teacher.
    """

    def __init__(self, teacher_model: Model, teacher_weights: Path | None = None) -> None:
        if not isinstance(teacher_model, nn.Module):
            raise TypeError(f"teacher_model: a model is a torch.nn.Module, got {type(teacher_model).__name__}")
        if teacher_weights is not None:
            load_weights(teacher_model, teacher_weights)
        self._has_weights = teacher_weights is not None
        self._teacher: nn.Module = teacher_model.requires_grad_(False).eval()
        self._teacher_forward: Forward | None = None

    def dovetail_run_start(self, run: Run) -> None:
        """Alert if the teacher was just built and has no trained weights."""
        teacher = run.config.trainer.options.get("teacher_model")
        if not self._has_weights and isinstance(teacher, Part) and teacher.registered is not None:
            run.alert(
                "teacher",
                f"trainer.teacher_weights is not set: unless '{teacher.name}' loads weights itself, the teacher is "
                "untrained, and the student learns from random outputs",
                cooldown=math.inf,
            )

    def compute_loss(self, run: Run, batch: Batch) -> LossResult:
        """Run the student and the teacher, and compute the loss to minimise."""
        if self._teacher_forward is None:
            self._teacher_forward = self._prepare(run)
        outputs = run.forward(batch)
        with torch.no_grad():
            teacher = self._teacher_forward(batch)
        extras = {**outputs.extras, TEACHER_LOGITS: teacher.logits}
        return run.criterion(evolve(outputs, extras=extras), batch)

    def _prepare(self, run: Run) -> Forward:
        """Move the teacher to the run's device, and warn if the loss does not read its logits."""
        loss: Any = run.parts.loss
        modules = loss.modules() if isinstance(loss, nn.Module) else ()
        if not any(isinstance(module, DistillationLoss) for module in modules):
            _logger.warning(
                "loss '%s' is not the distillation loss: unless it reads the output '%s' itself, the teacher has no "
                'effect; set loss.type = "distillation"',
                run.config.loss.name,
                TEACHER_LOGITS,
            )
        return Forward(self._teacher.to(run.device))
