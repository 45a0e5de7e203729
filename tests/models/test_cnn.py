"""The convolutional network."""

from __future__ import annotations

import pytest
import torch

from dovetail.models import CNN


def test_a_channel_dimension_is_optional() -> None:
    """[height, width] is an image with one channel."""
    model = CNN(input_shape=(8, 8), num_classes=3).eval()
    images = torch.randn(2, 8, 8)

    torch.testing.assert_close(model(images), model(images.unsqueeze(1)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 9), (2, 5, 3)])
def test_images_of_any_size_are_halved_at_most_to_one_pixel(shape):
    """Convolutions stop halving when the shorter side is one pixel, and the head reads the mean over the rest."""
    model = CNN(input_shape=shape, num_classes=3, channels=[4, 4, 4, 4], dropout=0.0).eval()
    images = torch.randn(2, *shape)

    features = model.features(images)

    assert min(features.shape[2:]) == 1
    torch.testing.assert_close(model(images), model.head(features.mean((-2, -1))))
