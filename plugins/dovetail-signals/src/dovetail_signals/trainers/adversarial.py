"""Training on samples that are made as hard as a small change can make them."""

from __future__ import annotations

from typing import Annotated, final

import torch
from torch import Tensor

from dovetail import AtLeast, Batch, Between, LossResult, Run, StandardTrainer


@final
class AdversarialTrainer(StandardTrainer):
    """Trains on each batch as it is, and changed by the fast gradient sign method.

    Args:
        epsilon: how far every value is moved, in the inputs' unit.
        share: of the loss that is of the changed samples.

    Source:
        Goodfellow, Shlens and Szegedy, Explaining and harnessing adversarial examples (ICLR 2015), section 6.
    """

    def __init__(
        self, *, epsilon: Annotated[float, AtLeast(0)] = 0.01, share: Annotated[float, Between(0, 1)] = 0.5
    ) -> None:
        self._epsilon, self._share = epsilon, share

    def compute_loss(self, run: Run, batch: Batch) -> LossResult:
        """Return the loss of both kinds of samples, and each as a part; ValueError where inputs are no tensor."""
        inputs = batch["inputs"]
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise ValueError("adversarial training needs inputs that are one floating-point tensor")
        probe = inputs.detach().requires_grad_()
        clean = run.criterion(run.forward({**batch, "inputs": probe}), batch)
        (gradient,) = torch.autograd.grad(clean.total, probe, retain_graph=True)
        changed: Batch = {**batch, "inputs": inputs + self._epsilon * gradient.sign()}
        hard = run.criterion(run.forward(changed), changed)
        total = torch.lerp(clean.total, hard.total, self._share)
        return LossResult(total, {"clean": clean.total, "adversarial": hard.total}, clean.weight)
