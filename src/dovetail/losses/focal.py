"""Focal loss: Lin et al., «Focal loss for dense object detection», 2017, for any number of classes."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.losses.class_weights import read_class_weights
from dovetail.losses.targets import at_least_float32
from dovetail.spec import AtLeast, Provided


class FocalLoss(nn.Module):
    """Cross-entropy times ``(1 - p)^gamma``, where ``p`` is the predicted probability of the right class.

    Samples that the model already gets right count little, so that they do not drown rare and hard ones. With
    ``gamma = 0`` and no ``alpha`` it is cross-entropy. With class probabilities ``q`` as targets it is
    ``-Σ q · alpha · (1 - p)^gamma · log p``.

    Args:
        alpha: one factor for all classes, one factor ≥ 0 per class, ``"balanced"`` (inverse class frequency in the
            training split), or None for 1. The mean is over samples, not over alpha, so alpha rescales the loss.
        gamma: how strongly easy samples are down-weighted, ≥ 0.
        reduction: ``"mean"`` is over the labels that count; a run averages ``"none"`` to the same value, and refuses
            ``"sum"``.
        ignore_index: a label that does not count.
        class_counts: training samples per class; the run provides them.

    Raises:
        ValueError: ``gamma`` or an ``alpha`` is negative, or ``alpha`` is ``"balanced"`` and the counts are unknown.
    """

    alpha: Tensor | None

    def __init__(
        self,
        alpha: float | list[float] | Literal["balanced"] | Tensor | None = None,
        gamma: Annotated[float, AtLeast(0)] = 2.0,
        reduction: Literal["mean", "none", "sum"] = "mean",
        *,
        ignore_index: int = -100,
        class_counts: Annotated[list[int] | None, Provided] = None,
    ) -> None:
        super().__init__()
        if reduction not in {"mean", "none", "sum"}:
            raise ValueError(f"reduction: {reduction!r} is not one of mean, none, sum")
        if gamma < 0:
            raise ValueError(f"gamma: must be at least 0, got {gamma:g}")
        if isinstance(alpha, Tensor) and not alpha.ndim:
            alpha = float(alpha)
        each = [float(alpha)] if isinstance(alpha, int | float) else alpha
        factors = read_class_weights("alpha", each, class_counts)
        # The config holds the factors, so no checkpoint does.
        self.register_buffer("alpha", factors, persistent=False)
        self.gamma = gamma
        self.reduction = reduction
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 (torch's own name for it)
        """Return the loss.

        Args:
            input: logits ``[batch, classes, …]``.
            target: labels ``[batch, …]``, or class probabilities of the logits' shape.

        Raises:
            ValueError: ``alpha`` does not have one factor per class.
        """
        classes = input.shape[1]
        if self.alpha is not None and len(self.alpha) not in {1, classes}:
            raise ValueError(f"alpha: has {len(self.alpha)} factors, but the model has {classes} classes")
        log_p = F.log_softmax(at_least_float32(input), dim=1)
        soft = target.is_floating_point()
        loss = self._soft(log_p, target) if soft else self._hard(log_p, target)
        if self.reduction == "none":
            return loss
        if self.reduction == "sum":
            return loss.sum()
        return loss.mean() if soft else loss.sum() / (target != self.ignore_index).sum().clamp(min=1)

    def _soft(self, log_p: Tensor, target: Tensor) -> Tensor:
        terms = -target * self._modulation(log_p) * log_p
        if self.alpha is not None:
            terms = terms * self.alpha.reshape(-1, *(1,) * (log_p.ndim - 2))
        return terms.sum(dim=1)

    def _hard(self, log_p: Tensor, target: Tensor) -> Tensor:
        cross_entropy = F.nll_loss(log_p, target, reduction="none", ignore_index=self.ignore_index)
        loss = self._modulation(-cross_entropy) * cross_entropy
        if self.alpha is None:
            return loss
        if len(self.alpha) == 1:
            return loss * self.alpha
        return loss * self.alpha[target.where(target != self.ignore_index, 0)]

    def _modulation(self, log_p: Tensor) -> Tensor:
        """Return ``(1 - p)^gamma``. Its slope stays finite where ``p`` is 1 and ``gamma`` below 1."""
        return (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny) ** self.gamma
