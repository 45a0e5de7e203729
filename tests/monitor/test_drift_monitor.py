"""The drift monitor: features of batches, and drift in real runs."""

from __future__ import annotations

import json
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import nn

from dovetail.config.diagnostics import ConfigError
from dovetail.data import Splits, TensorSamples
from dovetail.main import run
from dovetail.monitor.drift import measure_drift
from dovetail.monitor.drift_monitor import DriftMonitor, features_of
from dovetail.monitor.profile import DataProfile
from small_runs import blobs, only_run, small


def test_features_of_batches():
    """Numbers by their place, summaries of large samples, tokens without padding, and targets."""
    few = features_of({"inputs": torch.zeros(2, 1, 2), "targets": torch.tensor([0, 2])}, most=10)
    assert DataProfile.build(few.columns, categorical=few.categorical).names == (
        "inputs[0,0]",
        "inputs[0,1]",
        "targets",
    )
    assert few.categorical == {"targets"}

    large = torch.arange(24.0).reshape(2, 3, 4)
    many = features_of({"inputs": {"x": large}, "targets": torch.zeros(2, 1)}, most=11)
    assert list(many.columns) == ["inputs.x.mean", "inputs.x.std", "inputs.x.min", "inputs.x.max", "targets"]
    assert many.columns["inputs.x.max"].tolist() == [11.0, 23.0]
    assert many.columns["inputs.x.std"] == pytest.approx(large.flatten(1).numpy().std(1))

    wide = torch.arange(160.0).reshape(2, 2, 40)
    channels = features_of({"inputs": wide}, most=8)
    assert list(channels.columns)[4:] == ["inputs[1].mean", "inputs[1].std", "inputs[1].min", "inputs[1].max"]
    assert channels.columns["inputs[1].mean"] == pytest.approx(wide[:, 1].mean(1).numpy())

    mask = torch.tensor([[True, True, False], [True, False, False]])
    text = features_of({"inputs": torch.arange(6).reshape(2, 3), "mask": mask}, most=10)
    assert text.columns["inputs"].tolist() == [0, 1, 3]


def shifted(rows: int, by: float) -> Splits:
    """Return blobs whose validation has its third input shifted."""
    validation = blobs(rows, seed=1)
    inputs = validation.inputs.clone()
    inputs[:, 2] += by
    return Splits(blobs(1000), attrs.evolve(validation, inputs=inputs))


def logged_metrics(tmp_path: Any) -> list[dict[str, float]]:
    """Return the metrics that the monitor logged."""
    lines = (only_run(tmp_path) / "metrics.jsonl").read_text().splitlines()
    return [line["metrics"] for line in map(json.loads, lines) if line["event"] == "monitor"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_finds_the_input_that_drifted(tmp_path, workers):
    """Every validation logs metrics; the alert names the feature, once."""
    monitor, data = DriftMonitor(), shifted(300, 1.5)
    loader = {"batch_size": 16, "num_workers": workers}
    assert run(small(tmp_path, data=data, callbacks={"drift": monitor}, loader=loader)).status == "completed"
    columns = {f"inputs[{place}]": data.train.inputs[:, place].numpy() for place in range(4)}
    columns["targets"] = data.train.targets
    expected = measure_drift(
        DataProfile.build(columns, categorical=["targets"]),
        {**{f"inputs[{place}]": data.validation.inputs[:, place].numpy() for place in range(4)},
         "targets": data.validation.targets},
    )  # fmt: skip
    (alert,) = map(json.loads, (only_run(tmp_path) / "alerts.jsonl").read_text().splitlines())

    assert monitor.last is not None
    assert monitor.last.details == expected.details
    assert [metrics["drift"] for metrics in logged_metrics(tmp_path)] == [expected.js_divergence] * 2
    assert (alert["type"], alert["severity"], alert["details"]["affected_features"]) == (
        "drift",
        "critical",
        ["inputs[2]"],
    )
    assert DataProfile.load(only_run(tmp_path) / "drift_reference.json").rows == 1000


def test_a_run_without_drift_raises_no_alert(tmp_path):
    """Metrics are logged; with few rows there is not even a verdict."""
    for rows, logged in ((300, 2), (50, 0)):
        run(small(tmp_path / str(rows), data=shifted(rows, 0.0), callbacks={"drift": {"type": "drift_monitor"}}))

        assert len(logged_metrics(tmp_path / str(rows))) == logged
        assert not (only_run(tmp_path / str(rows)) / "alerts.jsonl").exists()


def test_the_reference_of_another_run_can_be_used(tmp_path):
    """A profile of other features is refused at the start."""
    run(small(tmp_path / "first", data=shifted(300, 0.0), callbacks={"drift": {"type": "drift_monitor"}}))
    kept = str(only_run(tmp_path / "first") / "drift_reference.json")
    monitor = {"type": "drift_monitor", "reference": kept}
    run(small(tmp_path / "second", data=shifted(300, 3.0), callbacks={"drift": monitor}))

    assert (only_run(tmp_path / "second") / "alerts.jsonl").exists()

    DataProfile.build(np.arange(10.0)[:, None], names=["temperature"]).save(tmp_path / "other.json")
    monitor["reference"] = str(tmp_path / "other.json")
    outcome = run(small(tmp_path / "third", data=shifted(300, 3.0), callbacks={"drift": monitor}))
    assert outcome.status == "failed"
    assert "there is no column 'temperature', which the reference has" in outcome.reason


class Moved:
    """A transform of training samples only."""

    deterministic = True

    def __call__(self, sample: Any) -> Any:
        """Move the inputs far away."""
        return sample[0] + 100, sample[1]


def test_augmentation_of_training_samples_is_not_drift(tmp_path):
    """The reference is transformed as validation, without augmentation."""
    run(
        small(
            tmp_path,
            data=shifted(300, 0.0),
            transforms={"moved": Moved()},
            callbacks={"drift": {"type": "drift_monitor"}},
        )
    )

    assert max(metrics["drift"] for metrics in logged_metrics(tmp_path)) < 0.1


def test_large_samples_are_summarised(tmp_path):
    """Images with more numbers than ``max_features`` are monitored by mean, deviation, minimum and maximum."""

    def images(rows: int, gain: float) -> TensorSamples:
        inputs = torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(rows))
        return TensorSamples(gain * inputs, torch.arange(rows) % 3, ("a", "b", "c"), "noise")

    monitor = DriftMonitor(max_features=10)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    run(small(tmp_path, data=Splits(images(600, 1.0), images(200, 1.5)), model=model, callbacks={"drift": monitor}))

    assert monitor.last is not None
    assert list(monitor.last.details) == ["inputs.mean", "inputs.std", "inputs.min", "inputs.max", "targets"]
    assert "inputs.std" in monitor.last.affected_features


def test_thresholds_that_cross_are_refused(tmp_path):
    """With the config, before any data are read."""
    monitor = {"type": "drift_monitor", "drift_threshold_warning": 0.5}
    with pytest.raises(ValueError, match=r"at most drift_threshold_critical, got 0\.5 and 0\.2"):
        DriftMonitor(drift_threshold_warning=0.5)
    with pytest.raises(ConfigError, match="at most drift_threshold_critical"):
        run(small(tmp_path, callbacks={"drift": monitor}))
