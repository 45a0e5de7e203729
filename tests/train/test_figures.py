"""Named figures: comparing them, and messages about missing ones."""

from __future__ import annotations

import math

import torch

from dovetail.train.figures import better, format_figures, learning_rates, missing_metric, scalars


def test_better_by_more_than_the_margin():
    """A tie is no improvement, NaN and infinity never are, and anything finite beats nothing."""
    assert better(0.5, 0.6, "min")
    assert not better(0.6, 0.6, "min")
    assert not better(0.55, 0.6, "min", margin=0.1)
    assert better(0.7, 0.6, "max")
    assert not better(0.65, 0.6, "max", margin=0.1)
    assert better(7.0, None, "min")
    assert not any(better(value, None, "max") for value in (math.nan, math.inf))


def test_lists_are_no_scalars():
    """Plots and trackers do not get a confusion matrix."""
    assert scalars({"accuracy": 1, "matrix": [[1]], "loss": 0.5}) == {"accuracy": 1.0, "loss": 0.5}
    assert format_figures({"loss": 0.123456789, "lr": 1e-9}) == "loss 0.123457, lr 1e-09"


def test_a_missing_metric_is_suggested_or_all_are_listed():
    """The message has the nearest name, or all names."""
    assert missing_metric("val_los", ["val_loss", "lr"]) == "there is no metric 'val_los'; did you mean 'val_loss'?"
    assert missing_metric("zzz", ["b", "a"]) == "there is no metric 'zzz'; there is a, b"
    assert missing_metric("zzz", []) == "there is no metric 'zzz'; there is none"


def test_learning_rates_of_several_groups():
    """The first group's rate is ``lr``; the others are numbered."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 0.2)]

    assert learning_rates(torch.optim.SGD(groups)) == {"lr": 0.1, "lr_group1": 0.2}
