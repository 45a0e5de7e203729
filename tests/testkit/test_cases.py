"""Tests of cases: the inputs of losses and metrics."""

from __future__ import annotations

import torch

from dovetail.models.output import ModelOutput
from dovetail.testkit import Case
from dovetail.testkit.cases import EXAMPLES, FORMS
from dovetail.testkit.registry import TRAITS


def test_take_selects_samples_everywhere():
    """Taking samples selects them in logits, inputs, targets and lists of meta alike."""
    case = Case(
        ModelOutput(torch.arange(6.0).reshape(3, 2)),
        {"inputs": {"a": torch.arange(3)}, "targets": torch.arange(3), "meta": {"id": ["x", "y", "z"]}},
    )

    taken = case.take([2, 0])

    assert len(taken) == 2
    assert taken.logits.tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert taken.batch["inputs"]["a"].tolist() == [2, 0]
    assert taken.batch["meta"]["id"] == ["z", "x"]


def test_a_dtype_converts_only_floating_point_tensors():
    """In fp64, logits and inputs are fp64, and integer labels keep their dtype."""
    double = EXAMPLES["classification"].to(torch.float64)

    assert double.logits.dtype == torch.float64
    assert double.batch["inputs"].dtype == torch.float64
    assert double.batch["targets"].dtype == torch.int64


def test_every_form_is_a_trait_with_an_example():
    """A loss or metric claims a form by a trait of the same name."""
    assert set(FORMS) == set(EXAMPLES)
    assert set(FORMS) <= set(TRAITS)
