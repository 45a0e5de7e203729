"""The trainer of physics-informed neural networks."""

from __future__ import annotations

import torch

from dovetail import Batch, Run, StandardTrainer
from dovetail_signals.pinn.loss import PDELoss
from dovetail_signals.pinn.points import PointSamples, with_partners


class PINNTrainer(StandardTrainer):
    """The standard trainer, with inputs that require gradients so that the loss can differentiate by them.

    For points on a periodic boundary, it adds the points one period further to the batch.
    """

    def dovetail_run_start(self, run: Run) -> None:
        """Check that the network is not compiled.

        Raises:
            ValueError: ``hardware.compile`` is set and the loss is ``signals.pde``.
        """
        if run.config.hardware.compile and isinstance(run.parts.loss, PDELoss):
            raise ValueError("hardware.compile: torch cannot differentiate a compiled network twice; set it to false")

    def prepare_batch(self, run: Run, batch: Batch) -> Batch:
        """Return the batch with its periodic partners, on the run's device; in training, inputs require gradients."""
        samples = run.parts.loaders.train.dataset
        if isinstance(samples, PointSamples) and samples.problem.boundary == "periodic":
            batch = with_partners(batch, samples.problem)
        prepared = super().prepare_batch(run, batch)
        inputs = prepared["inputs"]
        if not torch.is_grad_enabled() or not isinstance(inputs, torch.Tensor) or not inputs.is_floating_point():
            return prepared
        return {**prepared, "inputs": inputs.detach().requires_grad_()}
