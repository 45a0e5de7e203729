"""The trainer of physics-informed neural networks."""

from __future__ import annotations

import torch

from dovetail import Batch, Run, StandardTrainer
from dovetail_signals.pinn.loss import PDELoss
from dovetail_signals.pinn.points import PointSamples, with_partners


class PINNTrainer(StandardTrainer):
    """The standard trainer, with inputs that the loss can differentiate by.

    Points on a periodic boundary get their partners, a period further, as rows of the same batch.
    """

    def dovetail_run_start(self, run: Run) -> None:
        """Refuse to compile the network.

        Raises:
            ValueError: the run is to, and the loss is that of an equation.
        """
        if run.config.hardware.compile and isinstance(run.parts.loss, PDELoss):
            raise ValueError("hardware.compile: torch cannot differentiate a compiled network twice; leave it off")

    def prepare_batch(self, run: Run, batch: Batch) -> Batch:
        """Return the batch with its periodic partners, on the run's device, its inputs followed where it trains."""
        samples = run.parts.loaders.train.dataset
        if isinstance(samples, PointSamples) and samples.problem.boundary == "periodic":
            batch = with_partners(batch, samples.problem)
        prepared = super().prepare_batch(run, batch)
        inputs = prepared["inputs"]
        if not torch.is_grad_enabled() or not isinstance(inputs, torch.Tensor) or not inputs.is_floating_point():
            return prepared
        return {**prepared, "inputs": inputs.detach().requires_grad_()}
