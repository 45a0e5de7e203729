"""Losses by name: criteria, installed losses as strategies, and strategies that a program registers."""

from __future__ import annotations

import re

import pytest
import torch

from dovetail.kernel.component import PluginError
from dovetail.losses import (
    ClassificationLoss,
    FocalLoss,
    LabelSmoothingCrossEntropy,
    LanguageModelingLoss,
    LossAsStrategy,
    SupConLoss,
    cross_entropy,
)
from dovetail.main import run
from dovetail.pieces import LossStrategyRegistry, create_criterion, get_loss_strategy
from loss_samples import CLASSES, WeightedLoss, labels, scores
from small_runs import small


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


def test_installed_losses_are_strategies():
    """The registry returns native losses unchanged, and wraps plain ones such as torch's."""
    logits, targets = scores(3, CLASSES), labels(3)

    assert isinstance(get_loss_strategy("language_modeling"), LanguageModelingLoss)
    assert isinstance(get_loss_strategy("classification"), ClassificationLoss)
    torch.testing.assert_close(get_loss_strategy("focal").compute_loss(logits, targets), FocalLoss()(logits, targets))
    torch.testing.assert_close(
        get_loss_strategy("mse").compute_loss(logits, logits.detach() + 2), torch.tensor(4.0).double()
    )


def test_a_registered_object_is_found_by_name():
    """It shadows an installed loss of the same name, in this registry only."""
    registry, custom = LossStrategyRegistry(), WeightedLoss(torch.ones(CLASSES))
    registry.register("weighted-ce", custom)
    registry.register("focal", custom)

    assert registry.get("weighted-ce") is custom
    assert registry.get("focal") is custom
    assert isinstance(registry.get("classification"), ClassificationLoss)
    assert isinstance(LossStrategyRegistry().get("focal"), LossAsStrategy)


def test_a_registered_object_trains_a_run(tmp_path):
    """As the loss of a run it gives the results of the installed loss that computes the same."""
    registry = LossStrategyRegistry()
    registry.register("custom", WeightedLoss(torch.ones(3)))

    ours = run(small(tmp_path / "ours", loss=registry.as_loss("custom"))).check()
    plain = run(small(tmp_path / "plain", loss={"type": "classification"})).check()

    assert ours.metrics["val_loss"] == pytest.approx(plain.metrics["val_loss"], rel=1e-4)
    assert isinstance(registry.as_loss("classification"), ClassificationLoss)


def test_bad_registrations_and_names_raise():
    """The error names a class, a missing method, a name that is taken, or a name that does not exist."""
    registry = LossStrategyRegistry()
    registry.register("first", WeightedLoss())

    with pytest.raises(TypeError, match="not the class WeightedLoss"):
        registry.register("second", WeightedLoss)
    with pytest.raises(TypeError, match=r"'second': register an object with compute_loss and .*, not Linear"):
        registry.register("second", torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="'first' is already registered; choose another name"):
        registry.register("first", WeightedLoss())
    with pytest.raises(PluginError, match="did you mean 'classification'"):
        registry.get("clasification")
