"""Metrics of predicted values against scikit-learn and torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchmetrics.functional.regression as tm
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as sk

from dovetail.data import Splits
from dovetail.data.samples import TensorSamples
from dovetail.main import run
from dovetail.metrics.regression import R2, MeanAbsoluteError, MeanSquaredError
from dovetail.models.output import ModelOutput
from small_runs import small

METRICS = [MeanAbsoluteError, MeanSquaredError, R2]


class Drawn:
    """Batches of predictions and values, perhaps masked; and the values that count, flattened."""

    def __init__(self, seed, sizes, width, offset, *, masked):
        generator = torch.Generator().manual_seed(seed)
        self.batches, predicted, true = [], [], []
        for size in sizes:
            values = torch.randn(size, *width, generator=generator, dtype=torch.float64) + offset
            noisy = values + torch.randn(size, *width, generator=generator, dtype=torch.float64)
            batch = {"targets": values}
            kept = torch.ones(size, dtype=torch.bool)
            if masked:
                kept = torch.rand(size, generator=generator) < 0.7
                batch["mask"] = kept
            self.batches.append((noisy, batch))
            predicted.append(noisy[kept])
            true.append(values[kept])
        self.predicted, self.true = torch.cat(predicted), torch.cat(true)

    def feed(self, metric):
        """Update a metric with every batch and return its value."""
        for predictions, batch in self.batches:
            metric.update(ModelOutput(predictions), batch)
        (value,) = metric.compute().values()
        return value


drawn = st.builds(
    Drawn,
    seed=st.integers(0, 2**16),
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    width=st.sampled_from([(), (1,), (3,)]),
    offset=st.sampled_from([0.0, -5.0, 1e3]),
    masked=st.booleans(),
)


@given(drawn)
def test_errors_are_scikit_learns_and_torchmetrics(data):
    """For any shape and any batches, masked or not; without values they are NaN."""
    for metric, reference, other in (
        (MeanAbsoluteError(), sk.mean_absolute_error, tm.mean_absolute_error),
        (MeanSquaredError(), sk.mean_squared_error, tm.mean_squared_error),
    ):
        actual = data.feed(metric)
        if len(data.true):
            assert actual == pytest.approx(reference(data.true.numpy(), data.predicted.numpy()), rel=1e-9)
            assert actual == pytest.approx(float(other(data.predicted.contiguous(), data.true.contiguous())), rel=1e-5)
        else:
            assert math.isnan(actual)


@given(drawn)
def test_r2_is_scikit_learns_and_torchmetrics(data):
    """If samples have several values, the coefficients are averaged; for one sample it is NaN."""
    actual = data.feed(R2())
    if len(data.true) < 2:
        assert math.isnan(actual)
        return
    # For almost constant targets all three lose every digit.
    assume(float(data.true.std(dim=0).min()) > 0.1)
    assert actual == pytest.approx(sk.r2_score(data.true.numpy(), data.predicted.numpy()), rel=1e-6, abs=1e-6)
    assert actual == pytest.approx(float(tm.r2_score(data.predicted, data.true)), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -7e5])
@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_r2_of_constant_targets_is_scikit_learns(value, gap):
    """Without spread to explain, it is 1 if the predictions equal the targets, else 0."""
    true = torch.full((5,), value, dtype=torch.float64)
    metric = R2()

    metric.update(ModelOutput(true + gap), {"targets": true})

    assert metric.compute()["r2"] == sk.r2_score(true.numpy(), (true + gap).numpy()) == 1.0 - gap


def test_one_value_per_sample_may_be_a_column():
    """``[batch]`` and ``[batch, 1]`` give the same value."""
    true, predicted = torch.randn(6), torch.randn(6)
    flat, column = R2(), R2()

    flat.update(ModelOutput(predicted), {"targets": true})
    column.update(ModelOutput(predicted[:, None]), {"targets": true[:, None]})

    assert flat.compute() == column.compute()


@pytest.mark.parametrize("metric", METRICS)
def test_shapes_are_not_broadcast(metric):
    """``[batch, 1]`` and ``[batch]``, which would broadcast to ``[batch, batch]``, raise."""
    with pytest.raises(ValueError, match=r"outputs have shape \[4, 1\] but targets \[4\]; give both the same shape"):
        metric().update(ModelOutput(torch.zeros(4, 1)), {"targets": torch.zeros(4)})


def test_the_number_of_values_per_sample_must_not_change():
    """A later batch must have the columns of the earlier ones."""
    metric = R2()
    metric.update(ModelOutput(torch.zeros(4, 2)), {"targets": torch.zeros(4, 2)})

    with pytest.raises(ValueError, match="targets have 3 values per sample, but 2 in earlier batches"):
        metric.update(ModelOutput(torch.zeros(4, 3)), {"targets": torch.zeros(4, 3)})


@pytest.mark.parametrize("metric", METRICS)
def test_updates_read_no_value(metric):
    """An update works on tensors without values, so on a GPU it does not sync."""
    empty = metric()
    batch = {"targets": torch.zeros(4, 2, device="meta"), "mask": torch.ones(4, dtype=torch.bool, device="meta")}

    for _ in range(2):
        empty.update(ModelOutput(torch.zeros(4, 2, device="meta")), batch)

    assert all(state.is_meta for state in empty.state_dict().values())


def test_a_regression_run_reports_them(tmp_path):
    """On a line that an MLP learns, the test values agree with one another."""
    time = torch.linspace(0, 2, 80)[:, None]
    line = TensorSamples(time, 3 * time - 1, None, "line")
    config = small(
        tmp_path,
        data=Splits(line, line, line),
        model={"type": "mlp", "hidden_dims": [16]},
        loss={"type": "mse"},
        metrics={name: {"type": name} for name in ("mae", "mse", "r2")} | {"accuracy": {"type": "mae"}},
        training={"max_epochs": 100},
    )

    values = run(config).check().test_metrics

    assert values["test_mse"] == pytest.approx(values["test_loss"], rel=1e-4)
    assert values["test_mae"] ** 2 <= values["test_mse"] * (1 + 1e-9)
    assert 0.95 < values["test_r2"] <= 1
    assert np.isfinite(values["test_mae"])
