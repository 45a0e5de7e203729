"""The causal transformer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dovetail.losses import LanguageModelingLoss
from dovetail.models import CausalTransformer, ModelOutput, num_parameters
from model_samples import SMALL


@given(place=st.integers(0, 7), seed=st.integers(0, 999))
def test_no_position_sees_a_later_one(place: int, seed: int) -> None:
    """Changing a token changes the logits at its position, and none before it."""
    torch.manual_seed(seed)
    model = CausalTransformer(**SMALL).eval()
    tokens = torch.randint(0, 11, (2, 8))
    changed = tokens.clone()
    changed[:, place] = (changed[:, place] + 1) % 11

    before, after = model(tokens), model(changed)

    torch.testing.assert_close(after[:, :place], before[:, :place])
    assert not torch.allclose(after[:, place], before[:, place])


def test_padding_on_the_right_changes_no_logits_of_the_text() -> None:
    """A text has the same logits alone and padded, so the model needs no mask."""
    model = CausalTransformer(**SMALL).eval()
    tokens = torch.randint(0, 11, (1, 5))
    padded = torch.cat([tokens, torch.zeros(1, 3, dtype=torch.int64)], dim=1)

    torch.testing.assert_close(model(padded)[:, :5], model(tokens))


@pytest.mark.parametrize("tied", [True, False])
def test_tied_embeddings_share_their_weights(tied: bool) -> None:
    """Tied, the output layer is the embedding; untied, it has weights of its own."""
    model = CausalTransformer(**SMALL, tie_embeddings=tied)

    assert (model.output.weight is model.tokens.weight) is tied
    assert num_parameters(CausalTransformer(**SMALL, tie_embeddings=False)) - num_parameters(model) == tied * 11 * 16
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_every_parameter_gets_a_gradient() -> None:
    """A backward pass reaches every parameter."""
    model = CausalTransformer(**SMALL)
    model(torch.randint(0, 11, (2, 8))).logsumexp(-1).sum().backward()

    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in model.parameters())


def test_it_learns_to_count() -> None:
    """A few updates on one sequence bring the loss near zero."""
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


def test_weights_are_initialised_like_gpt2s() -> None:
    """Weights have standard deviation 0.02, residual ones 0.02/√(2 layers); biases are 0."""
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
    "tokens, message",
    [
        (
            torch.zeros(1, 9, dtype=torch.int64),
            "a text of 9 tokens is longer than max_seq_len = 8; truncate it, or raise",
        ),
        (torch.tensor([[1, 11]]), r"token 11 is not in the vocabulary \(0 to 10\)"),
        (torch.tensor([[-1, 3]]), "token -1 is not in the vocabulary"),
        (torch.zeros(1, 3), r"takes integer token ids \[batch, time\], got torch.float32 of shape \[1, 3\]"),
        (torch.zeros(3, dtype=torch.int64), r"got torch.int64 of shape \[3\]"),
    ],
)
def test_bad_texts_are_named(tokens: Tensor, message: str) -> None:
    """The error for a text that is too long, has unknown tokens, or is no text has its value."""
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
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    """The constructor's error names a size that does not fit."""
    with pytest.raises(ValueError, match=message):
        CausalTransformer(**{**SMALL, **options})


def test_dropout_is_active_in_training_only() -> None:
    """Two passes differ in training, and agree in evaluation."""
    model = CausalTransformer(**{**SMALL, "dropout": 0.5})
    tokens = torch.randint(0, 11, (2, 8))

    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))
