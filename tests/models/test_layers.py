"""Building blocks of the small models."""

from __future__ import annotations

from torch import nn

from dovetail.models.layers import activation_layer, linear_stack


def test_every_activation_is_a_new_layer() -> None:
    """Two layers do not use the same activation object."""
    assert activation_layer("relu") is not activation_layer("relu")


def test_a_linear_stack_without_options_is_linear_and_activation():
    """Batch norm and dropout are left out, and sizes chain."""
    stack = linear_stack([3, 5, 2], "tanh", 0.0, batch_norm=False)

    assert [type(layer) for layer in stack] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh]
    assert [layer.weight.shape for layer in stack if isinstance(layer, nn.Linear)] == [(5, 3), (2, 5)]
