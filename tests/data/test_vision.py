"""The image collator: normalising, padding, resizing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dovetail.data import Splits
from dovetail.data.errors import DataError
from dovetail.data.vision import VisionCollator
from dovetail.losses.vision import VisionLoss
from dovetail.main import run
from dovetail.models.output import ModelOutput
from small_runs import small

pixels = st.integers(1, 6)


@given(st.lists(st.tuples(pixels, pixels), min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 50))
def test_images_are_normalised_and_padded(sizes, channels, seed):
    """An image is at the top left; pad_value surrounds it, and ignore_index its labels."""
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randint(0, 256, (channels, *size), generator=generator, dtype=torch.uint8) for size in sizes]
    labels = [torch.randint(0, 5, size, generator=generator) for size in sizes]
    mean, std = [0.1, 0.2, 0.3][:channels], [0.5, 1.0, 2.0][:channels]

    batch = VisionCollator(mean=mean, std=std, pad_value=9.0)(list(zip(images, labels, strict=True)))
    inputs, targets = batch["inputs"], batch["targets"]

    assert inputs.shape == (len(sizes), channels, max(height for height, _ in sizes), max(width for _, width in sizes))
    assert batch["meta"]["image_size"].tolist() == [list(size) for size in sizes]
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
    """Images bilinearly, as torch does; labels by nearest neighbour, so that they never mix."""
    image, label = torch.rand(3, 6, 4), torch.arange(24).reshape(6, 4)

    batch = VisionCollator(size=(3, 8))([(image, label), (torch.rand(3, 5, 5), torch.arange(25).reshape(5, 5))])

    expected = F.interpolate(image[None], size=(3, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(batch["inputs"][:1], expected)
    nearest = F.interpolate(label[None, None].double(), size=(3, 8), mode="nearest-exact")
    assert torch.equal(batch["targets"][0], nearest[0, 0].long())
    assert batch["inputs"].shape == (2, 3, 3, 8)


def test_images_may_be_grey_integer_or_float():
    """Two dimensions are one channel; only bytes are scaled; a class per image is unchanged."""
    grey = [(np.full((2, 2), 3, dtype=np.int32), 1), (np.full((1, 2), 4.0, dtype=np.float64), 2)]

    ints = VisionCollator()(grey[:1])
    floats = VisionCollator(mean=1.0, std=2.0)(grey[1:])

    assert (ints["inputs"].dtype, ints["inputs"].tolist()) == (torch.float32, [[[[3.0, 3.0], [3.0, 3.0]]]])
    assert (floats["inputs"].dtype, floats["inputs"].tolist()) == (torch.float64, [[[[1.5, 1.5]]]])
    assert (ints["targets"].tolist(), floats["targets"].tolist()) == ([1], [2])
    assert "targets" not in VisionCollator()([torch.zeros(1, 2, 2)])


@pytest.mark.parametrize(
    "collator, samples, message",
    [
        (VisionCollator(), [torch.zeros(3)], r"inputs of shape \(3,\); an image must be \(channels, height, width\)"),
        (VisionCollator(), [torch.zeros(3, 2, 2), torch.zeros(1, 2, 2)], "samples 0 and 1 of a batch have 3 and 1 ch"),
        (VisionCollator(mean=[0.5, 0.5]), [torch.zeros(3, 2, 2)], "collator.mean has 2 numbers, but an image has 3"),
        (VisionCollator(), [{"inputs": torch.zeros(2, 2), "mask": True}], "samples have a mask; this collator takes"),
    ],
)
def test_vision_names_the_sample_it_refuses(collator, samples, message):
    """The message has the index of the sample and its content."""
    with pytest.raises(DataError, match=message):
        collator(samples)


def test_a_standard_deviation_of_zero_is_refused():
    """When the part is built."""
    with pytest.raises(ValueError, match=r"std: must be above 0, got \[1.0, 0.0\]"):
        VisionCollator(std=[1.0, 0.0])


def test_images_of_different_sizes_train_a_classifier(tmp_path):
    """Bright against dark, in any size, with the collator's options from the run file."""
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


def test_targets_of_another_size_than_the_images_are_stacked():
    """Four numbers per image are boxes, not pixels."""
    batch = VisionCollator()([(torch.zeros(1, 2, 2), torch.tensor([0, 0, 1, 1]))] * 2)

    assert batch["targets"].tolist() == [[0, 0, 1, 1]] * 2
