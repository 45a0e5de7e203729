"""Losses created by name."""

from __future__ import annotations

import re

import pytest
import torch

from dovetail.losses import (
    FocalLoss,
    LabelSmoothingCrossEntropy,
    SupConLoss,
    cross_entropy,
)
from dovetail.pieces.criterion import create_criterion
from loss_samples import CLASSES, labels, scores


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("ce", {}, cross_entropy()),
        ("ce", {"weight": [1.0, 2.0, 3.0, 4.0]}, torch.nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0, 4.0]))),
        ("label_smoothing", {}, LabelSmoothingCrossEntropy(0.1)),
        ("focal", {"alpha": 0.25}, FocalLoss(0.25, 2.0)),
        ("supcon", {}, SupConLoss(0.1)),
    ],
)
def test_criteria_by_name_have_the_documented_defaults(name, options, expected):
    """Each takes logits and labels, as torch's losses do."""
    logits, targets = scores(6, CLASSES).float(), labels(6)

    torch.testing.assert_close(create_criterion(name, **options)(logits, targets), expected(logits, targets))


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("focl", {}, "name: unknown loss 'focl'; did you mean 'focal'?"),
        ("?", {}, "unknown loss '?'; there are ce, label_smoothing, focal, supcon"),
        ("focal", {"beta": 1}, "focal has no option 'beta'; it has alpha, gamma"),
    ],
)
def test_unknown_names_and_options_are_named(name, options, message):
    """The error suggests the nearest name, or lists the names and options that exist."""
    with pytest.raises(ValueError, match=re.escape(message)):
        create_criterion(name, **options)
