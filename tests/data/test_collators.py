"""Tests of collators: every sample kept, in order, or a clear refusal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dovetail.data.collators import DefaultCollator
from dovetail.data.errors import DataError
from dovetail.data.padding import ClassificationCollator

arrays = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(-10, 10, width=32))

# --- default --------------------------------------------------------------------------------------------------------


@given(st.data(), arrays, st.integers(1, 6))
def test_default_keeps_every_sample_in_order(data, like, length):
    """Whatever the shape, and whether samples are tuples or dicts."""
    same_shape = hnp.arrays(np.float32, like.shape, elements=st.floats(-10, 10, width=32))
    inputs = data.draw(st.lists(same_shape, min_size=length, max_size=length))
    pairs = [(torch.from_numpy(one), number) for number, one in enumerate(inputs)]
    dicts = [{"inputs": one, "targets": number} for one, number in pairs]

    for samples in (pairs, dicts):
        batch = DefaultCollator()(samples)
        assert batch["inputs"].numpy().tolist() == [one.tolist() for one in inputs]
        assert batch["targets"].tolist() == list(range(length))
        assert set(batch) == {"inputs", "targets"}


@pytest.mark.parametrize(
    "value, dtype",
    [
        (1, torch.int64),
        (1.5, torch.float32),
        (True, torch.bool),
        (np.float64(1.5), torch.float64),
        (np.int32(1), torch.int32),
        (np.zeros(2), torch.float64),
        (np.zeros(2, dtype=np.uint8), torch.uint8),
        (torch.zeros(2, dtype=torch.bfloat16), torch.bfloat16),
    ],
)
def test_default_dtypes(value, dtype):
    """Python's numbers get torch's defaults, arrays and tensors keep theirs."""
    batch = DefaultCollator()([(value, 0), (value, 1)])

    assert batch["inputs"].dtype is dtype


def test_default_takes_inputs_alone():
    """A sample need not have a target."""
    assert DefaultCollator()([torch.zeros(2), torch.ones(2)]).keys() == {"inputs"}


def test_default_collates_dicts_of_inputs():
    """They reach the model as keywords."""
    samples = [({"ids": torch.tensor([number]), "scale": float(number)}, number) for number in range(3)]

    batch = DefaultCollator()(samples)

    assert batch["inputs"]["ids"].tolist() == [[0], [1], [2]]
    assert batch["inputs"]["scale"].tolist() == [0, 1, 2]


def test_default_takes_samples_with_labels():
    """As those of Hugging Face: the rest reaches the model as keywords, and the attention mask is the mask too."""
    tokens, mask = torch.arange(4), torch.tensor([1, 1, 1, 0])
    batch = DefaultCollator()([{"input_ids": tokens, "attention_mask": mask, "labels": tokens + 1}] * 2)

    assert set(batch["inputs"]) == {"input_ids", "attention_mask"}
    assert torch.equal(batch["targets"], torch.stack([tokens + 1] * 2))
    assert torch.equal(batch["mask"], torch.stack([mask] * 2))
    assert "meta" not in batch


def test_default_puts_what_is_left_into_meta():
    """Numbers and equal shapes become tensors, all else lists."""
    samples = [
        {"inputs": 1.0, "targets": 0, "rpm": 1797, "name": "a", "ragged": torch.zeros(number), "meta": {"load": number}}
        for number in range(2)
    ]

    meta = DefaultCollator()(samples)["meta"]

    assert meta["rpm"].tolist() == [1797, 1797]
    assert meta["load"].tolist() == [0, 1]
    assert meta["name"] == ["a", "a"]
    assert [len(one) for one in meta["ragged"]] == [0, 1]


def test_default_stacks_masks():
    """A sample may bring a mask of its own."""
    batch = DefaultCollator()([{"inputs": torch.zeros(2), "mask": torch.tensor([True, False])}] * 2)

    assert batch["mask"].tolist() == [[True, False]] * 2


def test_default_copies_read_only_arrays():
    """An array from a memory map would otherwise be written to, with a warning of torch's."""
    array = np.zeros(2, dtype=np.float32)
    array.flags.writeable = False

    assert DefaultCollator()([array, array])["inputs"].shape == (2, 2)


REFUSED = {
    "no samples": ([], "no samples"),
    "shapes": (
        [(torch.zeros(5), 0), (torch.zeros(7), 1)],
        r"samples 0 and 1 .* shapes \(5,\) and \(7,\); .*'classification' pads",
    ),
    "keys": (
        [{"inputs": 1, "targets": 2}, {"inputs": 1}],
        "samples 0 and 1 .* different fields: inputs, targets and inputs",
    ),
    "meta keys": ([{"inputs": 1, "rpm": 2}, {"inputs": 1, "load": 3}], "inputs, rpm and inputs, load"),
    "forms": ([(1, 2), {"inputs": 1}], "different fields"),
    "no inputs": ([{"x": 1, "y": 2}], r"keys \['x', 'y'\], none of them 'inputs'"),
    "triples": ([(1, 2, 3)], r"a tuple of 3; \(input, target\) or a dict"),
    "text": ([("words", 1)], "inputs: cannot make a tensor of str 'words'"),
    "objects": ([(np.asarray([{}]), 1)], "cannot make a tensor of ndarray"),
    "input keys": ([({"a": 1}, 0), ({"b": 1}, 0)], "different keys in their inputs"),
    "input forms": ([({"a": 1}, 0), (1, 0)], "different keys in their inputs"),
    "none": ([(None, 1)], "cannot make a tensor of NoneType"),
}


@pytest.mark.parametrize("samples, message", REFUSED.values(), ids=REFUSED)
def test_default_refuses(samples, message):
    """With the number of the sample, and what to do."""
    with pytest.raises(DataError, match=message):
        DefaultCollator()(samples)


# --- classification -------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 3))
def test_classification_pads_on_the_right_and_loses_nothing(lengths, features):
    """What the mask marks is each sample, all else is the pad value."""
    shape = (features,) if features else ()
    samples = [(torch.rand(length, *shape), number) for number, length in enumerate(lengths)]

    batch = ClassificationCollator(pad_value=-7)(samples)

    assert batch["inputs"].shape == (len(lengths), max(lengths), *shape)
    assert batch["mask"].sum(1).tolist() == lengths
    assert batch["mask"].dtype is torch.bool
    for row, (inputs, _) in enumerate(samples):
        assert torch.equal(batch["inputs"][row][batch["mask"][row]], inputs)
    assert (batch["inputs"][~batch["mask"]] == -7).all()
    assert batch["targets"].tolist() == list(range(len(lengths)))
    assert batch["targets"].dtype is torch.int64


def test_classification_pads_another_dimension():
    """Signals are [channels, time]."""
    batch = ClassificationCollator(pad_dim=-1)([(torch.ones(2, 3), 0), (torch.ones(2, 5), 1)])

    assert batch["inputs"].shape == (2, 2, 5)
    assert batch["mask"].tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert batch["inputs"][0, :, 3:].tolist() == [[0, 0]] * 2


def test_classification_keeps_the_dtype_of_tokens():
    """Integers stay integers."""
    batch = ClassificationCollator()([(torch.tensor([5, 6]), 0), (torch.tensor([7]), 1)])

    assert batch["inputs"].tolist() == [[5, 6], [7, 0]]
    assert batch["inputs"].dtype is torch.int64


def test_classification_joins_masks_and_keeps_meta():
    """A sample's own mask holds where there is no padding."""
    samples = [
        {"inputs": torch.ones(2), "targets": True, "mask": torch.tensor([True, False]), "name": "a"},
        {"inputs": torch.ones(3), "targets": False, "mask": torch.tensor([True, True, False]), "name": "b"},
    ]

    batch = ClassificationCollator()(samples)

    assert batch["mask"].tolist() == [[True, False, False], [True, True, False]]
    assert batch["targets"].tolist() == [1, 0]
    assert batch["meta"] == {"name": ["a", "b"]}


@pytest.mark.parametrize(
    "collator, samples, message",
    [
        (ClassificationCollator(), [(torch.ones(2, 3), 0), (torch.ones(2, 4), 0)], "only dimension 0 may differ"),
        (ClassificationCollator(), [(torch.ones(2, 3), 0), (torch.ones(2), 0)], "only dimension 0 may differ"),
        (ClassificationCollator(), [(torch.tensor(1.0), 0)], "pad_dim = 0, but a sample's input has 0 dimensions"),
        (ClassificationCollator(pad_dim=2), [(torch.ones(2), 0)], "pad_dim = 2, but"),
        (ClassificationCollator(), [(torch.ones(2), 0.5)], "class indices, got float32"),
        (
            ClassificationCollator(num_classes=3),
            [(torch.ones(2), 0), (torch.ones(2), 3)],
            "sample 1 .* target 3; .* 0 and 2",
        ),
        (ClassificationCollator(num_classes=3), [(torch.ones(2), -1)], "target -1"),
        (ClassificationCollator(), [({"a": torch.ones(2)}, 0)], "inputs: cannot make a tensor of dict"),
        (ClassificationCollator(), [{"inputs": torch.ones(2), "mask": torch.ones(3)}], "a mask of 3 for an input of 2"),
    ],
)
def test_classification_refuses(collator, samples, message):
    """With the number of the sample, and what was expected."""
    with pytest.raises(DataError, match=message):
        collator(samples)
