"""MLP and encoder."""

from __future__ import annotations

import torch
from torch import nn

from dovetail.models import MLP, Encoder, ModelOutput, num_parameters


def test_an_mlp_without_hidden_layers_is_linear() -> None:
    """Without hidden layers there is one matrix and one bias."""
    assert num_parameters(MLP(input_shape=(4,), num_classes=3, hidden_dims=[])) == 4 * 3 + 3


def test_a_hidden_layer_is_linear_norm_activation_dropout() -> None:
    """Each hidden layer consists of these modules, in this order."""
    model = MLP(input_shape=(4,), num_classes=3, hidden_dims=[5], dropout=0.5, batch_norm=True, activation="gelu")

    assert [type(layer) for layer in model.hidden] == [nn.Linear, nn.BatchNorm1d, nn.GELU, nn.Dropout]


def test_samples_may_be_flattened() -> None:
    """An MLP built for images accepts flattened ones."""
    model = MLP(input_shape=(2, 3), num_classes=3)
    samples = torch.randn(4, 2, 3)

    torch.testing.assert_close(model(samples.flatten(1)), model(samples))


def test_the_encoder_returns_its_latent_vectors() -> None:
    """Latent vectors come beside the logits, and the head is linear in them."""
    model = Encoder(input_shape=(2, 3), num_classes=4, encoder_dim=8, hidden_dims=[7, 6], latent_dim=5).eval()
    inputs = torch.randn(3, 2, 3)

    actual = ModelOutput.from_raw(model(inputs))

    assert actual.hidden.shape == (3, 5)
    torch.testing.assert_close(actual.hidden, model.encode(inputs))
    torch.testing.assert_close(actual.logits, model.head(actual.hidden))
    assert [layer.out_features for layer in model.modules() if isinstance(layer, nn.Linear)] == [8, 7, 6, 5, 4]
