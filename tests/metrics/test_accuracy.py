"""Accuracy and top-k accuracy against scikit-learn."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from dovetail.metrics import (
    Accuracy,
)
from metric_samples import Drawn, drawn, same, update


@given(drawn)
def test_accuracy_is_scikit_learns(data: Drawn) -> None:
    """Over batches of any sizes, with labels ignored and masked, it is scikit-learn's for the labels that count."""
    expected = sk.accuracy_score(data.true, data.predicted) if len(data.true) else math.nan

    same(data.feed(Accuracy()).compute()["accuracy"], expected)


@given(drawn, st.integers(1, 5))
def test_top_k_accuracy_is_scikit_learns(data: Drawn, k: int) -> None:
    """A prediction is right if scikit-learn finds the class among the k highest scores."""
    k = min(k, data.classes)
    actual = data.feed(Accuracy(top_k=k)).compute()
    best = data.scores.numpy().argsort(axis=1)[:, ::-1][:, :k]
    expected = float((best == data.true.numpy()[:, None]).any(axis=1).mean()) if len(data.true) else math.nan
    if len(data.true) and data.classes > 2 and k < data.classes:
        same(sk.top_k_accuracy_score(data.true, data.scores, k=k, labels=range(data.classes)), expected)

    same(actual["accuracy" if k == 1 else f"top{k}_accuracy"], expected)


def test_with_shift_position_t_predicts_target_t_plus_1() -> None:
    """Logits, targets and mask are shifted alike."""
    tokens = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])
    sure = torch.nn.functional.one_hot(tokens.roll(-1, dims=1), 5).float()
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    metric = Accuracy(shift=True)

    assert update(metric, sure, tokens, mask=mask) == {"accuracy": 1.0}
    assert metric.state_dict()["right_and_total"].tolist() == [4, 4]
