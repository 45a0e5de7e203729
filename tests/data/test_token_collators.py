"""The collators of token sequences: padding, masks, targets and decoder inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dovetail.data import Splits
from dovetail.data.errors import DataError
from dovetail.data.token_collators import LanguageModelingCollator, SequenceToSequenceCollator
from dovetail.losses.language_modeling import LanguageModelingLoss
from dovetail.main import run
from dovetail.models.output import ModelOutput
from small_runs import small

texts = st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=5)


forms = st.sampled_from([list, torch.tensor, lambda tokens: np.asarray(tokens, dtype=np.int32)])


@given(texts, forms, st.integers(0, 9), st.sampled_from([None, 6, 9]))
def test_padding_is_never_a_target(drawn, form, pad, seq_len):
    """After a text's tokens come the pad token, a False mask and ignore_index."""
    samples = [form(text) if text else torch.zeros(0, dtype=torch.int64) for text in drawn]
    length = seq_len or max(map(len, drawn))

    batch = LanguageModelingCollator(pad_token_id=pad, seq_len=seq_len)([{"inputs": text} for text in samples])

    assert batch["inputs"].tolist() == [text + [pad] * (length - len(text)) for text in drawn]
    assert batch["targets"].tolist() == [text + [-100] * (length - len(text)) for text in drawn]
    assert batch["mask"].tolist() == [[True] * len(text) + [False] * (length - len(text)) for text in drawn]


@given(st.lists(st.integers(2, 6), min_size=1, max_size=4), st.integers(0, 100))
def test_padding_does_not_change_the_loss(lengths, seed):
    """The loss of a padded batch is the mean over the tokens of its texts, also if 0 is a real token."""
    generator = torch.Generator().manual_seed(seed)
    tokens = [torch.randint(0, 5, (length,), generator=generator) for length in lengths]
    logits = torch.randn(len(lengths), max(lengths), 5, generator=generator, dtype=torch.float64)
    summed = sum(
        F.cross_entropy(row[: len(text) - 1], text[1:], reduction="sum")
        for row, text in zip(logits, tokens, strict=True)
    )

    result = LanguageModelingLoss()(
        ModelOutput(logits), LanguageModelingCollator()([{"inputs": text} for text in tokens])
    )

    assert float(result.weight) == sum(lengths) - len(lengths)
    torch.testing.assert_close(result.total, summed / result.weight)


def test_own_targets_and_masks_are_kept():
    """Everything else becomes meta."""
    samples = [
        {"inputs": [1, 2, 3], "targets": [2, 3, 4], "mask": [False, True, True], "source": "a"},
        {"inputs": [5], "targets": [6], "mask": [True], "source": "b"},
    ]

    batch = LanguageModelingCollator()(samples)

    assert batch["targets"].tolist() == [[2, 3, 4], [6, -100, -100]]
    assert batch["mask"].tolist() == [[False, True, True], [True, False, False]]
    assert batch["meta"] == {"source": ["a", "b"]}


sides = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=4), st.sampled_from([None, 7]))
def test_each_side_is_padded_to_its_own_longest(pairs, start):
    """The decoder sees at each step the target of the step before, behind its start token."""
    wide, long = (max(map(len, side)) for side in zip(*pairs, strict=True))

    batch = SequenceToSequenceCollator(decoder_start_token_id=start)(pairs)
    inputs = batch["inputs"]

    assert inputs["input_ids"].tolist() == [source + [0] * (wide - len(source)) for source, _ in pairs]
    assert inputs["attention_mask"].tolist() == [[place < len(source) for place in range(wide)] for source, _ in pairs]
    assert batch["targets"].tolist() == [target + [-100] * (long - len(target)) for _, target in pairs]
    assert batch["mask"].tolist() == [[place < len(target) for place in range(long)] for _, target in pairs]
    assert inputs["decoder_input_ids"].tolist() == [
        [start or 0, *target[:-1], *[0] * (long - len(target))] for _, target in pairs
    ]


def test_a_sequence_to_sequence_batch_trains_an_encoder_and_a_decoder():
    """The model receives keyword arguments, and the mask covers the targets, whatever the length of the sources."""
    from dovetail.train.forward import Forward

    class Tiny(torch.nn.Module):
        """Adds what the source says to what the decoder is shown."""

        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(10, 10)

        def forward(self, input_ids, attention_mask, decoder_input_ids):
            """Return scores of the next tokens."""
            source = (self.embed(input_ids) * attention_mask[..., None]).sum(1)
            return self.embed(decoder_input_ids) + source[:, None]

    batch = SequenceToSequenceCollator()([([1, 2, 3], [4, 5, 6]), ([1], [2])])
    outputs = Forward(Tiny())(batch)

    result = LanguageModelingLoss(shift=False)(outputs, batch)

    assert float(result.weight) == 4
    torch.testing.assert_close(result.total, F.cross_entropy(outputs.logits.flatten(0, 1), batch["targets"].flatten()))


def test_empty_texts_make_an_empty_batch():
    """There is nothing to pad."""
    batch = LanguageModelingCollator()([{"inputs": torch.zeros(0, dtype=torch.int64)}] * 2)

    assert batch["inputs"].shape == batch["targets"].shape == batch["mask"].shape == (2, 0)


@pytest.mark.parametrize(
    "collator, samples, message",
    [
        (LanguageModelingCollator(), [[1.5, 2.0]], r"tokens must be integers in one dimension"),
        (LanguageModelingCollator(), [torch.zeros(3)], "inputs of float32 and shape .3,.; tokens must be integers"),
        (LanguageModelingCollator(), [torch.zeros(3, 2).long()], r"shape \(3, 2\); tokens must be integers in one dim"),
        (LanguageModelingCollator(), [(torch.arange(3), torch.arange(2))], "sample 0 of a batch has 3 tokens and 2 t"),
        (
            LanguageModelingCollator(seq_len=2),
            [torch.arange(3)],
            "has 3 tokens, but collator.seq_len is 2; truncate",
        ),
        (LanguageModelingCollator(), [{"inputs": [1, 2], "mask": [True]}], "has a mask of 1 for 2 tokens"),
        (LanguageModelingCollator(), [], "the collator got no samples"),
        (SequenceToSequenceCollator(), [torch.arange(3)], r"samples have no targets; a sample is \(source, target\)"),
        (SequenceToSequenceCollator(), [(torch.arange(3), 1)], r"targets of int64 and shape \(\)"),
        (
            SequenceToSequenceCollator(),
            [{"inputs": [1], "targets": [1], "mask": [True]}],
            "samples have a mask; this collator computes the masks of sources and targets itself",
        ),
    ],
)
def test_token_collators_name_the_sample_they_refuse(collator, samples, message):
    """The message has the index of the sample and its content."""
    with pytest.raises(DataError, match=message):
        collator(samples)


def test_a_length_below_one_is_refused():
    """When the part is built."""
    with pytest.raises(ValueError, match="'seq_len' must be >= 1: 0"):
        LanguageModelingCollator(seq_len=0)


def test_texts_of_different_lengths_train_a_language_model(tmp_path):
    """The collator pads, and the loss counts real tokens only."""
    texts = [{"inputs": (torch.arange(length) + length) % 5} for length in (3, 7, 4, 6) * 5]
    sections = {
        "collator": {"type": "language_modeling", "pad_token_id": 5},
        "model": {
            "type": "transformer",
            "vocab_size": 6,
            "d_model": 16,
            "num_layers": 1,
            "num_heads": 2,
            "d_ff": 32,
            "max_seq_len": 8,
        },
        "loss": {"type": "language_modeling"},
        "metrics": {"accuracy": {"type": "accuracy", "shift": True, "class_dim": -1}},
        "training": {"max_epochs": 30},
        "loader": {"batch_size": 5},
    }

    outcome = run(small(tmp_path, data=Splits(texts, texts, texts), **sections)).check()

    assert outcome.test_metrics["test_accuracy"] > 0.95


def test_sequence_to_sequence_keeps_meta():
    """As the default collator does."""
    batch = SequenceToSequenceCollator()([{"inputs": [1], "targets": [2], "source": "a"}])

    assert batch["meta"] == {"source": ["a"]}
