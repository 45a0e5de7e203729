"""Collators of tasks: language modelling, sequence to sequence, vision; and the factory that chooses them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dovetail.data.collators import DefaultCollator
from dovetail.data.errors import DataError
from dovetail.data.language_modeling import LanguageModelingCollator
from dovetail.data.padding import ClassificationCollator
from dovetail.data.sequence_to_sequence import SequenceToSequenceCollator
from dovetail.data.split import Splits
from dovetail.data.tokens import pad_tokens
from dovetail.data.vision import VisionCollator
from dovetail.kernel.component import PluginError
from dovetail.losses.classification import ClassificationLoss
from dovetail.losses.language_modeling import LanguageModelingLoss
from dovetail.losses.vision import VisionLoss
from dovetail.main import run
from dovetail.models.output import ModelOutput
from dovetail.pieces.data_loaders import CollatorRegistry, DataLoaderConfig, DataLoaderFactory
from small_runs import small

texts = st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=5)
forms = st.sampled_from([list, torch.tensor, lambda one: np.asarray(one, dtype=np.int32)])


# --- language modelling ---------------------------------------------------------------------------------------------


@given(texts, forms, st.integers(0, 9), st.sampled_from([None, 6, 9]))
def test_texts_are_padded_and_padding_is_no_target(drawn, form, pad, seq_len):
    """Every token is where it was; behind it inputs have the pad token, the mask False and the targets ignore_index."""
    samples = [form(one) if one else torch.zeros(0, dtype=torch.int64) for one in drawn]
    length = seq_len or max(map(len, drawn))

    batch = LanguageModelingCollator(pad_token_id=pad, seq_len=seq_len)([{"inputs": one} for one in samples])

    assert batch["inputs"].tolist() == [one + [pad] * (length - len(one)) for one in drawn]
    assert batch["targets"].tolist() == [one + [-100] * (length - len(one)) for one in drawn]
    assert batch["mask"].tolist() == [[True] * len(one) + [False] * (length - len(one)) for one in drawn]


@given(st.lists(st.integers(2, 6), min_size=1, max_size=4), st.integers(0, 100))
def test_padding_does_not_change_the_loss(lengths, seed):
    """The loss of a padded batch is the mean over the tokens of its texts, each alone; also where 0 is a real token."""
    generator = torch.Generator().manual_seed(seed)
    tokens = [torch.randint(0, 5, (length,), generator=generator) for length in lengths]
    logits = torch.randn(len(lengths), max(lengths), 5, generator=generator, dtype=torch.float64)
    summed = sum(
        F.cross_entropy(row[: len(one) - 1], one[1:], reduction="sum") for row, one in zip(logits, tokens, strict=True)
    )

    result = LanguageModelingLoss()(
        ModelOutput(logits), LanguageModelingCollator()([{"inputs": one} for one in tokens])
    )

    assert float(result.weight) == sum(lengths) - len(lengths)
    torch.testing.assert_close(result.total, summed / result.weight)


def test_texts_may_have_targets_a_mask_and_more():
    """Own targets stay as they are, an own mask is kept, everything else is meta."""
    samples = [
        {"inputs": [1, 2, 3], "targets": [2, 3, 4], "mask": [False, True, True], "source": "a"},
        {"inputs": [5], "targets": [6], "mask": [True], "source": "b"},
    ]

    batch = LanguageModelingCollator()(samples)

    assert batch["targets"].tolist() == [[2, 3, 4], [6, -100, -100]]
    assert batch["mask"].tolist() == [[False, True, True], [True, False, False]]
    assert batch["meta"] == {"source": ["a", "b"]}


# --- sequence to sequence -------------------------------------------------------------------------------------------


sides = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=4), st.sampled_from([None, 7]))
def test_each_side_is_padded_to_its_own_longest(pairs, start):
    """The decoder sees at each step the target of the step before, behind its start token."""
    wide, long = max(len(one) for one, _ in pairs), max(len(one) for _, one in pairs)

    batch = SequenceToSequenceCollator(decoder_start_token_id=start)(pairs)
    inputs = batch["inputs"]

    assert inputs["input_ids"].tolist() == [one + [0] * (wide - len(one)) for one, _ in pairs]
    assert inputs["attention_mask"].tolist() == [[place < len(one) for place in range(wide)] for one, _ in pairs]
    assert batch["targets"].tolist() == [one + [-100] * (long - len(one)) for _, one in pairs]
    assert batch["mask"].tolist() == [[place < len(one) for place in range(long)] for _, one in pairs]
    assert inputs["decoder_input_ids"].tolist() == [
        [start or 0, *one[:-1], *[0] * (long - len(one))] for _, one in pairs
    ]


def test_a_batch_reaches_a_model_as_keywords_and_its_loss():
    """An encoder and a decoder train on it: the mask speaks of the targets, however long sources are."""
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


# --- vision ---------------------------------------------------------------------------------------------------------

pixels = st.integers(1, 6)


@given(st.lists(st.tuples(pixels, pixels), min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 50))
def test_images_are_normalised_and_padded(sizes, channels, seed):
    """Each is in its place, on the left and above; around it pad_value, around its labels ignore_index."""
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randint(0, 256, (channels, *size), generator=generator, dtype=torch.uint8) for size in sizes]
    labels = [torch.randint(0, 5, size, generator=generator) for size in sizes]
    mean, std = [0.1, 0.2, 0.3][:channels], [0.5, 1.0, 2.0][:channels]

    batch = VisionCollator(mean=mean, std=std, pad_value=9.0)(list(zip(images, labels, strict=True)))
    inputs, targets = batch["inputs"], batch["targets"]

    assert inputs.shape == (len(sizes), channels, max(one for one, _ in sizes), max(one for _, one in sizes))
    assert batch["meta"]["image_size"].tolist() == [list(one) for one in sizes]
    for row, (image, label, (height, width)) in enumerate(zip(images, labels, sizes, strict=True)):
        for channel in range(channels):
            torch.testing.assert_close(
                inputs[row, channel, :height, :width], (image[channel] / 255 - mean[channel]) / std[channel]
            )
        assert torch.equal(targets[row, :height, :width], label)
        assert float(inputs[row].sum() - inputs[row, :, :height, :width].sum()) == pytest.approx(
            9.0 * channels * (inputs[row, 0].numel() - height * width), rel=1e-4, abs=1e-2
        )
        assert int((targets[row] == -100).sum()) == targets[row].numel() - height * width


def test_padded_pixels_do_not_count():
    """The loss of a padded batch is the mean over the pixels of its images."""
    images = [(torch.rand(1, 2, 3), torch.randint(0, 4, (2, 3))), (torch.rand(1, 4, 2), torch.randint(0, 4, (4, 2)))]
    batch = VisionCollator()(images)
    logits = torch.randn(2, 4, 4, 3, dtype=torch.float64)

    result = VisionLoss("segmentation")(ModelOutput(logits), batch)

    assert float(result.weight) == 6 + 8
    first = F.cross_entropy(logits[:1, :, :2, :3], images[0][1][None], reduction="sum")
    second = F.cross_entropy(logits[1:, :, :4, :2], images[1][1][None], reduction="sum")
    torch.testing.assert_close(result.total, (first + second) / 14)


def test_images_are_resized_with_their_labels():
    """Bilinearly, as torch does; labels are picked and never mixed."""
    image, label = torch.rand(3, 6, 4), torch.arange(24).reshape(6, 4)

    batch = VisionCollator(size=(3, 8))([(image, label), (torch.rand(3, 5, 5), torch.arange(25).reshape(5, 5))])

    expected = F.interpolate(image[None], size=(3, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(batch["inputs"][:1], expected)
    nearest = F.interpolate(label[None, None].double(), size=(3, 8), mode="nearest-exact")
    assert torch.equal(batch["targets"][0], nearest[0, 0].long())
    assert batch["inputs"].shape == (2, 3, 3, 8)


def test_images_may_be_grey_integers_floats_and_have_classes():
    """Two dimensions are one channel; only bytes are divided; a class per image stays one."""
    grey = [(np.full((2, 2), 3, dtype=np.int32), 1), (np.full((1, 2), 4.0, dtype=np.float64), 2)]

    ints = VisionCollator()(grey[:1])
    floats = VisionCollator(mean=1.0, std=2.0)(grey[1:])

    assert (ints["inputs"].dtype, ints["inputs"].tolist()) == (torch.float32, [[[[3.0, 3.0], [3.0, 3.0]]]])
    assert (floats["inputs"].dtype, floats["inputs"].tolist()) == (torch.float64, [[[[1.5, 1.5]]]])
    assert (ints["targets"].tolist(), floats["targets"].tolist()) == ([1], [2])
    assert "targets" not in VisionCollator()([torch.zeros(1, 2, 2)])


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "collator, samples, message",
    [
        (LanguageModelingCollator(), [[1.5, 2.0]], r"cannot make a tensor of list|integers"),
        (LanguageModelingCollator(), [torch.zeros(3)], "inputs of float32 and shape .3,.; tokens are integers"),
        (LanguageModelingCollator(), [torch.zeros(3, 2).long()], r"shape \(3, 2\); tokens are integers in one seq"),
        (LanguageModelingCollator(), [(torch.arange(3), torch.arange(2))], "sample 0 of a batch has 3 tokens and 2 t"),
        (LanguageModelingCollator(seq_len=2), [torch.arange(3)], "has 3 tokens, but collator.seq_len is 2; cut or"),
        (LanguageModelingCollator(), [{"inputs": [1, 2], "mask": [True]}], "has a mask of 1 for 2 tokens"),
        (LanguageModelingCollator(), [], "a collator was given no samples"),
        (SequenceToSequenceCollator(), [torch.arange(3)], r"samples have no targets; a sample is \(source, target\)"),
        (SequenceToSequenceCollator(), [(torch.arange(3), 1)], r"targets of int64 and shape \(\)"),
        (
            SequenceToSequenceCollator(),
            [{"inputs": [1], "targets": [1], "mask": [True]}],
            "samples have a mask; this collator makes those of both sides itself",
        ),
        (VisionCollator(), [torch.zeros(3)], r"inputs of shape \(3,\); an image is \(channels, height, width\)"),
        (VisionCollator(), [torch.zeros(3, 2, 2), torch.zeros(1, 2, 2)], "samples 0 and 1 of a batch have 3 and 1 ch"),
        (VisionCollator(mean=[0.5, 0.5]), [torch.zeros(3, 2, 2)], "collator.mean has 2 numbers, but an image has 3"),
        (VisionCollator(), [{"inputs": torch.zeros(2, 2), "mask": True}], "samples have a mask; this collator takes"),
    ],
)
def test_samples_that_do_not_fit_are_named(collator, samples, message):
    """With the number of the sample and what it has."""
    with pytest.raises(DataError, match=message):
        collator(samples)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: VisionCollator(std=[1.0, 0.0]), r"std: must be above 0, got \[1.0, 0.0\]"),
        (lambda: LanguageModelingCollator(seq_len=0), "'seq_len' must be >= 1: 0"),
        (lambda: DataLoaderConfig(batch_size=0), "'batch_size' must be >= 1: 0"),
    ],
)
def test_options_that_do_not_fit_are_named(build, message):
    """When the part is built."""
    with pytest.raises(ValueError, match=message):
        build()


def test_nothing_to_pad():
    """Sequences without a token make an empty batch."""
    assert pad_tokens([torch.zeros(0, dtype=torch.int64)] * 2, 0).shape == (2, 0)


# --- the factory ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task, expected",
    [
        ("language_modeling", LanguageModelingCollator),
        ("classification", ClassificationCollator),
        ("sequence_to_sequence", SequenceToSequenceCollator),
        (SimpleNamespace(task_type="image_classification", modality="vision"), VisionCollator),
        (SimpleNamespace(task_type="anything", modality="vision"), VisionCollator),
        (SimpleNamespace(task_type="regression"), DefaultCollator),
    ],
)
def test_a_task_has_its_collator(task, expected):
    """By its name, or by what an object says of it."""
    samples = {
        LanguageModelingCollator: [torch.arange(3)] * 4,
        SequenceToSequenceCollator: [(torch.arange(3), torch.arange(2))] * 4,
        VisionCollator: [(torch.zeros(1, 2, 2), 0)] * 4,
    }.get(expected, [(torch.zeros(3), 0)] * 4)

    loader = DataLoaderFactory(task, num_workers=0).create_loader(samples, DataLoaderConfig(batch_size=4))
    (batch,) = loader

    reference = expected()(samples)
    assert batch.keys() == reference.keys()
    if not isinstance(batch["inputs"], dict):
        assert torch.equal(batch["inputs"], reference["inputs"])


def order(loader):
    """Return the samples in the order of an epoch."""
    return [int(one) for batch in loader for one in batch["targets"]]


def test_an_evaluation_reads_every_sample_once_in_order():
    """Whatever the config says; training is shuffled by the seed, and a short batch left out when asked."""
    samples = [(torch.zeros(2), number) for number in range(10)]
    config = DataLoaderConfig(batch_size=4, shuffle=True, drop_last=True)
    factory = DataLoaderFactory("regression", num_workers=0)

    training, again = factory.create_loader(samples, config), factory.create_loader(samples, config)
    other = DataLoaderFactory("regression", seed=43, num_workers=0).create_loader(samples, config)

    assert order(factory.create_loader(samples, config, is_eval=True)) == list(range(10))
    assert len(order(training)) == 8
    assert order(training) == order(again)
    assert order(training) != order(other)
    assert sorted(order(factory.create_loader(samples))) == list(range(10))


@pytest.mark.slow
def test_workers_give_the_same_batches():
    """Processes that read ahead change nothing but speed."""
    samples = [(torch.full((2,), float(number)), number) for number in range(20)]
    config = DataLoaderConfig(batch_size=3)

    few = DataLoaderFactory("regression", num_workers=0).create_loader(samples, config)
    many = DataLoaderFactory("regression", num_workers=2).create_loader(samples, config)

    assert order(many) == order(few)


def test_a_collator_of_ones_own_is_found_by_name():
    """It comes before an installed one of that name, in this registry only, and factories take the registry."""
    registry = CollatorRegistry()

    def mine(samples):
        """Return the samples as they are."""
        return {"inputs": torch.stack([one for one, _ in samples]) + 1, "targets": torch.tensor([0])}

    registry.register("custom", mine)
    registry.register("vision", mine)

    assert registry.get("custom") is mine
    assert isinstance(registry.get("language_modeling"), LanguageModelingCollator)
    assert isinstance(CollatorRegistry().get("vision"), VisionCollator)
    factory = DataLoaderFactory("detection", num_workers=0, collators=registry)
    (batch,) = factory.create_loader([(torch.zeros(1), 0)])
    assert batch["inputs"].tolist() == [[1.0]]
    with pytest.raises(TypeError, match="'x': a collator is called with a list of samples; int cannot be called"):
        registry.register("x", 3)
    with pytest.raises(TypeError, match="'x': register an object, not the class VisionCollator"):
        registry.register("x", VisionCollator)
    with pytest.raises(ValueError, match="'custom' is registered already"):
        registry.register("custom", mine)
    with pytest.raises(PluginError, match="did you mean 'vision'"):
        registry.get("vison")


def test_a_part_that_needs_options_is_not_had_by_name():
    """The message says what is missing and what to build."""
    from dovetail.pieces.registry import ObjectRegistry

    with pytest.raises(ValueError, match=r"'mean': required, and not set; build dovetail.data.transforms:Normalize"):
        ObjectRegistry("transform").get("normalize")


def test_the_mask_of_a_text_classifier_is_left_alone():
    """A mask of the inputs says nothing of one label per text."""
    batch = ClassificationCollator()([(torch.zeros(3), 1), (torch.zeros(2), 0)])

    assert float(ClassificationLoss()(ModelOutput(torch.zeros(2, 2)), batch).weight) == 2


# --- in a run -------------------------------------------------------------------------------------------------------


def test_texts_of_different_lengths_train_a_language_model(tmp_path):
    """A run file's collator pads, its model is told nothing of it, and its loss counts the tokens alone."""
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


def test_images_of_different_sizes_train_a_classifier(tmp_path):
    """Bright against dark, whatever their size; the collator's options are those of the run file."""
    generator = torch.Generator().manual_seed(0)
    images = []
    for number in range(40):
        size = (1, 5 + number % 4, 8 - number % 3)
        noise = torch.randint(0, 100, size, generator=generator, dtype=torch.uint8)
        images.append((noise + 120 * (number % 2), number % 2))
    sections = {
        "collator": {"type": "vision", "mean": 0.5, "std": 0.25, "size": [6, 6]},
        "model": {"type": "mlp", "input_shape": [1, 6, 6], "num_classes": 2, "hidden_dims": [8]},
        "loss": {"type": "vision"},
        "training": {"max_epochs": 5},
    }

    outcome = run(small(tmp_path, data=Splits(images, images, images), **sections)).check()

    assert outcome.test_metrics["test_accuracy"] == 1.0
