"""Training a student on what a teacher says: Hinton et al., «Distilling the knowledge in a neural network», 2015."""

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
    """Shows the loss what a teacher makes of each training batch, as the output ``teacher_logits``.

    The run's model is the student. The teacher never trains, and is no part of a checkpoint. Validation and test are
    the student's alone.

    Args:
        teacher_model: the teacher.
        teacher_weights: a checkpoint's folder or a ``.safetensors`` file with its weights; None for a teacher that has
            them already, such as an object from Python.

    Raises:
        CheckpointError: the weights cannot be read, or are not those of such a teacher.
    """

    def __init__(self, teacher_model: Model, teacher_weights: Path | None = None) -> None:
        if not isinstance(teacher_model, nn.Module):
            msg = f"teacher_model: a model is a torch.nn.Module, got {type(teacher_model).__name__}"
            raise TypeError(msg)
        if teacher_weights is not None:
            load_weights(teacher_model, teacher_weights)
        self._has_weights = teacher_weights is not None
        self._teacher: nn.Module = teacher_model.requires_grad_(False).eval()
        self._ask: Forward | None = None

    def dovetail_run_start(self, run: Run) -> None:
        """Say so where the teacher has just been made and been given no weights."""
        teacher = run.config.trainer.options.get("teacher_model")
        if not self._has_weights and isinstance(teacher, Part) and teacher.registered is not None:
            run.alert(
                "teacher",
                f"trainer.teacher_weights is not set: unless '{teacher.name}' brings weights of its own, the teacher "
                "knows nothing, and the student learns that",
                cooldown=math.inf,
            )

    def compute_loss(self, run: Run, batch: Batch) -> LossResult:
        """Run student and teacher forward and compute the loss to minimise."""
        if self._ask is None:
            self._ask = self._prepare(run)
        outputs = run.forward(batch)
        with torch.no_grad():
            teacher = self._ask(batch)
        extras = {**outputs.extras, TEACHER_LOGITS: teacher.logits}
        return run.criterion(evolve(outputs, extras=extras), batch)

    def _prepare(self, run: Run) -> Forward:
        """Move the teacher to the run's device, and look whether anybody listens to it."""
        loss: Any = run.parts.loss
        modules = loss.modules() if isinstance(loss, nn.Module) else ()
        if not any(isinstance(one, DistillationLoss) for one in modules):
            _logger.warning(
                "loss '%s' is not the distillation loss: unless it reads the output '%s' itself, the teacher teaches "
                'nothing; set loss.type = "distillation"',
                run.config.loss.name,
                TEACHER_LOGITS,
            )
        return Forward(self._teacher.to(run.device))
