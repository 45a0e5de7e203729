"""All physics losses: mixed labels, and the errors of options and batches."""

from __future__ import annotations

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


def test_every_loss_takes_soft_labels(rolling):
    """One-hot labels give the same loss as class indices; the physics ignores labels."""
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    shares = {**rolling, "targets": F.one_hot(rolling["targets"], 3).float()}
    options = {"expected_freqs": EXPECTED, "sample_rate": 12_000, "unit": "orders"}
    for loss in (
        PhysicalConstraintLoss(1.0, 0.0, 0.1, **options),
        PhysicalConstraintLoss(1.0, 0.0, 0.1, classification=nn.CrossEntropyLoss(), **options),
        FrequencyConsistencyLoss(**options),
        TemporalSmoothnessLoss(),
    ):
        torch.testing.assert_close(loss(scored(logits), shares).total, loss(scored(logits), rolling).total)
    half = {**rolling, "targets": torch.full((12, 3), 1 / 3)}
    parts = PhysicalConstraintLoss(1.0, 0.0, 0.1, **options)(scored(logits), half).parts

    torch.testing.assert_close(parts["classification"], -logits.log_softmax(1).mean())


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: FrequencyConsistencyLoss({"inner": [5.0]}), "keys must be class indices 0, 1, …, got 'inner'"),
        (lambda: FrequencyConsistencyLoss({"0": [-5.0]}), "class 0: expected frequencies must be above 0"),
        (lambda: FrequencyConsistencyLoss({"0": [5.0]}, tolerance=0.0), "tolerance must be above 0"),
        (
            lambda: FrequencyConsistencyLoss({}, bands={"0": [[1.0]]}),
            r"a band must be \[low, high\] in Hz, got \[1\.0\]",
        ),
        (lambda: SommerfeldConsistencyLoss([0, 0, 1]), r"must name each class once, 0 to 2, got \[0, 0, 1\]"),
        (lambda: SommerfeldConsistencyLoss(clearance=0.0), "clearance must be above 0"),
        (lambda: TemporalSmoothnessLoss(-1.0), "lambda_smooth must be at least 0"),
        (PhysicalConstraintLoss, "lambda_freq: needs expected_freqs"),
        (lambda: PhysicalConstraintLoss(-1.0), "lambda_freq: must be at least 0, got -1"),
    ],
)
def test_invalid_options_raise(make, message):
    """Every loss checks its options when it is built."""
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "loss, changed, message",
    [
        (
            FrequencyConsistencyLoss({"1": [3.0]}, unit="orders"),
            {"meta": {}},
            "in orders needs meta.rpm, but the batch's meta has nothing",
        ),
        (FrequencyConsistencyLoss({"7": [3.0]}), {}, "no class 7; the model has classes 0 to 2"),
        (
            FrequencyConsistencyLoss({"1": [3.0]}),
            {"inputs": torch.ones(6, 1, 8, 8)},
            r"must be signals .* \[6, 1, 8, 8\]",
        ),
        (FrequencyConsistencyLoss({"1": [3.0]}), {"inputs": torch.ones(5, 8)}, "5 signals for 6 outputs"),
        (
            SommerfeldConsistencyLoss(),
            {"meta": {"rpm": [1.0] * 6}},
            "needs meta.viscosity, but the batch's meta has rpm",
        ),
        (SommerfeldConsistencyLoss([0, 1]), {}, "has 2 classes, but the model has 3"),
        (SommerfeldConsistencyLoss(), {"meta": {"sommerfeld": [1.0]}}, "one number for each of 6 samples"),
        (SommerfeldConsistencyLoss(), {"meta": {"sommerfeld": [None] * 6}}, "meta.sommerfeld must be one number"),
        (PhysicalConstraintLoss(0, 0), {"targets": torch.arange(6)}, "label 3 is out of range for 3 classes"),
        (PhysicalConstraintLoss(0, 0), {"targets": torch.ones(6)}, r"integers of shape \[6\]; got torch\.float32"),
        (PhysicalConstraintLoss(0, 0), {"targets": None}, "got NoneType"),
        (TemporalSmoothnessLoss(), {"targets": torch.arange(5)}, r"targets must have shape \[6\], not \[5\]"),
    ],
)
def test_unusable_batches_raise(loss, changed, message):
    """The error says what is missing and what there is."""
    with pytest.raises(ValueError, match=message):
        loss(scored(torch.zeros(6, 3)), {**batch_of_everything(), **changed})


def test_logits_of_another_shape_raise():
    """Logits of sequences are not supported."""
    with pytest.raises(ValueError, match=r"outputs have shape \[6, 3, 2\] instead of \[batch, classes\]"):
        TemporalSmoothnessLoss()(scored(torch.zeros(6, 3, 2)), batch_of_everything())
