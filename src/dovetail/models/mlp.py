"""A multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn

from dovetail.kernel.kind import Provided
from dovetail.models.layers import (
    Activation,
    Head,
    Size,
    check_samples,
    check_share,
    check_sizes,
    linear_stack,
)
from dovetail.spec.limits import Between


class MLP(nn.Module):
    """Linear layers on flattened samples.

    Args:
        input_shape: shape of one sample, flattened on the way in; the dataset provides it.
        num_classes: classes to tell apart; the dataset provides it. Output ``[batch, num_classes]``.
        num_outputs: predict this many numbers instead of classes; the dataset of a regression provides it.
            Output ``[batch, num_outputs]``.
        hidden_dims: sizes of the hidden layers; none makes it a linear model.
        dropout: share of hidden values set to zero while training, 0 to 1.
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
        check_share("dropout", dropout)
        sizes = [math.prod(input_shape), *hidden_dims]
        self.input_shape = tuple(input_shape)
        self.batch_norm = batch_norm and bool(hidden_dims)
        self.hidden = linear_stack(sizes, activation, dropout, batch_norm=batch_norm)
        self.head = Head(sizes[-1], num_classes, num_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits, or predictions, of a batch ``[batch, *input_shape]``.

        Raises:
            ValueError: the batch has samples of another size, or not floats.
        """
        check_samples("mlp", inputs, self.input_shape, training_norm=self.batch_norm and self.training)
        found: Tensor = self.head(self.hidden(inputs.flatten(1)))
        return found
