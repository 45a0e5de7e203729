"""Models: shapes, gradients, sizes, and refused inputs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dovetail.models.cnn import CNN
from dovetail.models.encoder import Encoder
from dovetail.models.layers import activation_layer
from dovetail.models.mlp import MLP
from dovetail.models.output import ModelOutput
from dovetail.models.size import estimate_parameters, num_parameters
from dovetail.models.transformer import CausalTransformer

SMALL: dict[str, Any] = {
    "vocab_size": 11,
    "d_model": 16,
    "num_layers": 2,
    "num_heads": 4,
    "d_ff": 32,
    "max_seq_len": 8,
    "dropout": 0.0,
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Draw weights and inputs from a fixed seed."""
    torch.manual_seed(0)


def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a loss would read."""
    return ModelOutput.from_raw(model(inputs)).logits


# --- MLP, encoder, CNN ------------------------------------------------------------------------------------------

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
    """Classes give [batch, classes]; numbers [batch, numbers]; every parameter gets a gradient."""
    name, size = outputs
    built = model(input_shape=shape, activation=activation, batch_norm=batch_norm, **{name: size})

    found = logits_of(built, torch.randn(batch, *shape))
    found.square().sum().backward()

    assert tuple(found.shape) == (batch, size)
    assert all(one.grad is not None for one in built.parameters())


@pytest.mark.parametrize("model", MODELS)
def test_a_number_of_outputs_comes_before_classes(model: type[nn.Module]) -> None:
    """A regression on a dataset with classes is possible: num_outputs wins over what the run provides."""
    assert logits_of(model(input_shape=(4, 4), num_classes=10, num_outputs=2), torch.randn(3, 4, 4)).shape == (3, 2)


def test_the_encoder_offers_its_latent_vectors() -> None:
    """Latent vectors come beside the logits, and the head is linear in them."""
    model = Encoder(input_shape=(2, 3), num_classes=4, encoder_dim=8, hidden_dims=[7, 6], latent_dim=5).eval()
    inputs = torch.randn(3, 2, 3)

    found = ModelOutput.from_raw(model(inputs))

    assert found.hidden.shape == (3, 5)
    torch.testing.assert_close(found.hidden, model.encode(inputs))
    torch.testing.assert_close(found.logits, model.head(found.hidden))
    assert [layer.out_features for layer in model.modules() if isinstance(layer, nn.Linear)] == [8, 7, 6, 5, 4]


def test_an_mlp_without_hidden_layers_is_linear() -> None:
    """No hidden layers leaves one matrix and one vector."""
    assert num_parameters(MLP(input_shape=(4,), num_classes=3, hidden_dims=[])) == 4 * 3 + 3


def test_dropout_and_batch_norm_are_where_they_were_asked_for() -> None:
    """Each hidden layer is linear, norm, activation, dropout, in this order."""
    model = MLP(input_shape=(4,), num_classes=3, hidden_dims=[5], dropout=0.5, batch_norm=True, activation="gelu")

    assert [type(layer) for layer in model.hidden] == [nn.Linear, nn.BatchNorm1d, nn.GELU, nn.Dropout]


def test_a_cnn_takes_grey_images_without_a_channel() -> None:
    """[height, width] is an image with one channel, which need not be there."""
    model = CNN(input_shape=(8, 8), num_classes=3).eval()
    images = torch.randn(2, 8, 8)

    torch.testing.assert_close(model(images), model(images.unsqueeze(1)))


def test_samples_of_another_shape_with_as_many_values_are_taken() -> None:
    """An MLP built for images takes them flattened."""
    model = MLP(input_shape=(2, 3), num_classes=3)
    samples = torch.randn(4, 2, 3)

    torch.testing.assert_close(model(samples.flatten(1)), model(samples))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "num_classes: this dataset does not say how many classes there are; set num_classes, or num_outputs"),
        ({"num_classes": 0}, "num_classes: must be at least 1, got 0"),
        ({"num_outputs": 0}, "num_outputs: must be at least 1, got 0"),
        ({"num_classes": 3, "activation": "sigmoidal"}, "activation: 'sigmoidal' is not one of relu, gelu"),
        ({"num_classes": 3, "input_shape": (0, 4)}, "input_shape: must be at least 1, got 0"),
    ],
)
def test_bad_options_are_named(model: type[nn.Module], options: dict[str, Any], message: str) -> None:
    """What cannot be built is refused by the name of the option."""
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
        (CNN, {"input_shape": (9,)}, r"input_shape: \[9\] is no image"),
    ],
)
def test_options_of_one_model_are_named(model: type[nn.Module], options: dict[str, Any], message: str) -> None:
    """What one model cannot do is refused by the name of the option."""
    with pytest.raises(ValueError, match=message):
        model(**{"input_shape": (4, 4), "num_classes": 3, **options})


@pytest.mark.parametrize("model", MODELS)
def test_batches_that_do_not_fit_are_named(model: type[nn.Module]) -> None:
    """Samples of another size, and integers, are refused with what was given."""
    built = model(input_shape=(4, 4), num_classes=3)

    with pytest.raises(ValueError, match=r"built for samples of shape \[.*4, 4\], got a batch of shape \[2, 5, 5\]"):
        built(torch.randn(2, 5, 5))
    with pytest.raises(ValueError, match=r"inputs are torch\.uint8; convert them to float first"):
        built(torch.zeros(2, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("model", [MLP, Encoder])
def test_one_sample_is_too_few_for_batch_norm(model: type[nn.Module]) -> None:
    """A last batch of one sample says what to do; evaluation takes it."""
    built = model(input_shape=(4,), num_classes=3, batch_norm=True)

    with pytest.raises(ValueError, match=r"batch_norm cannot train on a batch of one sample; set loader.drop_last"):
        built(torch.randn(1, 4))
    assert logits_of(built.eval(), torch.randn(1, 4)).shape == (1, 3)


def test_every_activation_is_a_new_layer() -> None:
    """Two layers never share an activation object."""
    assert activation_layer("relu") is not activation_layer("relu")


# --- transformer ------------------------------------------------------------------------------------------------


@given(place=st.integers(0, 7), seed=st.integers(0, 999))
def test_no_position_sees_a_later_one(place: int, seed: int) -> None:
    """Changing a token changes no logits before it, and those at it."""
    torch.manual_seed(seed)
    model = CausalTransformer(**SMALL).eval()
    tokens = torch.randint(0, 11, (2, 8))
    changed = tokens.clone()
    changed[:, place] = (changed[:, place] + 1) % 11

    before, after = model(tokens), model(changed)

    torch.testing.assert_close(after[:, :place], before[:, :place])
    assert not torch.allclose(after[:, place], before[:, place])


def test_padding_on_the_right_changes_nothing_before_it() -> None:
    """A text reads the same alone and padded, so no mask is needed."""
    model = CausalTransformer(**SMALL).eval()
    tokens = torch.randint(0, 11, (1, 5))
    padded = torch.cat([tokens, torch.zeros(1, 3, dtype=torch.int64)], dim=1)

    torch.testing.assert_close(model(padded)[:, :5], model(tokens))


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_are_tied_where_asked(tied: bool) -> None:
    """Tied, the output layer is the embedding; untied, it has weights of its own, and the count says so."""
    model = CausalTransformer(**SMALL, tie_embeddings=tied)

    assert (model.output.weight is model.tokens.weight) is tied
    assert num_parameters(CausalTransformer(**SMALL, tie_embeddings=False)) - num_parameters(model) == tied * 11 * 16
    assert all(one.requires_grad for one in model.parameters())


def test_every_parameter_of_the_transformer_learns() -> None:
    """A backward pass reaches every parameter, but positions after the text's end."""
    model = CausalTransformer(**SMALL)
    model(torch.randint(0, 11, (2, 8))).logsumexp(-1).sum().backward()

    assert all(one.grad is not None and bool(one.grad.any()) for one in model.parameters())


def test_a_transformer_learns_to_count() -> None:
    """A few updates on one sequence bring the loss near zero."""
    from dovetail.losses.language_modeling import LanguageModelingLoss

    model, loss = CausalTransformer(**SMALL), LanguageModelingLoss()
    batch = {"targets": torch.arange(8).repeat(4, 1)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = last = float("nan")
    for step in range(40):
        result = loss(ModelOutput(model(batch["targets"])), batch)
        optimizer.zero_grad()
        result.total.backward()
        optimizer.step()
        last = result.total.item()
        first = last if step == 0 else first

    assert first == pytest.approx(math.log(11), rel=0.1)
    assert last < 0.05


def test_weights_start_as_gpt2s_do() -> None:
    """Weights have standard deviation 0.02, those added to the residual 0.02/√(2 layers); biases are 0."""
    model = CausalTransformer(vocab_size=500, d_model=64, num_layers=2, num_heads=4, d_ff=256, max_seq_len=32)
    block = model.blocks[0]

    for weight, std in (
        (model.tokens.weight, 0.02),
        (block.attention.read.weight, 0.02),
        (block.attention.project.weight, 0.01),
        (block.expand.weight, 0.02),
        (block.contract.weight, 0.01),
    ):
        assert float(weight.detach().std()) == pytest.approx(std, rel=0.05)
    assert not block.expand.bias.any()
    assert bool((block.feed_norm.weight == 1).all())


@pytest.mark.parametrize(
    "options, millions",
    [
        ({}, 124),
        ({"d_model": 192, "num_layers": 6, "num_heads": 6, "d_ff": 768}, 12.4),
    ],
)
def test_sizes_are_those_of_the_presets(options: dict[str, int], millions: float) -> None:
    """With GPT-2's vocabulary the defaults make ~125 million parameters, and the small one ~12 million."""
    found = estimate_parameters(CausalTransformer, vocab_size=50257, **options)

    assert found / 1e6 == pytest.approx(millions, rel=0.01)


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
    """What is estimated without memory is what the built model has."""
    model, options = case

    assert estimate_parameters(model, **options) == num_parameters(model(**options))


def test_frozen_parameters_are_counted_apart() -> None:
    """Trainable parameters are those that receive a gradient."""
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(requires_grad=False)

    assert (num_parameters(model), num_parameters(model, trainable=True)) == (8, 6)


@pytest.mark.parametrize(
    "tokens, message",
    [
        (torch.zeros(1, 9, dtype=torch.int64), "a text of 9 tokens is longer than max_seq_len = 8; cut it, or raise"),
        (torch.tensor([[1, 11]]), r"token 11 is not in the vocabulary \(0 to 10\)"),
        (torch.tensor([[-1, 3]]), "token -1 is not in the vocabulary"),
        (torch.zeros(1, 3), r"takes integer token ids \[batch, time\], got torch.float32 of shape \[1, 3\]"),
        (torch.zeros(3, dtype=torch.int64), r"got torch.int64 of shape \[3\]"),
    ],
)
def test_texts_that_cannot_be_read_are_named(tokens: Tensor, message: str) -> None:
    """Too long, unknown tokens, or no tokens at all: refused with the value."""
    with pytest.raises(ValueError, match=message):
        CausalTransformer(**SMALL)(tokens)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_heads": 3}, "num_heads: 3 heads do not divide d_model = 16"),
        ({"num_layers": 0}, "num_layers: must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout: must be at least 0 and below 1"),
    ],
)
def test_transformers_that_cannot_be_built_are_named(options: dict[str, Any], message: str) -> None:
    """Sizes that do not fit are refused by name."""
    with pytest.raises(ValueError, match=message):
        CausalTransformer(**{**SMALL, **options})


def test_dropout_works_while_training_only() -> None:
    """Two passes differ while training, and agree in evaluation."""
    model = CausalTransformer(**{**SMALL, "dropout": 0.5})
    tokens = torch.randint(0, 11, (2, 8))

    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))
