"""The combined physics loss."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dovetail import ModelOutput
from dovetail_signals.geometry import bearing
from dovetail_signals.losses.constraint import PhysicalConstraintLoss
from dovetail_signals.losses.frequency import FrequencyConsistencyLoss
from dovetail_signals.losses.sommerfeld import SommerfeldConsistencyLoss
from dovetail_signals.losses.temporal import TemporalSmoothnessLoss

ORDERS = bearing("SKF-6205").orders()


EXPECTED = {"1": [ORDERS.bpfo], "2": [ORDERS.bpfi]}


def scored(logits):
    """Return outputs with these logits."""
    return ModelOutput.from_raw(torch.as_tensor(logits, dtype=torch.float32))


def batch_of_everything(samples=6):
    """Return a batch with signals, labels and operating conditions."""
    generator = torch.Generator().manual_seed(4)
    return {
        "inputs": torch.randn(samples, 1, 256, generator=generator),
        "targets": torch.arange(samples) % 3,
        "meta": {"sommerfeld": torch.rand(samples, generator=generator), "rpm": torch.full((samples,), 1800.0)},
    }


def test_physical_constraint_is_the_sum_of_its_parts():
    """Each part equals its own loss; total and gradient are the weighted sum."""
    batch, raw = batch_of_everything(), torch.randn(6, 3, requires_grad=True)
    outputs = ModelOutput.from_raw(raw)
    together = PhysicalConstraintLoss(0.7, 0.4, 0.2, expected_freqs=EXPECTED, sample_rate=512, unit="orders")
    alone = {
        "frequency": (0.7, FrequencyConsistencyLoss(EXPECTED, 512, unit="orders")),
        "sommerfeld": (0.4, SommerfeldConsistencyLoss()),
        "temporal": (0.2, TemporalSmoothnessLoss(1.0)),
    }

    found = together(outputs, batch)
    wanted = F.cross_entropy(raw, batch["targets"])
    for name, (factor, loss) in alone.items():
        part = loss(outputs, batch).total
        torch.testing.assert_close(found.parts[name], part.detach())
        wanted = wanted + factor * part

    torch.testing.assert_close(found.total, wanted)
    got, expected = torch.autograd.grad(found.total, raw), torch.autograd.grad(wanted, raw)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_physical_constraint_takes_another_classification_loss():
    """Any torch loss works; a factor of 0 skips a term and its part."""
    batch, outputs = batch_of_everything(), scored(torch.randn(6, 3))
    smoothing = nn.CrossEntropyLoss(label_smoothing=0.1)

    found = PhysicalConstraintLoss(0.0, 0.0, 0.0, classification=smoothing)(outputs, batch)

    torch.testing.assert_close(found.total, smoothing(outputs.logits, batch["targets"]))
    assert list(found.parts) == ["classification"]


def test_samples_without_a_label_count_for_the_physics():
    """Cross-entropy is the mean over the labelled samples."""
    batch, outputs = batch_of_everything(), scored(torch.randn(6, 3))
    targets = torch.tensor([0, -100, 2, -100, -100, 1])

    found = PhysicalConstraintLoss(expected_freqs=EXPECTED, sample_rate=512, unit="orders")(
        outputs, {**batch, "targets": targets}
    )

    torch.testing.assert_close(found.parts["classification"], F.cross_entropy(outputs.logits, targets))
    assert found.parts["frequency"] > 0


@pytest.mark.slow
def test_a_run_trains_with_a_nested_loss(tmp_path):
    """A run file with a nested classification loss trains, and logs the parts."""
    file = tmp_path / "run.toml"
    file.write_text(
        """
[run]
name = "physics"
[data]
type = "signals.simulated_rolling"
faults = ["healthy", "outer_race", "inner_race"]
recordings = 4
seconds = 0.25
meta = ["rpm"]
[model]
type = "mlp"
hidden_dims = [16]
[loss]
type = "signals.physical_constraint"
classification = { type = "focal", gamma = 2.0 }
expected_freqs = { 1 = [3.585], 2 = [5.415] }
sample_rate = 12000
unit = "orders"
lambda_sommerfeld = 0.0
[optimizer]
type = "adamw"
lr = 0.01
[training]
max_epochs = 3
[hardware]
device = "cpu"
[logging]
console = false
[report]
enabled = false
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "dovetail", "run", str(file)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    assert done.returncode == 0, done.stderr
    (metrics,) = (tmp_path / "runs").rglob("metrics.jsonl")
    assert "frequency" in metrics.read_text()
