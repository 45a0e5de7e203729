"""Fully connected models: a multilayer perceptron, and an encoder with a latent vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn

from dovetail.models.layers import (
    Activation,
    Head,
    Size,
    check_fraction,
    check_samples,
    check_sizes,
    linear_stack,
)
from dovetail.spec import Between, Provided


class MLP(nn.Module):
    """Linear layers on flattened samples.

    Args:
        input_shape: shape of one sample, which the model flattens; the dataset provides it.
        num_classes: number of classes; the dataset provides it. Output ``[batch, num_classes]``.
        num_outputs: predict this many values instead of classes; the dataset of a regression provides it. Output
            ``[batch, num_outputs]``.
        hidden_dims: sizes of the hidden layers; empty for a linear model.
        dropout: fraction of hidden values set to zero in training, 0 to 1.
        activation: after each hidden layer.
        batch_norm: whether each hidden layer is normalised over the batch before its activation.

    Raises:
        ValueError: a size is below 1, or neither ``num_classes`` nor ``num_outputs`` is known.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        num_classes: Annotated[int | None, Provided] = None,
        num_outputs: Annotated[Size | None, Provided] = None,
        hidden_dims: Sequence[Size] = (128, 64),
        dropout: Annotated[float, Between(0, 1)] = 0.0,
        activation: Activation = "relu",
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(input_shape=input_shape, hidden_dims=hidden_dims)
        check_fraction("dropout", dropout)
        sizes = [math.prod(input_shape), *hidden_dims]
        self.input_shape = tuple(input_shape)
        self.batch_norm = batch_norm and bool(hidden_dims)
        self.hidden = linear_stack(sizes, activation, dropout, batch_norm=batch_norm)
        self.head = Head(sizes[-1], num_classes, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits, or predicted values, of a batch ``[batch, *input_shape]``.

        Raises:
            ValueError: the batch has samples of another size, or is not floating-point.
        """
        check_samples("mlp", inputs, self.input_shape, training_norm=self.batch_norm and self.training)
        logits: Tensor = self.head(self.hidden(inputs.flatten(1)))
        return logits


class Encoder(nn.Module):
    """Encodes a sample into a latent vector, and predicts classes or values from that.

    The flattened sample goes through layers of sizes ``encoder_dim``, then ``hidden_dims``; a last linear layer without
    activation makes the latent vector of size ``latent_dim``; the head is one linear layer on that. The model returns
    the latent vector beside the logits, as ``hidden``, so that a loss or a callback can use it; ``encode`` returns it
    alone.

    Args:
        input_shape: shape of one sample, which the model flattens; the dataset provides it.
        num_classes: number of classes; the dataset provides it. Logits ``[batch, num_classes]``.
        num_outputs: predict this many values instead of classes: ``[batch, num_outputs]``; the dataset of a regression
            provides it.
        encoder_dim: size of the first layer, which projects samples.
        hidden_dims: sizes of the layers between the first layer and the latent vector; may be empty.
        latent_dim: size of the latent vector.
        dropout_rate: fraction of values set to zero after each of those layers in training, 0 to 1.
        activation: after each of those layers.
        batch_norm: whether each of those layers is normalised over the batch before its activation.

    Raises:
        ValueError: a size is below 1, or neither ``num_classes`` nor ``num_outputs`` is known.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        num_classes: Annotated[int | None, Provided] = None,
        num_outputs: Annotated[Size | None, Provided] = None,
        encoder_dim: Size = 256,
        hidden_dims: Sequence[Size] = (128, 64),
        latent_dim: Size = 32,
        dropout_rate: Annotated[float, Between(0, 1)] = 0.1,
        activation: Activation = "relu",
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(
            input_shape=input_shape,
            encoder_dim=[encoder_dim],
            hidden_dims=hidden_dims,
            latent_dim=[latent_dim],
        )
        check_fraction("dropout_rate", dropout_rate)
        sizes = [math.prod(input_shape), encoder_dim, *hidden_dims]
        self.input_shape = tuple(input_shape)
        self.batch_norm = batch_norm
        self.layers = linear_stack(sizes, activation, dropout_rate, batch_norm=batch_norm)
        self.to_latent = nn.Linear(sizes[-1], latent_dim)
        self.head = Head(latent_dim, num_classes, num_outputs)

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the latent vectors ``[batch, latent_dim]`` of a batch ``[batch, *input_shape]``.

        Raises:
            ValueError: the batch has samples of another size, or is not floating-point.
        """
        check_samples("encoder", inputs, self.input_shape, training_norm=self.batch_norm and self.training)
        latent: Tensor = self.to_latent(self.layers(inputs.flatten(1)))
        return latent

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return ``logits`` and ``hidden``, the latent vectors."""
        latent = self.encode(inputs)
        return {"logits": self.head(latent), "hidden": latent}
