"""Transforms: the form of a sample stays, only its input changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.data.errors import DataError
from dovetail.data.samples import TensorSamples
from dovetail.data.transforms import GaussianNoise, Normalize, Standardize, fit_transforms


def train(inputs: torch.Tensor) -> TensorSamples:
    """Return training samples with the given inputs."""
    return TensorSamples(inputs, torch.zeros(len(inputs), dtype=torch.int64), ("a",), "digest")


@pytest.mark.parametrize(
    "sample",
    [
        (torch.tensor([2.0, 4.0]), 7),
        {"inputs": torch.tensor([2.0, 4.0]), "targets": 7, "rpm": 1797},
        torch.tensor([2.0, 4.0]),
        (np.asarray([2, 4]), 7),
    ],
)
def test_a_sample_keeps_its_form(sample):
    """Tuple, dict or bare input; everything except the input is unchanged."""
    changed = Normalize(mean=2.0, std=2.0)(sample)

    inputs = changed["inputs"] if isinstance(sample, dict) else changed[0] if isinstance(sample, tuple) else changed
    assert inputs.tolist() == [0, 1]
    assert inputs.dtype is torch.float32
    assert not isinstance(sample, tuple) or changed[1] == 7
    assert not isinstance(sample, dict) or (changed["targets"], changed["rpm"]) == (7, 1797)


def test_normalize_by_channel():
    """Mean and standard deviation may have one value per entry of the first dimension."""
    changed = Normalize(mean=[0.0, 1.0], std=[1.0, 2.0])((torch.ones(2, 3, 4) * 3, 0))[0]

    assert changed[:, 0, 0].tolist() == [3, 1]
    assert Normalize(mean=[1.0], std=[2.0])((torch.tensor(3.0), 0))[0].item() == 1


@pytest.mark.parametrize("std", [0.0, -1.0, [1.0, 0.0], float("nan")])
def test_normalize_refuses_a_standard_deviation_of_zero_or_less(std):
    """Dividing by it would give infinities."""
    with pytest.raises(ValueError, match="more than 0"):
        Normalize(mean=0.0, std=std)


def test_channels_must_match():
    """The message has both numbers."""
    with pytest.raises(DataError, match=r"mean has 2 values, but an input of shape \(3, 4\)"):
        Normalize(mean=[0.0, 1.0], std=1.0)((torch.ones(3, 4), 0))


@given(st.integers(2, 30), st.integers(1, 4), st.sampled_from([0.0, 1e4]), st.sampled_from([1.0, 1e-3]))
def test_standardize_gives_the_training_split_mean_0_and_deviation_1(length, channels, offset, scale):
    """Also where values lie close together far from 0, by channel."""
    inputs = offset + scale * torch.rand(length, channels, 5, generator=torch.Generator().manual_seed(length))
    samples = train(inputs)
    transform = Standardize()

    fit_transforms([transform], samples)

    # float32 cannot tell values near 10,000 apart more finely than about 0.001.
    tolerance = 1e-3 if offset == 0 else 5
    changed = (
        torch.stack([transform(samples[index])[0] for index in range(length)]).transpose(0, 1).reshape(channels, -1)
    )
    assert changed.mean(1).abs().max() < tolerance
    if offset == 0:
        assert (changed.std(1, correction=0) - 1).abs().max() < tolerance


def test_standardize_is_exact_in_float64():
    """Against NumPy, on features of very different sizes."""
    inputs = torch.tensor([[1.0, 1e6], [2.0, 3e6], [6.0, 8e6]])
    transform = Standardize()
    transform.fit(train(inputs))

    assert transform.state_dict()["mean"].tolist() == [3, 4e6]
    np.testing.assert_allclose(transform.state_dict()["std"].numpy(), inputs.double().numpy().std(0), rtol=1e-6)


def test_standardize_only_shifts_a_constant_feature():
    """It becomes 0, not NaN."""
    transform = Standardize()
    transform.fit(train(torch.full((3, 2), 5.0)))

    assert transform((torch.tensor([5.0, 6.0]), 0))[0].tolist() == [0, 1]


def test_standardize_must_be_fitted():
    """The message says how; fitting refuses no samples and a varying number of channels."""
    with pytest.raises(DataError, match=r"call fit\(train\)"):
        Standardize()((torch.zeros(2), 0))
    with pytest.raises(DataError, match="no training samples"):
        Standardize().fit([])
    with pytest.raises(DataError, match="differ in their number of channels: 2 and 3"):
        Standardize().fit([(torch.zeros(2), 0), (torch.zeros(3), 0)])


def test_standardize_goes_into_a_checkpoint():
    """A model is of no use without the statistics of its training."""
    first, second = Standardize(), Standardize()
    first.fit(train(torch.rand(5, 3)))
    second.load_state_dict(first.state_dict())
    sample = (torch.rand(3), 0)

    assert torch.equal(first(sample)[0], second(sample)[0])


def test_a_transform_is_fitted_to_the_output_of_earlier_ones():
    """In the loader's order."""
    standardize = Standardize()

    fit_transforms([Normalize(mean=0.0, std=10.0), standardize], train(torch.tensor([[10.0], [30.0]])))

    assert standardize.state_dict()["mean"].tolist() == [2]


def test_noise_has_its_standard_deviation():
    """With 0 the inputs are unchanged."""
    inputs = torch.zeros(100_000)
    torch.manual_seed(0)

    noise = GaussianNoise(std=0.5)((inputs, 1))[0]

    assert abs(float(noise.std()) - 0.5) < 0.01
    assert abs(float(noise.mean())) < 0.01
    assert torch.equal(GaussianNoise(std=0.0)((inputs, 1))[0], inputs)
    with pytest.raises(DataError, match="floating-point inputs, got int64"):
        GaussianNoise(std=0.5)((torch.zeros(2, dtype=torch.int64), 1))


class Fitted:
    """A transform of batches that must never be fitted to samples."""

    def fit(self, samples):
        """Fail."""
        raise AssertionError("samples were made for a transform of batches")

    def transform_batch(self, batch, draws):
        """Return the batch."""
        return batch


def test_a_transform_of_batches_is_not_fitted_to_samples():
    """Nor is anything after it."""
    fit_transforms([Fitted(), Standardize()], train(torch.zeros(3, 2)))


def test_standardize_is_fitted_to_dicts():
    """Also if samples have further keys."""
    transform = Standardize()
    transform.fit([{"inputs": torch.tensor([1.0]), "rpm": 1}, {"inputs": torch.tensor([3.0]), "rpm": 2}])

    assert transform({"inputs": torch.tensor([4.0]), "rpm": 3})["inputs"].tolist() == [2]
