"""Components of other kinds, with one defect each."""

from __future__ import annotations

import click
import torch
from torch import nn

from dovetail.train.trainer import StandardTrainer


class MeanOfMeans:
    """Accuracy averaged over batches, whatever their size."""

    def __init__(self):
        self.seen = []

    def update(self, outputs, batch):
        """Add the accuracy of a batch."""
        self.seen.append(float((outputs.logits.argmax(dim=1) == batch["targets"]).float().mean()))

    def compute(self):
        """Return the mean of the means."""
        return {"accuracy": sum(self.seen) / len(self.seen)}

    def reset(self):
        """Clear the accuracies."""
        self.seen = []


class MisspeltCallback:
    """Has a misspelt hook."""

    def dovetail_epoch_ends(self, run, epoch):
        """Never be called."""


class SilentCallback:
    """Has no hook."""

    def on_epoch_end(self):
        """Do nothing; a hook of another framework."""


class BreakingCallback:
    """Fails at the end of the first epoch."""

    def dovetail_epoch_end(self, metrics):
        """Read a metric that does not exist."""
        return metrics["val_severity"]


class ForgetfulCallback:
    """Counts epochs, but cannot load the count."""

    def __init__(self):
        self.epochs = 7

    def dovetail_epoch_end(self, epoch):
        """Count."""
        self.epochs += 1

    def state_dict(self):
        """Return the count."""
        return {"epochs": self.epochs}


class NoisyTrainer(StandardTrainer):
    """Adds noise from an unseeded generator."""

    def prepare_batch(self, run, batch):
        """Return the batch, noisy."""
        batch = super().prepare_batch(run, batch)
        generator = torch.Generator()
        generator.seed()
        return {**batch, "inputs": batch["inputs"] + torch.randn(batch["inputs"].shape, generator=generator)}


class ChangingDataset:
    """Returns samples that depend on the number of reads."""

    def __init__(self):
        self.asked = 0

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index >= len(self):
            raise IndexError(index)
        self.asked += 1
        return torch.full((3,), float(self.asked)), index % 2


def typo():
    """Return a layer with a misspelt key."""
    return {"training": {"max_epoch": 3}}


@click.command()
def mute(): ...  # noqa: D103 (the missing docstring is the defect)


class OwnGenerator:
    """Adds noise from a generator of its own."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, sample):
        """Return the noisy sample."""
        inputs, target = sample
        return inputs + torch.randn(inputs.shape, generator=self.generator), target


class Noise:
    """Adds noise from the global generator."""

    def __call__(self, sample):
        """Return the noisy sample."""
        inputs, target = sample
        return inputs + torch.randn(inputs.shape), target


class LeakyModel(nn.Module):
    """Subtracts the mean of each batch, also in evaluation."""

    def __init__(self, num_classes: int, input_shape: tuple[int, ...]):
        super().__init__()
        self.head = nn.Linear(input_shape[-1], num_classes)

    def forward(self, inputs):
        """Return the scores."""
        return self.head((inputs - inputs.mean(dim=0, keepdim=True)).flatten(1))


class Amnesiac(torch.optim.SGD):
    """SGD whose momentum is not in the state_dict."""

    def __init__(self, params, lr: float = 0.01):
        super().__init__(params, lr=lr, momentum=0.9)

    def state_dict(self):
        """Return only the parameter groups."""
        return {**super().state_dict(), "state": {}}


class SecondOptimizer(StandardTrainer):
    """Has a second optimizer that no checkpoint contains."""

    def __init__(self):
        self.second = torch.optim.SGD([torch.nn.Parameter(torch.ones(()))], lr=0.1)


class Particular(StandardTrainer):
    """Trains only models of a certain width."""

    def compute_loss(self, run, batch):
        """Raise unless the model has the width, then compute the loss."""
        if len(next(run.parts.model.parameters())) != 7:
            raise AttributeError("no such model")
        return super().compute_loss(run, batch)
