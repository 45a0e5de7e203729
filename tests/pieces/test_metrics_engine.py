"""Figures, drift, confidence and alerts for a loop written by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dovetail import AlertConfig, MetricsEngine
from dovetail.monitor.profile import Profile


def engine() -> MetricsEngine:
    """Return one as in the documents."""
    return MetricsEngine(
        gradient_accumulation_steps=4,
        drift_threshold_warning=0.1,
        drift_threshold_critical=0.2,
        alert_config=AlertConfig(val_loss_spike_threshold=0.2, accuracy_drop_threshold=0.05),
    )


def test_epochs_give_drift_alerts_and_a_summary():
    """A spike, a drop, a large norm and drift are each an alert; the summary has a row an epoch."""
    rng, watched = np.random.default_rng(0), engine()
    reference = Profile.build(rng.standard_normal((2000, 3)), names=["a", "b", "c"])
    same = rng.standard_normal((2000, 3))
    first = watched.log_epoch(
        1, {"loss": 0.5}, {"loss": 0.5, "accuracy": 0.8}, 1e-3, 0.5, 12.0, reference, reference.of(same)
    )
    assert (first.status, watched.has_alerts()) == ("healthy", False)

    second = watched.log_epoch(
        epoch=2,
        train_metrics={"loss": 0.4},
        val_metrics={"loss": 0.7, "accuracy": 0.7},
        learning_rate=1e-3,
        gradient_norm=20.0,
        epoch_duration=11.0,
        reference_profile=reference,
        current_profile=same + np.array([0, 2, 0]),
    )
    assert (second.status, second.affected_features) == ("critical", ["b"])
    assert [(one["type"], one["severity"], one["epoch"]) for one in watched.get_alerts()] == [
        ("val_loss_spike", "warning", 2),
        ("accuracy_drop", "warning", 2),
        ("gradient_norm", "warning", 2),
        ("drift", "critical", 2),
    ]
    assert watched.get_alerts()[0]["message"] == "val_loss rose to 0.7, 40% above its lowest, 0.5"
    table = watched.get_summary()
    assert table["epoch"].tolist() == [1, 2]
    assert table["epoch_duration"].tolist() == [12.0, 11.0]
    assert table["drift"].tolist() == [first.js_divergence, second.js_divergence]


def test_an_epoch_without_profiles_has_not_drifted():
    """Nothing compared is healthy, with no feature."""
    found = engine().log_epoch(1, {"loss": 0.5})

    assert (found.status, found.js_divergence, found.affected_features, found.details) == ("healthy", 0.0, [], {})


def test_steps_are_batches_and_figures_belong_to_updates():
    """With four batches to an update, batches 3 and 4 belong to updates 0 and 1."""
    watched = engine()
    for step in range(3, 5):
        watched.log_scalar("train/batch_loss", 0.5 * step, step=step)
    watched.log_scalar("note", 1.0)
    found = watched.log_confidence(torch.zeros(4, 10), torch.zeros(4, dtype=torch.long), step=8)

    assert watched.scalars["train/batch_loss"] == [(0, 1.5), (1, 2.0)]
    assert watched.scalars["note"] == [(None, 1.0)]
    assert found == pytest.approx({"top1_confidence": 0.1, "top5_confidence": 0.5, "entropy": math.log(10)})
    assert watched.scalars["entropy"] == [(2, pytest.approx(math.log(10)))]


def test_what_cannot_be_meant_is_refused():
    """Thresholds that cross, and accumulation over no batch."""
    with pytest.raises(ValueError, match=r"at most drift_threshold_critical, got 0\.5 and 0\.2"):
        MetricsEngine(drift_threshold_warning=0.5)
    with pytest.raises(ValueError, match="gradient_accumulation_steps must be at least 1, got 0"):
        MetricsEngine(gradient_accumulation_steps=0)
