"""The loss for parameter-efficient fine-tuning: scaled gradients, and alerts about what trains."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.losses import (
    ClassificationLoss,
    LanguageModelingLoss,
    PEFTAwareLoss,
)
from dovetail.main import run
from loss_samples import CLASSES, labels
from small_runs import small


@given(scale=st.sampled_from([0.5, 1.0, 3.0]), tokens=st.booleans())
def test_only_the_adapter_gets_a_gradient(scale, tokens):
    """The gradient of the adapter is scaled; a frozen base gets none."""
    torch.manual_seed(0)
    base, adapter = torch.nn.Linear(3, CLASSES).requires_grad_(False), torch.nn.Linear(3, CLASSES)
    inputs = torch.randn(2, 5, 3) if tokens else torch.randn(2, 3)
    targets = labels(2, 5) if tokens else labels(2)
    loss = PEFTAwareLoss(adapter_scale=scale)
    loss.check_model(torch.nn.ModuleList([base, adapter]))

    loss.compute_loss(base(inputs) + adapter(inputs), targets).backward()
    actual = adapter.weight.grad.clone()
    adapter.zero_grad()
    plain = LanguageModelingLoss() if tokens else ClassificationLoss()
    plain.compute_loss(base(inputs) + adapter(inputs), targets).backward()

    torch.testing.assert_close(actual, scale * adapter.weight.grad)
    assert base.weight.grad is None


def test_a_model_must_train_in_part():
    """If no parameter trains, or all do, the check raises; with ``base_model_frozen = False`` all may train."""
    model = torch.nn.Linear(2, 2)

    with pytest.raises(ValueError, match="every parameter trains, although base_model_frozen is true"):
        PEFTAwareLoss().check_model(model)
    PEFTAwareLoss(base_model_frozen=False).check_model(model)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing trains: every parameter of the model is frozen"):
        PEFTAwareLoss(base_model_frozen=False).check_model(model)


class Alerts:
    """A callback that records alerts."""

    def __init__(self):
        self.seen = []

    def dovetail_alert(self, alert):
        """Record an alert."""
        self.seen.append((alert.type, alert.message))


def test_a_run_alerts_when_everything_trains(tmp_path):
    """A run trains a model whose base is not frozen, and raises an alert at its start."""
    alerts = Alerts()

    outcome = run(small(tmp_path, loss={"type": "peft_aware"}), listeners=[alerts]).check()

    assert outcome.status == "completed"
    assert [kind for kind, _ in alerts.seen] == ["peft"]
    assert "every parameter trains" in alerts.seen[0][1]
