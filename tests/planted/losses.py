"""A sound loss, and losses with one defect each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from dovetail.losses.result import LossResult


def _checked(outputs, batch):
    """Return logits and targets of a classification batch; raise ValueError if their shapes do not match."""
    logits, targets = outputs.logits, batch["targets"]
    if logits.ndim != 2 or targets.shape != logits.shape[:1] or not len(logits):
        raise ValueError(f"outputs have shape {list(logits.shape)} and targets {list(targets.shape)}")
    return logits, targets


class SoundLoss:
    """Cross-entropy; a sound loss."""

    def __call__(self, outputs, batch):
        """Return the loss."""
        logits, targets = _checked(outputs, batch)
        total = F.cross_entropy(logits, targets)
        return LossResult(total, {"cross_entropy": total}, float(len(targets)))


class ArgmaxLoss:
    """Error rate of the predicted class, which has no gradient."""

    def __call__(self, outputs, batch):
        """Return the loss."""
        logits, targets = _checked(outputs, batch)
        chosen = F.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)
        return LossResult((1 - chosen.gather(1, targets[:, None])).mean(), {}, float(len(targets)))


class HiddenArgmaxLoss:
    """Cross-entropy plus a physics term of the predicted class, which has no gradient."""

    def __call__(self, outputs, batch):
        """Return the loss."""
        logits, targets = _checked(outputs, batch)
        frequency = torch.tensor([10.0, 20.0, 35.0, 50.0, 80.0], dtype=logits.dtype)
        physics = (frequency[logits.argmax(dim=1)] - frequency[targets]).abs().mean() / 100
        total = F.cross_entropy(logits, targets) + physics
        return LossResult(total, {"physics": physics}, float(len(targets)))


class DetachedTermLoss:
    """Cross-entropy plus a detached entropy term."""

    def __call__(self, outputs, batch):
        """Return the loss."""
        logits, targets = _checked(outputs, batch)
        entropy = torch.distributions.Categorical(logits=logits.detach()).entropy().mean()
        return LossResult(F.cross_entropy(logits, targets) - 0.1 * entropy, {}, float(len(targets)))


class RandomLoss:
    """Cross-entropy of a random half of the logits."""

    def __call__(self, outputs, batch):
        """Return the loss."""
        logits, targets = _checked(outputs, batch)
        return LossResult(F.cross_entropy(F.dropout(logits, 0.5), targets), {}, float(len(targets)))


class RememberingLoss(nn.Module):
    """Cross-entropy divided by its running mean, which is not in the state_dict."""

    def __init__(self):
        super().__init__()
        self.running = 1.0

    def forward(self, outputs, batch):
        """Return the loss."""
        logits, targets = _checked(outputs, batch)
        loss = F.cross_entropy(logits, targets)
        self.running = 0.9 * self.running + 0.1 * float(loss.detach())
        return LossResult(loss / self.running, {}, float(len(targets)))


class BroadcastingLoss:
    """Squared error of any shapes that broadcast."""

    def __call__(self, predicted, target):
        """Return the loss."""
        return (predicted - target).square().mean()


class NotAdditiveLoss:
    """Cross-entropy plus a variance over the batch, with the trait 'additive'."""

    def __call__(self, outputs, batch):
        """Return the loss."""
        logits, targets = _checked(outputs, batch)
        total = F.cross_entropy(logits, targets) + logits.var(dim=0, unbiased=False).mean()
        return LossResult(total, {}, float(len(targets)))


class OverflowingLoss:
    """Cross-entropy by the textbook formula, which overflows."""

    def __call__(self, outputs, batch):
        """Return the loss."""
        logits, targets = _checked(outputs, batch)
        probabilities = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
        return LossResult(-probabilities.gather(1, targets[:, None]).log().mean(), {}, float(len(targets)))


class NoSignalGradientLoss:
    """Cross-entropy without a gradient for the inputs, with the trait 'signal_gradient'."""

    def __call__(self, outputs, batch):
        """Return the loss."""
        logits, targets = _checked(outputs, batch)
        power = batch["inputs"].detach().square().mean()
        return LossResult(F.cross_entropy(logits, targets) * (1 + power), {}, float(len(targets)))


class UntrainedLoss(nn.Module):
    """Cross-entropy with a temperature parameter that it detaches."""

    def __init__(self):
        super().__init__()
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, outputs, batch):
        """Return the loss."""
        logits, targets = _checked(outputs, batch)
        temperature = self.log_temperature.detach().exp()
        return LossResult(F.cross_entropy(logits / temperature, targets), {}, float(len(targets)))


class NoHiddenGradientLoss:
    """Cross-entropy without a gradient for the hidden representation, with the trait 'hidden_gradient'."""

    def __call__(self, outputs, batch):
        """Return the loss."""
        logits, targets = _checked(outputs, batch)
        spread = 1 + outputs.hidden.detach().square().mean()
        return LossResult(F.cross_entropy(logits, targets) * spread, {}, float(len(targets)))


class InPlaceLoss:
    """Cross-entropy that changes the targets in place."""

    def __call__(self, outputs, batch):
        """Return the loss."""
        logits, targets = _checked(outputs, batch)
        loss = F.cross_entropy(logits, targets)
        targets.clamp_(max=1)
        return LossResult(loss, {}, float(len(targets)))


class OrderedLoss:
    """Cross-entropy that weights later samples more."""

    def __call__(self, outputs, batch):
        """Return the loss."""
        logits, targets = _checked(outputs, batch)
        places = torch.arange(1, len(targets) + 1, dtype=logits.dtype)
        loss = F.cross_entropy(logits, targets, reduction="none")
        return LossResult((loss * places).sum() / places.sum(), {}, float(len(targets)))


class NeedsAnOption(SoundLoss):
    """A sound loss with an option that has no default."""

    def __init__(self, strength: float):
        self.strength = strength


class ReservedName(SoundLoss):
    """A sound loss with an option whose name is reserved."""

    def __init__(self, type: str = "x"):  # noqa: A002 (the name is the defect)
        self.type = type
