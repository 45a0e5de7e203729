"""Accumulation of gradients in a loop written by hand: when to update, clipping, and what came of it."""

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
    """What accumulation came to so far."""

    #: Backward passes.
    global_step: int = 0
    #: Optimizer updates.
    effective_step: int = 0
    #: The sum of the losses since the last update, where they were given.
    accumulated_loss: float = 0.0
    #: The 2-norm of all gradients before and after the last clipping.
    norm_before_clip: float = 0.0
    norm_after_clip: float = 0.0
    #: Trainable parameters.
    num_parameters: int = 0


class GradientAccumulator:
    """Says when to update after several backward passes, and clips the gradients before it.

    Where batches are of one size, divide each loss by ``accumulation_steps`` before ``backward()``. Where they are not,
    use :class:`~dovetail.pieces.loop.TrainingLoop`, which averages exactly.

    Args:
        accumulation_steps: backward passes to an update.
        max_gradient_norm: what gradients are clipped to; None leaves them.
        clip_by_global_norm: clip the 2-norm of all gradients together, or else that of each parameter's.

    Raises:
        ValueError: ``accumulation_steps`` is no whole number from 1 on, or ``max_gradient_norm`` is not above 0.
    """

    def __init__(
        self,
        accumulation_steps: int = 1,
        max_gradient_norm: float | None = 1.0,
        clip_by_global_norm: bool = True,  # noqa: FBT001, FBT002 (the documents' signature)
    ) -> None:
        steps: Any = accumulation_steps
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"accumulation_steps must be a whole number from 1 on, got {steps!r}")
        if max_gradient_norm is not None and not max_gradient_norm > 0:
            raise ValueError(f"max_gradient_norm must be above 0, got {max_gradient_norm}")
        self.accumulation_steps, self.max_gradient_norm = accumulation_steps, max_gradient_norm
        self.clip_by_global_norm = clip_by_global_norm
        self._stats = AccumulationStats()
        # Of the last update of a loop that counts itself: what clipped it, and to what.
        self._clipped: tuple[Gradients, float] | None = None

    def should_update_optimizer(self, step: int, loss: torch.Tensor | float | None = None) -> bool:
        """Say whether the update is due after the backward pass number ``step``, counted from 0.

        Args:
            step: of the epoch, or of the whole training where it is not to begin anew with each epoch.
            loss: of this batch, for :meth:`get_statistics`; reading a tensor waits for the device.
        """
        due = (step + 1) % self.accumulation_steps == 0
        before = self._stats.accumulated_loss if step % self.accumulation_steps else 0.0
        self._stats = attrs.evolve(
            self._stats,
            global_step=self._stats.global_step + 1,
            effective_step=self._stats.effective_step + due,
            accumulated_loss=before + _number(loss),
        )
        return due

    def updated(self, batches: int, gradients: Gradients, limit: float | None) -> None:
        """Note an update, for a loop that counts itself. Nothing is read back until somebody asks.

        Args:
            batches: backward passes that it was made from.
            gradients: what it was made of.
            limit: what they were clipped to.
        """
        done, self._clipped = self._stats, (gradients, math.inf if limit is None else limit)
        self._stats = attrs.evolve(
            done, global_step=done.global_step + batches, effective_step=done.effective_step + 1, accumulated_loss=0.0
        )

    def get_effective_step(self, global_step: int) -> int:
        """Return ``global_step // accumulation_steps``: the update, counted from 0, that the batch belongs to."""
        return global_step // self.accumulation_steps

    def clip_gradients(self, model: nn.Module) -> float:
        """Clip the gradients of ``model``, and return the norm of all together before. Waits for the device."""
        trained = [one for one in model.parameters() if one.requires_grad]
        grads = [one.grad for one in trained if one.grad is not None]
        before = float(get_total_norm(grads))
        if self.max_gradient_norm is not None:
            for group in [trained] if self.clip_by_global_norm else [[one] for one in trained]:
                clip_grad_norm_(group, self.max_gradient_norm)
        self._stats = attrs.evolve(
            self._stats,
            norm_before_clip=before,
            norm_after_clip=float(get_total_norm(grads)),
            num_parameters=sum(one.numel() for one in trained),
        )
        return before

    @property
    def clip_by(self) -> ClipBy:
        """What the limit is a limit of: ``"norm"``, of all gradients, or ``"parameter"``, of each one's."""
        return "norm" if self.clip_by_global_norm else "parameter"

    def get_statistics(self) -> dict[str, Any]:
        """Return the fields of :class:`AccumulationStats` by name, and the norms as ``norm_before``, ``norm_after``."""
        stats = attrs.asdict(self.stats)
        return {**stats, "norm_before": stats["norm_before_clip"], "norm_after": stats["norm_after_clip"]}

    @property
    def stats(self) -> AccumulationStats:
        """What accumulation came to so far; the norms stay 0 where gradients are not clipped."""
        if self._clipped is None:
            return self._stats
        gradients, limit = self._clipped
        parameters = sum(one.numel() for one in gradients.measured())
        if gradients.norms is None:
            return attrs.evolve(self._stats, num_parameters=parameters)
        norms = gradients.norms.double()
        before = norms.norm()
        after = before.clamp(max=limit) if self.clip_by_global_norm else norms.clamp(max=limit).norm()
        return attrs.evolve(
            self._stats, norm_before_clip=float(before), norm_after_clip=float(after), num_parameters=parameters
        )


def _number(loss: torch.Tensor | float | None) -> float:
    return float(loss.item() if isinstance(loss, torch.Tensor) else loss or 0.0)
