"""Gradient accumulation in a loop of your own: when to update, clipping, and statistics."""

from __future__ import annotations

import math
from typing import Any

import attrs
import torch
from attrs import frozen
from torch import nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

from dovetail.train.clipping import ClipBy
from dovetail.train.gradients import Gradients


@frozen
class AccumulationStats:
    """Counts and gradient norms so far."""

    #: Backward passes.
    global_step: int = 0
    #: Optimizer updates.
    effective_step: int = 0
    #: The sum of the losses since the last update, if the loop passed them.
    accumulated_loss: float = 0.0
    #: The 2-norm of all gradients before and after the last clipping.
    norm_before_clip: float = 0.0
    norm_after_clip: float = 0.0
    #: Trainable parameters.
    num_parameters: int = 0


class GradientAccumulator:
    """Decides after which backward passes to update, and clips the gradients.

    If all batches have the same size, divide each loss by ``accumulation_steps`` before ``backward()``. Otherwise use
    :class:`~dovetail.TrainingLoop`, which averages exactly.

    Args:
        accumulation_steps: backward passes per update, at least 1.
        max_gradient_norm: the limit that gradients are clipped to, > 0; None does not clip.
        clip_by_global_norm: whether the limit applies to the 2-norm of all gradients together, or to that of each
            parameter's gradient.

    Raises:
        ValueError: a number is out of range, or ``accumulation_steps`` is not an integer.
    """

    def __init__(
        self,
        accumulation_steps: int = 1,
        max_gradient_norm: float | None = 1.0,
        clip_by_global_norm: bool = True,  # noqa: FBT001, FBT002 (the documented signature)
    ) -> None:
        steps: Any = accumulation_steps
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"accumulation_steps must be an integer of at least 1, got {steps!r}")
        if max_gradient_norm is not None and not max_gradient_norm > 0:
            raise ValueError(f"max_gradient_norm must be above 0, got {max_gradient_norm}")
        self.accumulation_steps, self.max_gradient_norm = accumulation_steps, max_gradient_norm
        self.clip_by_global_norm = clip_by_global_norm
        self._stats = AccumulationStats()
        # From record_update: the gradients of the last update, and their limit.
        self._recorded: tuple[Gradients, float] | None = None

    def should_update_optimizer(self, step: int, loss: torch.Tensor | float | None = None) -> bool:
        """Return whether to update after this backward pass.

        Args:
            step: the zero-based index of the backward pass, in the epoch or in the whole training.
            loss: the loss of this batch, for :meth:`get_statistics`; reading a tensor waits for the device.
        """
        due = (step + 1) % self.accumulation_steps == 0
        earlier = self._stats.accumulated_loss if step % self.accumulation_steps else 0.0
        self._stats = attrs.evolve(
            self._stats,
            global_step=self._stats.global_step + 1,
            effective_step=self._stats.effective_step + due,
            accumulated_loss=earlier + _to_float(loss),
        )
        return due

    def record_update(self, batches: int, gradients: Gradients, limit: float | None) -> None:
        """Record an update in the statistics; for a loop that counts and clips by itself.

        Nothing is read from the device until :attr:`stats` is used.

        Args:
            batches: the number of backward passes.
            gradients: the gradients of the update.
            limit: the limit that they were clipped to; None if they were not clipped.
        """
        self._recorded = gradients, math.inf if limit is None else limit
        self._stats = attrs.evolve(
            self._stats,
            global_step=self._stats.global_step + batches,
            effective_step=self._stats.effective_step + 1,
            accumulated_loss=0.0,
        )

    def get_effective_step(self, global_step: int) -> int:
        """Return the zero-based index of a batch's update, ``global_step // accumulation_steps``."""
        return global_step // self.accumulation_steps

    def clip_gradients(self, model: nn.Module) -> float:
        """Clip the gradients of ``model``, and return their total 2-norm before. Waits for the device."""
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = [parameter.grad for parameter in trainable if parameter.grad is not None]
        before = float(get_total_norm(gradients))
        if self.max_gradient_norm is not None:
            for group in [trainable] if self.clip_by_global_norm else [[parameter] for parameter in trainable]:
                clip_grad_norm_(group, self.max_gradient_norm)
        self._stats = attrs.evolve(
            self._stats,
            norm_before_clip=before,
            norm_after_clip=float(get_total_norm(gradients)),
            num_parameters=sum(parameter.numel() for parameter in trainable),
        )
        return before

    @property
    def clip_by(self) -> ClipBy:
        """What the limit applies to: ``"norm"``, of all gradients together, or ``"parameter"``, of each alone."""
        return "norm" if self.clip_by_global_norm else "parameter"

    def get_statistics(self) -> dict[str, Any]:
        """Return the fields of :class:`AccumulationStats`, and the norms also as ``norm_before`` and ``norm_after``."""
        stats = attrs.asdict(self.stats)
        return {**stats, "norm_before": stats["norm_before_clip"], "norm_after": stats["norm_after_clip"]}

    @property
    def stats(self) -> AccumulationStats:
        """The statistics so far; the norms are 0 if gradients are not clipped."""
        if self._recorded is None:
            return self._stats
        gradients, limit = self._recorded
        parameters = sum(parameter.numel() for parameter in gradients.measured())
        if gradients.norms is None:
            return attrs.evolve(self._stats, num_parameters=parameters)
        norms = gradients.norms.double()
        before = norms.norm()
        after = before.clamp(max=limit) if self.clip_by_global_norm else norms.clamp(max=limit).norm()
        return attrs.evolve(
            self._stats, norm_before_clip=float(before), norm_after_clip=float(after), num_parameters=parameters
        )


def _to_float(loss: torch.Tensor | float | None) -> float:
    return float(loss.item() if isinstance(loss, torch.Tensor) else loss or 0.0)
