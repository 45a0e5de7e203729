"""Metrics of values against scikit-learn and torchmetrics."""

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
from dovetail.metrics.mae import MeanAbsoluteError
from dovetail.metrics.mse import MeanSquaredError
from dovetail.metrics.r2 import R2
from dovetail.models.output import ModelOutput
from small_runs import small

METRICS = [MeanAbsoluteError, MeanSquaredError, R2]


class Drawn:
    """Batches of predictions and values, perhaps masked; and, flat, what of them counts."""

    def __init__(self, seed, sizes, width, offset, *, masked):
        generator = torch.Generator().manual_seed(seed)
        self.batches, predicted, true = [], [], []
        for size in sizes:
            values = torch.randn(size, *width, generator=generator, dtype=torch.float64) + offset
            said = values + torch.randn(size, *width, generator=generator, dtype=torch.float64)
            batch = {"targets": values}
            kept = torch.ones(size, dtype=torch.bool)
            if masked:
                kept = torch.rand(size, generator=generator) < 0.7
                batch["mask"] = kept
            self.batches.append((said, batch))
            predicted.append(said[kept])
            true.append(values[kept])
        self.predicted, self.true = torch.cat(predicted), torch.cat(true)

    def feed(self, metric):
        """Return the figure after every batch."""
        for said, batch in self.batches:
            metric.update(ModelOutput(said), batch)
        (figure,) = metric.compute().values()
        return figure


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
    """Of any shape, over any batches, masked or not; of nothing they are not a number."""
    for metric, reference, other in (
        (MeanAbsoluteError(), sk.mean_absolute_error, tm.mean_absolute_error),
        (MeanSquaredError(), sk.mean_squared_error, tm.mean_squared_error),
    ):
        found = data.feed(metric)
        if len(data.true):
            assert found == pytest.approx(reference(data.true.numpy(), data.predicted.numpy()), rel=1e-9)
            assert found == pytest.approx(float(other(data.predicted.contiguous(), data.true.contiguous())), rel=1e-5)
        else:
            assert math.isnan(found)


@given(drawn)
def test_r2_is_scikit_learns_and_torchmetrics(data):
    """Also of several values a sample, whose coefficients are averaged; of one sample it is not a number."""
    found = data.feed(R2())
    if len(data.true) < 2:
        assert math.isnan(found)
        return
    # Of targets that are almost constant no digits are left, in any of the three.
    assume(float(data.true.std(dim=0).min()) > 0.1)
    assert found == pytest.approx(sk.r2_score(data.true.numpy(), data.predicted.numpy()), rel=1e-6, abs=1e-6)
    assert found == pytest.approx(float(tm.r2_score(data.predicted, data.true)), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -7e5])
@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_r2_of_constant_targets_is_scikit_learns(value, gap):
    """There is no spread to explain: 1 if they are met, else 0."""
    true = torch.full((5,), value, dtype=torch.float64)
    metric = R2()

    metric.update(ModelOutput(true + gap), {"targets": true})

    assert metric.compute()["r2"] == sk.r2_score(true.numpy(), (true + gap).numpy()) == 1.0 - gap


def test_one_value_a_sample_comes_out_the_same_as_a_column():
    """``[batch]`` and ``[batch, 1]`` are one thing."""
    true, said = torch.randn(6), torch.randn(6)
    flat, column = R2(), R2()

    flat.update(ModelOutput(said), {"targets": true})
    column.update(ModelOutput(said[:, None]), {"targets": true[:, None]})

    assert flat.compute() == column.compute()


@pytest.mark.parametrize("metric", METRICS)
def test_shapes_are_not_broadcast(metric):
    """``[batch, 1]`` against ``[batch]`` would compare everything with everything."""
    with pytest.raises(ValueError, match=r"outputs have shape \[4, 1\] but targets \[4\]; give both one shape"):
        metric().update(ModelOutput(torch.zeros(4, 1)), {"targets": torch.zeros(4)})


def test_samples_do_not_change_their_number_of_values():
    """The columns of a later batch must be those of the earlier."""
    metric = R2()
    metric.update(ModelOutput(torch.zeros(4, 2)), {"targets": torch.zeros(4, 2)})

    with pytest.raises(ValueError, match="targets have 3 values a sample, but 2 in earlier batches"):
        metric.update(ModelOutput(torch.zeros(4, 3)), {"targets": torch.zeros(4, 3)})


@pytest.mark.parametrize("metric", METRICS)
def test_updates_look_at_no_value(metric):
    """On tensors without values an update succeeds, so on a GPU it waits for nothing."""
    one = metric()
    batch = {"targets": torch.zeros(4, 2, device="meta"), "mask": torch.ones(4, dtype=torch.bool, device="meta")}

    for _ in range(2):
        one.update(ModelOutput(torch.zeros(4, 2, device="meta")), batch)

    assert all(state.is_meta for state in one.state_dict().values())


def test_a_run_of_a_regression_reports_them(tmp_path):
    """On a line that an MLP learns, the test figures agree with one another."""
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

    figures = run(config).check().test_metrics

    assert figures["test_mse"] == pytest.approx(figures["test_loss"], rel=1e-4)
    assert figures["test_mae"] ** 2 <= figures["test_mse"] * (1 + 1e-9)
    assert 0.95 < figures["test_r2"] <= 1
    assert np.isfinite(figures["test_mae"])
