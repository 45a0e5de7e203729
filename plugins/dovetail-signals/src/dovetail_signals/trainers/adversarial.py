"""Adversarial training by the fast gradient sign method."""

from __future__ import annotations

from typing import Annotated, final

import torch
from torch import Tensor

from dovetail import AtLeast, Batch, Between, LossResult, Run, StandardTrainer


@final
class AdversarialTrainer(StandardTrainer):
    """Train on each batch and on its adversarial version, made by the fast gradient sign method.

    Args:
        epsilon: change of every value, in the inputs' unit.
        share: fraction of the loss that comes from the adversarial samples.

    Source:
        Goodfellow, Shlens and Szegedy, Explaining and harnessing adversarial examples (ICLR 2015), section 6.
    """

    def __init__(
        self, *, epsilon: Annotated[float, AtLeast(0)] = 0.01, share: Annotated[float, Between(0, 1)] = 0.5
    ) -> None:
        self._epsilon, self._share = epsilon, share

    def compute_loss(self, run: Run, batch: Batch) -> LossResult:
        """Return the weighted loss of both versions, with each as a part; ValueError if inputs are not one tensor."""
        inputs = batch["inputs"]
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise ValueError("signals.adversarial needs inputs that are one floating-point tensor")
        probe = inputs.detach().requires_grad_()
        clean = run.criterion(run.forward({**batch, "inputs": probe}), batch)
        (gradient,) = torch.autograd.grad(clean.total, probe, retain_graph=True)
        changed: Batch = {**batch, "inputs": inputs + self._epsilon * gradient.sign()}
        adversarial = run.criterion(run.forward(changed), changed)
        total = torch.lerp(clean.total, adversarial.total, self._share)
        return LossResult(total, {"clean": clean.total, "adversarial": adversarial.total}, clean.weight)
