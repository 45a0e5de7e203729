"""Parts of other kinds with one defect each."""

from __future__ import annotations

import torch
from torch import nn


class MeanOfMeans:
    """Accuracy averaged over batches, as if all were of one size."""

    def __init__(self):
        self.seen = []

    def update(self, outputs, batch):
        """Take in one batch."""
        self.seen.append(float((outputs.logits.argmax(dim=1) == batch["targets"]).float().mean()))

    def compute(self):
        """Return the mean of the means."""
        return {"accuracy": sum(self.seen) / len(self.seen)}

    def reset(self):
        """Forget."""
        self.seen = []


class MisspeltCallback:
    """Would act at the end of an epoch."""

    def dovetail_epoch_ends(self, run, epoch):
        """Never be called."""


class SilentCallback:
    """Has no hook at all."""

    def on_epoch_end(self):
        """Belong to another framework."""


class OwnGenerator:
    """Adds noise from a generator of its own."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, sample):
        """Return the noisy sample."""
        inputs, target = sample
        return inputs + torch.randn(inputs.shape, generator=self.generator), target


class LeakyModel(nn.Module):
    """Centres each batch, in evaluation too."""

    def __init__(self, num_classes: int, input_shape: tuple[int, ...]):
        super().__init__()
        self.head = nn.Linear(input_shape[-1], num_classes)

    def forward(self, inputs):
        """Return the scores."""
        return self.head((inputs - inputs.mean(dim=0, keepdim=True)).flatten(1))


class Amnesiac(torch.optim.SGD):
    """Momentum that is not saved."""

    def __init__(self, params, lr: float = 0.01):
        super().__init__(params, lr=lr, momentum=0.9)

    def state_dict(self):
        """Return the groups alone."""
        return {**super().state_dict(), "state": {}}
