"""Metrics of epochs in a loop of your own: tables, drift and alerts."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from dovetail import AlertConfig
from dovetail.monitor.profile import DataProfile
from dovetail.pieces import MetricsEngine, MetricsTracker

# --- MetricsTracker ---------------------------------------------------------------------------------------------------


def test_the_summary_has_a_row_per_epoch():
    """The columns have the split in their names; a metric that an epoch lacks is NaN."""
    tracker = MetricsTracker()
    tracker.log_epoch(epoch=4, train_metrics={"loss": 0.5})
    tracker.log_epoch(
        epoch=5, train_metrics={"loss": 0.42}, val_metrics={"loss": 0.38}, learning_rate=1e-4, gradient_norm=0.5
    )
    summary = tracker.get_summary()

    assert list(summary.columns) == ["epoch", "train_loss", "val_loss", "learning_rate", "gradient_norm"]
    assert summary[["epoch", "train_loss"]].to_numpy().tolist() == [[4, 0.5], [5, 0.42]]
    assert summary["val_loss"].isna().tolist() == [True, False]


def test_logging_an_epoch_again_replaces_it():
    """After a resume there is still one row per epoch."""
    tracker = MetricsTracker()
    for loss in (2.0, 1.0):
        tracker.log_epoch(1, {"loss": loss})

    assert tracker.get_summary().to_dict("records") == [{"epoch": 1, "train_loss": 1.0}]


def test_the_summary_is_empty_without_epochs():
    """It has one column and no rows."""
    summary = MetricsTracker().get_summary()

    assert (list(summary.columns), len(summary)) == (["epoch"], 0)


@pytest.mark.parametrize(
    "module, use",
    [("pandas", lambda: MetricsTracker().get_summary()), ("wandb", lambda: MetricsTracker(use_wandb=True))],
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, module, use):
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'dovetail[a-z-]*\[{module}\]'"):
        use()


# --- MetricsEngine ----------------------------------------------------------------------------------------------------


def engine() -> MetricsEngine:
    """Return the engine of the documents' example."""
    return MetricsEngine(
        gradient_accumulation_steps=4,
        drift_threshold_warning=0.1,
        drift_threshold_critical=0.2,
        alert_config=AlertConfig(val_loss_spike_threshold=0.2, accuracy_drop_threshold=0.05),
    )


def test_epochs_have_drift_alerts_and_a_summary():
    """A spike, a drop, a large norm and drift raise an alert each; the summary has a row per epoch."""
    rng, metrics = np.random.default_rng(0), engine()
    reference = DataProfile.build(rng.standard_normal((2000, 3)), names=["a", "b", "c"])
    same = rng.standard_normal((2000, 3))
    first = metrics.log_epoch(
        1, {"loss": 0.5}, {"loss": 0.5, "accuracy": 0.8}, 1e-3, 0.5, 12.0, reference, reference.of(same)
    )
    assert (first.status, metrics.has_alerts()) == ("healthy", False)

    second = metrics.log_epoch(
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
    assert [(alert["type"], alert["severity"], alert["epoch"]) for alert in metrics.get_alerts()] == [
        ("val_loss_spike", "warning", 2),
        ("accuracy_drop", "warning", 2),
        ("gradient_norm", "warning", 2),
        ("drift", "critical", 2),
    ]
    assert metrics.get_alerts()[0]["message"] == "val_loss rose to 0.7, 40% above its lowest, 0.5"
    table = metrics.get_summary()
    assert table["epoch"].tolist() == [1, 2]
    assert table["epoch_duration"].tolist() == [12.0, 11.0]
    assert table["drift"].tolist() == [first.js_divergence, second.js_divergence]


def test_an_epoch_without_profiles_has_not_drifted():
    """Its status is healthy, and it has no features."""
    found = engine().log_epoch(1, {"loss": 0.5})

    assert (found.status, found.js_divergence, found.affected_features, found.details) == ("healthy", 0.0, [], {})


def test_batches_are_stored_under_their_update():
    """With four batches per update, batches 3 and 4 belong to updates 0 and 1."""
    metrics = engine()
    for step in range(3, 5):
        metrics.log_scalar("train/batch_loss", 0.5 * step, step=step)
    metrics.log_scalar("note", 1.0)
    found = metrics.log_confidence(torch.zeros(4, 10), torch.zeros(4, dtype=torch.long), step=8)

    assert metrics.scalars["train/batch_loss"] == [(0, 1.5), (1, 2.0)]
    assert metrics.scalars["note"] == [(None, 1.0)]
    assert found == pytest.approx({"top1_confidence": 0.1, "top5_confidence": 0.5, "entropy": math.log(10)})
    assert metrics.scalars["entropy"] == [(2, pytest.approx(math.log(10)))]


def test_invalid_options_are_refused():
    """The message shows thresholds that cross, and an accumulation of no batches."""
    with pytest.raises(ValueError, match=r"at most drift_threshold_critical, got 0\.5 and 0\.2"):
        MetricsEngine(drift_threshold_warning=0.5)
    with pytest.raises(ValueError, match="gradient_accumulation_steps must be at least 1, got 0"):
        MetricsEngine(gradient_accumulation_steps=0)


def test_importing_them_does_not_import_torch():
    """A program without torch can use the table and the alerts."""
    code = (
        "import sys; from dovetail import MetricsEngine, MetricsTracker; MetricsEngine(); print('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
