"""Tests of reading parameters, and of when torch's fused optimizers are used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dovetail.optimizers import factories
from dovetail.optimizers.fused import can_fuse, read_params


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("factory", ["adamw", "adam", "sgd"])
def test_a_skipped_first_update_leaves_no_trace(factory: str, fused: bool) -> None:
    """The loss scaler skips it when gradients overflow; a parameter may get its first gradient even later."""
    weight, late = nn.Parameter(torch.ones(50)), nn.Parameter(torch.ones(50))
    optimizer = getattr(factories, factory)([weight, late], lr=0.1, weight_decay=0.0, fused=fused)
    scaler = torch.amp.GradScaler("cpu")
    for factor in (float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale((weight * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    first = 0.1 * 1.9 if factory == "sgd" else 0.1  # Nesterov momentum looks ahead
    torch.testing.assert_close(weight, torch.full((50,), 1 - first))

    (weight + late).sum().backward()
    optimizer.step()
    torch.testing.assert_close(late, torch.full((50,), 1 - first))


def test_mixed_devices_or_dtypes_are_not_fused() -> None:
    """Neither are parameters on a device without fused kernels, or complex ones."""
    on_cpu, on_meta = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, device="meta"))
    complex_parameter = nn.Parameter(torch.ones(2, dtype=torch.complex64))

    assert can_fuse([on_cpu])
    assert not can_fuse([on_cpu, on_meta])
    assert not can_fuse([on_meta])
    assert not can_fuse([on_cpu, complex_parameter])
    assert not factories.adamw([on_cpu, complex_parameter]).param_groups[0]["fused"]


@pytest.mark.parametrize("params", [[], [{"params": []}], iter(())])
def test_nothing_to_optimise_is_refused(params: Any) -> None:
    """The message says that the model has no trainable parameters."""
    with pytest.raises(ValueError, match="params: there is nothing to optimise"):
        read_params(params)
