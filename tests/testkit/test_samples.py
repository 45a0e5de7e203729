"""Tests of samples: the inputs of collators and transforms."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given

from dovetail.testkit.samples import FORMS, RAGGED_SHAPES, copied, same, sample_lists

NAN = float("nan")


def test_same_compares_bit_for_bit():
    """Equal values, dtypes and shapes are the same, nan included; anything else differs."""
    assert same((torch.tensor([1.0, NAN]), {"a": 3}), (torch.tensor([1.0, NAN]), {"a": 3}))
    assert same(np.array([NAN, 2.0]), np.array([NAN, 2.0]))
    assert same(NAN, NAN)
    assert not same(torch.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64))
    assert not same(torch.tensor([1.0]), torch.tensor([[1.0]]))
    assert not same(torch.tensor(1.0), 1.0)
    assert not same({"a": 1}, {"b": 1})
    assert not same([1, 2], [1])


def test_a_copy_shares_no_memory():
    """Changing a copy leaves the original unchanged, at any depth."""
    sample = {"inputs": torch.zeros(2), "rest": [np.zeros(2), (torch.zeros(1), 3)]}

    copy = copied(sample)
    copy["inputs"] += 1
    copy["rest"][0] += 1
    copy["rest"][1][0].add_(1)

    assert same(sample, {"inputs": torch.zeros(2), "rest": [np.zeros(2), (torch.zeros(1), 3)]})


@given(samples=sample_lists(FORMS["(input, class)"], RAGGED_SHAPES, min_size=2))
def test_ragged_samples_vary_in_one_dimension(samples):
    """A list has samples of one rank whose sizes differ in one dimension at most."""
    shapes = [tuple(inputs.shape) for inputs, _ in samples]

    assert len({len(shape) for shape in shapes}) == 1
    assert sum(len(set(sizes)) > 1 for sizes in zip(*shapes, strict=True)) <= 1
