"""Confidence of predictions against NumPy and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from dovetail.main import run
from dovetail.metrics import (
    Confidence,
)
from dovetail.models import ModelOutput
from small_runs import small


@given(st.integers(1, 40), st.integers(2, 12), st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 30.0]))
def test_it_is_numpys(rows, classes, seed, scale):
    """Over two batches, with ignored labels: the largest, the five largest, and the entropy of softmax."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, classes, generator=generator)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    labels[0] = -100
    metric = Confidence()
    for part in (slice(0, rows // 2), slice(rows // 2, rows)):
        if len(labels[part]):
            metric.update(ModelOutput(logits[part]), {"targets": labels[part]})
    p = np.sort(softmax(logits.double().numpy(), axis=1), axis=1)[:, ::-1][labels.numpy() != -100]
    expected = {
        "top1_confidence": p[:, 0].mean() if len(p) else math.nan,
        "top5_confidence": p[:, :5].sum(1).mean() if len(p) else math.nan,
        "entropy": entropy(p, axis=1).mean() if len(p) else math.nan,
    }

    assert metric.compute() == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_a_binary_score_has_two_classes():
    """One score per label is read as the scores of two classes."""
    metric = Confidence()
    metric.update(ModelOutput(torch.tensor([0.0, math.log(3.0)])), {"targets": torch.tensor([0, 1])})

    assert metric.compute()["top1_confidence"] == pytest.approx((0.5 + 0.75) / 2)
    assert metric.compute()["top5_confidence"] == pytest.approx(1.0)


def test_a_run_measures_confidence(tmp_path):
    """The values of the metric ``confidence`` are among those of every validation."""
    outcome = run(small(tmp_path, metrics={"confidence": {"type": "confidence"}}))

    assert 1 / 3 <= outcome.metrics["val_top1_confidence"] <= outcome.metrics["val_top5_confidence"] <= 1
    assert 0 <= outcome.metrics["val_entropy"] <= math.log(3)
