"""Targets and masks of a batch, and the check of labels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dovetail.losses import (
    as_loss,
)
from dovetail.losses.targets import LabelGuard, at_least_float32, target_mask
from dovetail.models import ModelOutput


def test_only_first_batches_are_checked_on_a_gpu() -> None:
    """Where a check syncs, the guard checks the first batch in training and the first in evaluation."""

    class GPUTensor(Tensor):
        is_cpu = False

    guard, bad = LabelGuard("loss", -100), torch.tensor([0, 5]).as_subclass(GPUTensor)
    fine = torch.tensor([0, 1]).as_subclass(GPUTensor)

    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            with pytest.raises(ValueError, match="loss: label 5 is out of range"):
                guard(lambda: pytest.fail("a CUDA kernel would abort here"), bad, 3)
            assert guard(lambda: fine, fine, 3) is fine
            assert guard(lambda: bad, bad, 3) is bad


def test_targets_must_be_a_tensor() -> None:
    """The error names the type of targets that a collator left as a list, and the batch's keys."""
    with pytest.raises(ValueError, match="the batch has targets of list, not a tensor; it has inputs, targets"):
        as_loss(nn.MSELoss())(ModelOutput(torch.ones(2)), {"targets": [1, 2], "inputs": torch.ones(2)})


@pytest.mark.parametrize(
    "mask, expected",
    [
        ([True, False], [[True, True, True], [False, False, False]]),
        ([[1, 0, 1], [0, 1, 1]], [[True, False, True], [False, True, True]]),
        ([True, False, True], None),
        ([[True, True]], None),
        (None, None),
    ],
)
def test_a_mask_applies_if_its_shape_is_a_prefix_of_the_targets(mask, expected):
    """A mask of samples or of positions extends to all targets; a mask of another shape applies to the inputs."""
    targets = torch.zeros(2, 3)
    batch = {"targets": targets} if mask is None else {"targets": targets, "mask": torch.tensor(mask)}

    actual = target_mask(batch, targets)

    assert (None if actual is None else actual.tolist()) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_only_half_precision_is_widened(dtype):
    """Scores in half precision become float32; others are returned without a copy."""
    scores = torch.ones(2, dtype=dtype)

    widened = at_least_float32(scores)

    assert widened.dtype == (torch.float32 if dtype.itemsize == 2 else dtype)
    assert (widened is scores) == (dtype.itemsize > 2)
