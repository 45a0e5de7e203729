"""Datasets from arrays: the digits, and .npz archives."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from dovetail.data import SplitOptions, split
from dovetail.data.array_datasets import digits, npz_arrays
from dovetail.data.errors import DataError


@pytest.mark.slow
def test_digits():
    """1,797 images between 0 and 1, in ten classes."""
    images, flat = digits(), digits(flat=True)

    assert (len(images), images.input_shape, flat.input_shape) == (1797, (1, 8, 8), (64,))
    assert images.inputs.dtype is torch.float32
    assert (float(images.inputs.min()), float(images.inputs.max())) == (0, 1)
    assert images.class_names == tuple("0123456789")
    assert np.bincount(images.targets).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert torch.equal(images.inputs.reshape(-1, 64), flat.inputs)
    assert images.fingerprint == flat.fingerprint == "8b3b6ae90863430bdef06a3f7d1ec2f6a905a53d3375655b18cf63780ad98772"


@pytest.mark.slow
def test_digits_without_scikit_learn_says_what_to_install():
    """In a process that cannot import it."""
    code = (
        "import sys; sys.modules['sklearn'] = None; sys.modules['sklearn.datasets'] = None\n"
        "from dovetail.data.array_datasets import digits\n"
        "try: digits()\nexcept ModuleNotFoundError as error: print(error)"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "the dataset 'digits' needs scikit-learn: pip install 'dovetail[digits]'"


@pytest.fixture
def save(tmp_path):
    """Save arrays as a .npz and return its path."""

    def saved(name="data.npz", **arrays):
        path = tmp_path / name
        np.savez_compressed(path, **arrays)
        return path

    return saved


def test_npz_arrays_become_samples_and_columns(save):
    """Arrays of numbers, and of text of a fixed length."""
    path = save(
        inputs=np.arange(12.0).reshape(3, 2, 2), targets=np.asarray([2, 0, 2]), speaker=np.asarray(["a", "b", "a"]),
        code=np.asarray([b"x", b"y", b"z"]), rate=np.asarray(8000),
    )  # fmt: skip

    samples = npz_arrays(path, meta=["speaker"])

    assert samples.inputs.dtype is torch.float32
    assert samples.input_shape == (2, 2)
    assert (samples.class_names, samples.targets.tolist()) == (("0", "2"), [1, 0, 1])
    assert samples.column("code").tolist() == ["x", "y", "z"]
    assert samples[1]["speaker"] == "b"
    assert len(split(samples, SplitOptions(by="speaker", test=["b"], validation=0), 0).train) == 2


def test_npz_options(save):
    """Other names, token ids, a regression, given classes."""
    path = save(
        x=np.asarray([[1, 2], [3, 4]], dtype=np.uint8), y=np.asarray([[0.5], [1.5]]), z=np.asarray([True, False])
    )

    assert npz_arrays(path, inputs="x", targets="z", dtype="int64").inputs.dtype is torch.int64
    assert npz_arrays(path, inputs="x", targets="y", task="regression").target_values.tolist() == [[0.5], [1.5]]
    assert npz_arrays(path, inputs="x", targets="z", classes=["off", "on"]).targets.tolist() == [1, 0]


def test_arrays_share_one_limit_of_memory(save):
    """The header gives the size before anything is read."""
    path = save(inputs=np.zeros((100, 10)), targets=np.arange(100) % 2)

    assert len(npz_arrays(path, max_bytes=8800)) == 100
    with pytest.raises(DataError, match=r"array 'inputs' of shape \(100, 10\) needs 8 kB of memory, more than 7.99 kB"):
        npz_arrays(path, max_bytes=7990)
    with pytest.raises(
        DataError, match=r"array 'targets' of shape \(100,\) needs 800 bytes of memory, more than 500 bytes"
    ):
        npz_arrays(path, max_bytes=8500)


WRONG = {
    "no inputs": (
        {"inputs": "input"},
        r"inputs: there is no array 'input'; did you mean 'inputs'\? \(there are 'inputs' \(3, 2\)",
    ),
    "no targets": ({"targets": "y"}, "targets: there is no array 'y'"),
    "no meta": ({"meta": ["rpm"]}, "meta: there is no array 'rpm'"),
    "length": ({"targets": "short"}, r"targets: 'short' has shape \(2,\) for 3 samples in 'inputs'"),
    "meta shape": ({"meta": ["short"]}, r"meta: 'short' has shape \(2,\); a column must have shape \(3,\)"),
    "scalar": ({"inputs": "rate"}, r"inputs: array 'rate' of shape \(\) has no samples"),
    "complex": ({"inputs": "spectrum"}, "array 'spectrum' has dtype complex128; inputs must be real numbers"),
    "text": ({"inputs": "words"}, "array 'words' has dtype <U1"),
    "NaN": ({"inputs": "gaps"}, r"array 'gaps' has nan at \(1, 0\), which is not a finite float32 number"),
    "fraction": ({"dtype": "int64", "inputs": "halves"}, r"array 'halves' has 0.5 at 0, which is not an int64 number"),
    "label": (
        {"classes": ["a", "b"]},
        r"sample 2: label 2 in 'targets' is out of range: 2 classes have indices 0 to 1",
    ),
    "NaN label": ({"targets": "holes"}, "sample 1: nan in 'holes' is not a class label"),
}


@pytest.mark.parametrize("options, message", WRONG.values(), ids=WRONG)
def test_arrays_that_do_not_match_are_refused(save, options, message):
    """The message has their shapes, or the sample at fault."""
    path = save(
        inputs=np.zeros((3, 2)), targets=np.asarray([0, 1, 2]), short=np.zeros(2), rate=np.asarray(1.0),
        spectrum=np.zeros(3, dtype=complex), words=np.asarray(["a", "b", "c"]), halves=np.asarray([0.5, 1, 1]),
        gaps=np.asarray([[0, 0], [np.nan, 0], [0, 0]]), holes=np.asarray([0, np.nan, 1]),
    )  # fmt: skip

    with pytest.raises(DataError, match=f"data.npz: {message}"):
        npz_arrays(path, **options)
