"""Checks that hold for MLP, encoder and CNN: shapes, gradients, and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dovetail.models import CNN, MLP, Encoder
from model_samples import logits_of

MODELS = [MLP, Encoder, CNN]


activations = st.sampled_from(["relu", "gelu", "silu", "tanh", "elu", "leaky_relu"])


@given(
    model=st.sampled_from(MODELS),
    shape=st.sampled_from([(5, 4), (1, 6, 6), (3, 1, 9), (2, 8, 3)]),
    batch=st.integers(2, 4),
    outputs=st.sampled_from([("num_classes", 1), ("num_classes", 3), ("num_outputs", 1), ("num_outputs", 2)]),
    activation=activations,
    batch_norm=st.booleans(),
)
def test_outputs_have_the_shape_that_losses_expect(
    *,
    model: type[nn.Module],
    shape: tuple[int, ...],
    batch: int,
    outputs: tuple[str, int],
    activation: str,
    batch_norm: bool,
) -> None:
    """Classes give [batch, classes], values [batch, values], and every parameter gets a gradient."""
    name, size = outputs
    built = model(input_shape=shape, activation=activation, batch_norm=batch_norm, **{name: size})

    actual = logits_of(built, torch.randn(batch, *shape))
    actual.square().sum().backward()

    assert tuple(actual.shape) == (batch, size)
    assert all(parameter.grad is not None for parameter in built.parameters())


@pytest.mark.parametrize("model", MODELS)
def test_num_outputs_takes_precedence_over_num_classes(model: type[nn.Module]) -> None:
    """A dataset with classes allows a regression: num_outputs wins over the num_classes that the run provides."""
    assert logits_of(model(input_shape=(4, 4), num_classes=10, num_outputs=2), torch.randn(3, 4, 4)).shape == (3, 2)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "num_classes: unknown for this dataset; set num_classes, or num_outputs"),
        ({"num_classes": 0}, "num_classes: must be at least 1, got 0"),
        ({"num_outputs": 0}, "num_outputs: must be at least 1, got 0"),
        ({"num_classes": 3, "activation": "sigmoidal"}, "activation: 'sigmoidal' is not one of relu, gelu"),
        ({"num_classes": 3, "input_shape": (0, 4)}, "input_shape: must be at least 1, got 0"),
    ],
)
def test_bad_options_are_named(model: type[nn.Module], options: dict[str, Any], message: str) -> None:
    """The constructor's error names the option."""
    with pytest.raises(ValueError, match=message):
        model(**{"input_shape": (4, 4), **options})


@pytest.mark.parametrize(
    "model, options, message",
    [
        (MLP, {"hidden_dims": [4, 0]}, "hidden_dims: must be at least 1, got 0"),
        (MLP, {"dropout": 1.0}, "dropout: must be at least 0 and below 1, got 1"),
        (Encoder, {"latent_dim": 0}, "latent_dim: must be at least 1, got 0"),
        (Encoder, {"dropout_rate": -0.5}, "dropout_rate: must be at least 0 and below 1, got -0.5"),
        (CNN, {"channels": []}, "channels: needs at least one convolution"),
        (CNN, {"kernel_size": 4}, "kernel_size: must be odd, got 4"),
        (CNN, {"input_shape": (9,)}, r"input_shape: \[9\] is not an image"),
    ],
)
def test_bad_options_of_one_model_are_named(model: type[nn.Module], options: dict[str, Any], message: str) -> None:
    """The constructor's error names an option that only one model has."""
    with pytest.raises(ValueError, match=message):
        model(**{"input_shape": (4, 4), "num_classes": 3, **options})


@pytest.mark.parametrize("model", MODELS)
def test_batches_that_do_not_fit_raise(model: type[nn.Module]) -> None:
    """The error for samples of another size, and for integers, has what was given."""
    built = model(input_shape=(4, 4), num_classes=3)

    with pytest.raises(ValueError, match=r"built for samples of shape \[.*4, 4\], got a batch of shape \[2, 5, 5\]"):
        built(torch.randn(2, 5, 5))
    with pytest.raises(ValueError, match=r"inputs are torch\.uint8; convert them to float first"):
        built(torch.zeros(2, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("model", [MLP, Encoder])
def test_batch_norm_needs_two_samples(model: type[nn.Module]) -> None:
    """The error for a last batch of one sample says what to do; evaluation works."""
    built = model(input_shape=(4,), num_classes=3, batch_norm=True)

    with pytest.raises(ValueError, match=r"batch_norm cannot train on a batch of one sample; set loader.drop_last"):
        built(torch.randn(1, 4))
    assert logits_of(built.eval(), torch.randn(1, 4)).shape == (1, 3)
