"""Next-token cross-entropy against a loop over tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dovetail.losses import (
    LanguageModelingLoss,
)
from dovetail.models import ModelOutput
from loss_samples import CLASSES, labels, scores


def texts(seed: int, batch: int, time: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Return fp64 logits and random tokens."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, time, vocabulary, generator=generator, dtype=torch.float64).requires_grad_()
    return logits, torch.randint(0, vocabulary, (batch, time), generator=generator)


@given(
    seed=st.integers(0, 2**16),
    batch=st.integers(1, 3),
    time=st.integers(1, 5),
    shift=st.booleans(),
    pad=st.sampled_from([None, 0]),
    masked=st.booleans(),
)
def test_it_is_a_loop_over_tokens(
    *, seed: int, batch: int, time: int, shift: bool, pad: int | None, masked: bool
) -> None:
    """Total and weight are those of a loop over tokens, with padding, a mask, and ignored tokens."""
    logits, tokens = texts(seed, batch, time, 6)
    tokens[torch.rand(tokens.shape, generator=torch.Generator().manual_seed(seed)) < 0.2] = -100
    batch_of_texts = {"targets": tokens}
    mask = torch.ones_like(tokens, dtype=torch.bool)
    if masked:
        mask = torch.arange(time).expand(batch, time) < torch.arange(1, batch + 1)[:, None]
        batch_of_texts["mask"] = mask
    terms = []
    for row in range(batch):
        for place in range(time):
            target = place + 1 if shift else place
            if target >= time or not mask[row, target] or int(tokens[row, target]) in {-100, pad}:
                continue
            terms.append(-logits[row, place].log_softmax(-1)[tokens[row, target]])

    result = LanguageModelingLoss(shift=shift, pad_token_id=pad)(ModelOutput(logits), batch_of_texts)
    result.total.backward()

    assert int(result.weight) == len(terms)
    torch.testing.assert_close(result.total, torch.stack(terms).mean() if terms else torch.tensor(0.0).double())
    assert result.parts == {}
    assert logits.grad is not None
    assert bool(logits.grad.any()) == bool(terms)


@given(seed=st.integers(0, 100), time=st.integers(2, 6), pad=st.sampled_from([None, 0]))
def test_padding_does_not_count(seed, time, pad):
    """Called with labels = the inputs, it is torch's cross-entropy of the next tokens that are not padding."""
    logits, tokens = scores(3, time, CLASSES, seed=seed), labels(3, time, seed=seed)
    mask = torch.arange(time) < torch.tensor([time, 2, 2])[:, None]
    counted = tokens.where(mask, -100) if pad is None else tokens.where(mask & (tokens != pad), -100)
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), counted[:, 1:].flatten(), reduction="sum")

    inputs = {"attention_mask": mask} | ({} if pad is None else {"pad_token_id": pad})
    actual = LanguageModelingLoss().compute_loss(logits, tokens, inputs)

    torch.testing.assert_close(actual, expected / (counted[:, 1:] != -100).sum().clamp(min=1))


def test_pieces_with_different_padding_add_up() -> None:
    """Weighted totals of pieces with different padding add up to the total of the whole."""
    logits, tokens = texts(3, 4, 6, 5)
    mask = torch.tensor([[1] * 6, [1] * 2 + [0] * 4, [1] * 4 + [0] * 2, [1] + [0] * 5], dtype=torch.bool)
    loss = LanguageModelingLoss()

    whole = loss(ModelOutput(logits), {"targets": tokens, "mask": mask})
    pieces = [
        loss(ModelOutput(logits[rows]), {"targets": tokens[rows], "mask": mask[rows]})
        for rows in (slice(0, 1), slice(1, 3), slice(3, 4))
    ]

    weight = sum(float(piece.weight) for piece in pieces)
    assert weight == float(whole.weight)
    total = sum(piece.total * piece.weight for piece in pieces)
    torch.testing.assert_close(total / weight, whole.total)


def test_gradient_is_the_numerical_one() -> None:
    """Autograd's gradient agrees with finite differences."""
    logits, tokens = texts(5, 2, 4, 5)

    assert torch.autograd.gradcheck(
        lambda x: LanguageModelingLoss(pad_token_id=0)(ModelOutput(x), {"targets": tokens}).total, logits
    )


@pytest.mark.parametrize(
    "logits, batch, message",
    [
        ((2, 3), {"targets": torch.zeros(2, 3)}, r"outputs have shape \[2, 3\] and targets \[2, 3\]"),
        ((2, 3, 5), {"targets": torch.zeros(2, 4)}, r"needs \[batch, time, vocabulary\] and \[batch, time\]"),
        (
            (2, 3, 5),
            {"targets": torch.zeros(2, 3, dtype=torch.int64), "mask": torch.ones(2)},
            r"the mask has shape \[2\], targets \[2, 3\]",
        ),
        ((2, 3, 5), {"targets": torch.zeros(2, 3)}, r"targets are torch.float32; it needs tokens, which are integers"),
        ((2, 3, 5), {"targets": torch.full((2, 3), 9)}, "label 9 is out of range for 5 classes, 0 to 4"),
        ((2, 3, 5), {"inputs": torch.zeros(2, 3)}, "the batch has no 'targets'; it has inputs"),
    ],
)
def test_batches_that_do_not_fit_raise(logits: tuple[int, ...], batch: dict[str, Tensor], message: str) -> None:
    """The error for shapes and tokens that do not fit has their values."""
    with pytest.raises(ValueError, match=message):
        LanguageModelingLoss()(ModelOutput(torch.randn(logits)), batch)
