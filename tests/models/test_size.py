"""Parameter counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail.models import CNN, MLP, CausalTransformer, Encoder, estimate_parameters, num_parameters
from model_samples import SMALL


@pytest.mark.parametrize(
    "options, millions",
    [
        ({}, 124),
        ({"d_model": 192, "num_layers": 6, "num_heads": 6, "d_ff": 768}, 12.4),
    ],
)
def test_the_transformers_have_their_documented_sizes(options: dict[str, int], millions: float) -> None:
    """With GPT-2's vocabulary the defaults have 124 million parameters, and the small model 12 million."""
    actual = estimate_parameters(CausalTransformer, vocab_size=50257, **options)

    assert actual / 1e6 == pytest.approx(millions, rel=0.01)


@given(
    st.sampled_from(
        [
            (CausalTransformer, SMALL),
            (MLP, {"input_shape": (3, 4), "num_classes": 5}),
            (CNN, {"input_shape": (8, 8), "num_classes": 5}),
            (Encoder, {"input_shape": (7,), "num_outputs": 1}),
        ]
    )
)
def test_estimates_are_counts(case: tuple[type[nn.Module], dict[str, Any]]) -> None:
    """The estimate without memory is the count of the built model."""
    model, options = case

    assert estimate_parameters(model, **options) == num_parameters(model(**options))


def test_trainable_parameters_exclude_frozen_ones() -> None:
    """Trainable parameters are those that receive a gradient."""
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(requires_grad=False)

    assert (num_parameters(model), num_parameters(model, trainable=True)) == (8, 6)
