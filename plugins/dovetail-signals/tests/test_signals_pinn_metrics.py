"""The relative L2 error."""

from __future__ import annotations

import math

import pytest
import torch


def test_the_error_is_over_all_samples():
    """It is not a mean over batches; with ``magnitude`` it compares the magnitudes of complex numbers."""
    from dovetail import ModelOutput
    from dovetail_signals.pinn.metrics import RelativeL2

    metric, length = RelativeL2(), RelativeL2(magnitude=True)
    for found, true in (([3.0, 4.0], [0.0, 4.0]), ([0.0, 5.0], [3.0, 4.0])):
        for measured in (metric, length):
            measured.update(ModelOutput(torch.tensor([found])), {"targets": torch.tensor([true])})

    assert metric.compute()["relative_l2"] == pytest.approx(math.sqrt((9 + 9 + 1) / (16 + 25)))
    assert length.compute()["relative_l2"] == pytest.approx(math.sqrt(1 / (16 + 25)))
    metric.reset()
    assert math.isnan(metric.compute()["relative_l2"])
