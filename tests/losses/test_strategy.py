"""Strategies as losses of a run, and losses of a run as strategies."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dovetail.losses import (
    LossAsStrategy,
    LossResult,
    StrategyAsLoss,
)
from dovetail.models import ModelOutput
from loss_samples import CLASSES, WeightedLoss, labels, scores


def test_a_strategy_in_a_run_gets_the_mask_and_validates():
    """The batch's mask becomes the attention mask, and errors of ``validate_inputs`` pass through."""
    loss = StrategyAsLoss(WeightedLoss())
    logits, targets = scores(3, CLASSES), labels(3)
    mask = torch.tensor([True, False, True])

    result = loss(ModelOutput(logits), {"targets": targets, "mask": mask})

    torch.testing.assert_close(result.total, F.cross_entropy(logits[mask], targets[mask]))
    with pytest.raises(ValueError, match="one label per sample"):
        loss(ModelOutput(logits), {"targets": targets[:, None]})


def test_a_loss_as_strategy_gets_mask_and_images():
    """A call's mask and images become the batch's mask and inputs; options that the loss does not take raise."""

    class Recorder(nn.Module):
        def forward(self, outputs, batch):
            self.batch = batch
            return LossResult(outputs.logits.sum(), {}, 1.0)

    recorder, images, mask = Recorder(), torch.zeros(2, 1, 3, 3), torch.tensor([True, False])
    strategy = LossAsStrategy(recorder)

    strategy.compute_loss(scores(2, CLASSES), labels(2), {"attention_mask": mask, "pixel_values": images})

    assert recorder.batch["mask"] is mask
    assert recorder.batch["inputs"] is images
    with pytest.raises(ValueError, match="LossAsStrategy takes no pad_token_id"):
        strategy.compute_loss(scores(2, CLASSES), labels(2), {"pad_token_id": 0})
