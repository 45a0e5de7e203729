"""Losses that wrap another loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dovetail.losses import (
    LanguageModelingLoss,
    PEFTAwareLoss,
    QuantizationSafeLoss,
)
from loss_samples import CLASSES, labels, scores


@pytest.mark.parametrize("wrapper", [PEFTAwareLoss, QuantizationSafeLoss])
def test_inputs_of_a_call_reach_the_wrapped_loss(wrapper):
    """The wrapped loss uses the class weights and the padding token of a call."""
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    logits, targets = scores(5, CLASSES), labels(5)
    texts, tokens = scores(2, 4, CLASSES), labels(2, 4)

    torch.testing.assert_close(
        wrapper().compute_loss(logits, targets, {"class_weights": weights}), F.cross_entropy(logits, targets, weights)
    )
    torch.testing.assert_close(
        wrapper().compute_loss(texts, tokens, {"pad_token_id": 0}),
        LanguageModelingLoss(pad_token_id=0).compute_loss(texts, tokens),
    )
