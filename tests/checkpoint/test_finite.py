"""What may be saved of a model: the weights that are looked at, and the look itself."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dovetail.checkpoint.finite import unsound


@settings(max_examples=60)
@given(
    values=st.lists(st.lists(st.floats(width=32), max_size=5), max_size=4),
    trained=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_against_a_plain_account_of_it(values, trained):
    """Whatever the numbers, those among them whose squares are too large, and tensors without any."""
    module = nn.Module()
    expected = []
    for number, (row, train) in enumerate(zip(values, trained, strict=False)):
        module.register_parameter(f"p{number}", nn.Parameter(torch.tensor(row), requires_grad=train))
        if any(math.isnan(one) or (train and math.isinf(one)) for one in row):
            expected.append(f"p{number}")

    assert unsound(module) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_every_dtype_with_its_largest_number(dtype, value):
    """The largest number is sound, however large its square."""
    module = nn.Linear(3, 2, dtype=dtype)
    with torch.no_grad():
        module.weight.fill_(torch.finfo(dtype).max)
        if value is not None:
            module.weight[1, 2] = value

    assert unsound(module) == ([] if value is None else ["weight"])


def test_buffers_may_be_infinite_but_not_nan_and_integers_are_left_alone():
    """A mask of infinities is sound, running figures that took in a NaN are not."""
    module = nn.Sequential(nn.BatchNorm1d(2), nn.Identity())
    module.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    assert unsound(module) == []
    assert unsound(nn.Identity()) == []
    module[0].running_mean[1] = math.nan

    assert unsound(module) == ["0.running_mean"]
