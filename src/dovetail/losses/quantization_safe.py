"""Training of models whose weights or activations are quantised to a few bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Self

import torch
from attrs import evolve
from torch import Tensor

from dovetail.losses.result import LossResult
from dovetail.losses.strategy import StrategyLoss
from dovetail.losses.targets import at_least_float32
from dovetail.losses.wrapper import LossWrapper
from dovetail.spec import Loss

if TYPE_CHECKING:
    from dovetail.data.batch import Batch
    from dovetail.models.output import ModelOutput

_BITS: Final = (8, 4)


class QuantizationSafeLoss(LossWrapper):
    """Another loss in at least fp32, with its gradient at the logits clipped to the quantiser's range.

    The gradient of one unit (sample, token …) is clipped to the range in steps, scaled so that the highest step is 1:
    with ``q = 2^(bits - 1) - 1`` steps on a side, to ``[-1, 1]`` for a symmetric range, else to ``[-(q + 1)/q, 1]``.
    Cross-entropy's own gradient is within that range. Weighted and unbounded losses exceed it, and a single outlier
    would then set the quantisation scale of all gradients after it.

    Args:
        bits: 8 or 4.
        symmetric: whether the quantiser's range is symmetric; otherwise it has one more step below 0.
        loss: the other loss; by default next-token cross-entropy for logits ``[batch, time, vocabulary]``, else
            cross-entropy of classes.

    Raises:
        ValueError: ``bits`` is neither 8 nor 4.
    """

    def __init__(
        self,
        bits: Literal[8, 4] = 8,
        symmetric: bool = True,  # noqa: FBT001, FBT002 (the documented signature)
        *,
        loss: Loss | None = None,
    ) -> None:
        super().__init__(loss)
        if bits not in _BITS:
            raise ValueError(f"bits: must be 8 or 4, got {bits}")
        self.bits: Literal[8, 4] = bits
        self.symmetric = symmetric
        steps = 2 ** (bits - 1) - 1
        self._lowest = -1.0 if symmetric else -(steps + 1) / steps

    def with_loss(self, loss: StrategyLoss) -> Self:
        """Return a loss with the same options around another loss."""
        return type(self)(self.bits, self.symmetric, loss=loss)

    def forward(self, outputs: ModelOutput, batch: Batch) -> LossResult:
        """Return the other loss, with its gradient at the logits clipped."""
        # A new tensor, because the hook below must not stay on the model's own.
        logits = at_least_float32(outputs.logits)
        logits = logits.view_as(logits) if logits is outputs.logits else logits
        result: LossResult = self.loss(evolve(outputs, logits=logits), batch)
        if not result.total.requires_grad or not logits.requires_grad:
            return result
        total = result.total.view_as(result.total)
        self._clip(logits, total, torch.as_tensor(result.weight, device=total.device))
        return LossResult(total, result.parts, result.weight)

    def _clip(self, logits: Tensor, total: Tensor, weight: Tensor) -> None:
        """Clip the gradient that reaches ``logits``, in proportion to the gradient that arrives at ``total``.

        Accumulation and fp16 scale the loss before its gradient is computed; the limits scale with it.
        """
        arrived: list[Tensor] = []

        def keep(gradient: Tensor) -> None:
            arrived[:] = [gradient.abs()]

        def clip(gradient: Tensor) -> Tensor:
            unit = arrived[0] / weight.where(weight > 0, 1)
            return gradient.clamp(min=self._lowest * unit, max=unit)

        total.register_hook(keep)  # type: ignore[no-untyped-call] # torch gives it no types
        logits.register_hook(clip)  # type: ignore[no-untyped-call] # torch gives it no types
