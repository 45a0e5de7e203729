"""Loss strategies by name: installed ones, and ones that a program registers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dovetail.kernel.component import PluginError
from dovetail.losses import (
    ClassificationLoss,
    FocalLoss,
    LanguageModelingLoss,
    LossAsStrategy,
)
from dovetail.main import run
from dovetail.pieces.loss_registry import LossStrategyRegistry, get_loss_strategy
from loss_samples import CLASSES, labels, scores
from small_runs import small


def test_installed_losses_are_strategies():
    """The registry returns native losses unchanged, and wraps plain ones such as torch's."""
    logits, targets = scores(3, CLASSES), labels(3)

    assert isinstance(get_loss_strategy("language_modeling"), LanguageModelingLoss)
    assert isinstance(get_loss_strategy("classification"), ClassificationLoss)
    torch.testing.assert_close(get_loss_strategy("focal").compute_loss(logits, targets), FocalLoss()(logits, targets))
    torch.testing.assert_close(
        get_loss_strategy("mse").compute_loss(logits, logits.detach() + 2), torch.tensor(4.0).double()
    )


class WeightedLoss:
    """A strategy as a user writes it: class-weighted cross-entropy."""

    def __init__(self, weights):
        self.weights = weights

    def compute_loss(self, logits, labels, inputs=None):
        """Return weighted cross-entropy."""
        if inputs and inputs.get("attention_mask") is not None:
            labels = labels.where(inputs["attention_mask"], -100)
        return F.cross_entropy(logits, labels, self.weights)

    def validate_inputs(self, logits, labels):
        """Raise unless there is one label per sample."""
        if labels.ndim != 1:
            raise ValueError("one label per sample")


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
    registry.register("one", WeightedLoss(None))

    with pytest.raises(TypeError, match="not the class WeightedLoss"):
        registry.register("two", WeightedLoss)
    with pytest.raises(TypeError, match="'two': register an object with compute_loss and validate_inputs, not Linear"):
        registry.register("two", torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="'one' is registered already"):
        registry.register("one", WeightedLoss(None))
    with pytest.raises(PluginError, match="did you mean 'classification'"):
        registry.get("clasification")
