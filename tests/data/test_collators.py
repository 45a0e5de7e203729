"""The default and the classification collator: every sample kept, in order, or a clear refusal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dovetail.data.collators import ClassificationCollator, DefaultCollator
from dovetail.data.errors import DataError
from dovetail.losses.classification import ClassificationLoss
from dovetail.models.output import ModelOutput

arrays = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4), elements=st.floats(-10, 10, width=32))


@given(st.data(), arrays, st.integers(1, 6))
def test_default_keeps_every_sample_in_order(data, like, length):
    """For any shape, and for tuples and dicts."""
    same_shape = hnp.arrays(np.float32, like.shape, elements=st.floats(-10, 10, width=32))
    inputs = data.draw(st.lists(same_shape, min_size=length, max_size=length))
    pairs = [(torch.from_numpy(values), number) for number, values in enumerate(inputs)]
    dicts = [{"inputs": values, "targets": number} for values, number in pairs]

    for samples in (pairs, dicts):
        batch = DefaultCollator()(samples)
        assert batch["inputs"].numpy().tolist() == [values.tolist() for values in inputs]
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
    """Python numbers get torch's defaults; arrays and tensors keep their dtype."""
    batch = DefaultCollator()([(value, 0), (value, 1)])

    assert batch["inputs"].dtype is dtype


def test_default_takes_inputs_alone():
    """A sample may have no target."""
    assert DefaultCollator()([torch.zeros(2), torch.ones(2)]).keys() == {"inputs"}


def test_default_collates_dicts_of_inputs():
    """The model receives them as keyword arguments."""
    samples = [({"ids": torch.tensor([number]), "scale": float(number)}, number) for number in range(3)]

    batch = DefaultCollator()(samples)

    assert batch["inputs"]["ids"].tolist() == [[0], [1], [2]]
    assert batch["inputs"]["scale"].tolist() == [0, 1, 2]


def test_default_takes_samples_with_labels():
    """As Hugging Face's: the rest becomes keyword arguments, and the attention mask is also the mask."""
    tokens, mask = torch.arange(4), torch.tensor([1, 1, 1, 0])
    batch = DefaultCollator()([{"input_ids": tokens, "attention_mask": mask, "labels": tokens + 1}] * 2)

    assert set(batch["inputs"]) == {"input_ids", "attention_mask"}
    assert torch.equal(batch["targets"], torch.stack([tokens + 1] * 2))
    assert torch.equal(batch["mask"], torch.stack([mask] * 2))
    assert "meta" not in batch


def test_default_puts_other_keys_into_meta():
    """Numbers and equal shapes become tensors, everything else lists."""
    samples = [
        {"inputs": 1.0, "targets": 0, "rpm": 1797, "name": "a", "ragged": torch.zeros(number), "meta": {"load": number}}
        for number in range(2)
    ]

    meta = DefaultCollator()(samples)["meta"]

    assert meta["rpm"].tolist() == [1797, 1797]
    assert meta["load"].tolist() == [0, 1]
    assert meta["name"] == ["a", "a"]
    assert [len(values) for values in meta["ragged"]] == [0, 1]


def test_default_stacks_masks():
    """A sample may have its own mask."""
    batch = DefaultCollator()([{"inputs": torch.zeros(2), "mask": torch.tensor([True, False])}] * 2)

    assert batch["mask"].tolist() == [[True, False]] * 2


def test_default_copies_read_only_arrays():
    """Torch warns about tensors over a read-only memory map."""
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
    "text": ([("words", 1)], "inputs: cannot convert str 'words'"),
    "objects": ([(np.asarray([{}]), 1)], "cannot convert ndarray"),
    "input keys": ([({"a": 1}, 0), ({"b": 1}, 0)], "different keys in their inputs"),
    "input forms": ([({"a": 1}, 0), (1, 0)], "different keys in their inputs"),
    "none": ([(None, 1)], "cannot convert NoneType"),
}


@pytest.mark.parametrize("samples, message", REFUSED.values(), ids=REFUSED)
def test_default_refuses(samples, message):
    """The message has the index of the sample and what to do."""
    with pytest.raises(DataError, match=message):
        DefaultCollator()(samples)


# --- classification ---------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 3))
def test_classification_pads_on_the_right_and_loses_nothing(lengths, features):
    """The mask marks each sample; everything else is the pad value."""
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
    """A sample's own mask applies where there is no padding."""
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
        (ClassificationCollator(), [({"a": torch.ones(2)}, 0)], "inputs: cannot convert dict"),
        (ClassificationCollator(), [{"inputs": torch.ones(2), "mask": torch.ones(3)}], "a mask of 3 for an input of 2"),
    ],
)
def test_classification_refuses(collator, samples, message):
    """The message has the index of the sample and what was expected."""
    with pytest.raises(DataError, match=message):
        collator(samples)


def test_an_input_mask_does_not_mask_the_loss_of_a_classifier():
    """The mask covers the inputs, and there is one label per text."""
    batch = ClassificationCollator()([(torch.zeros(3), 1), (torch.zeros(2), 0)])

    assert float(ClassificationLoss()(ModelOutput(torch.zeros(2, 2)), batch).weight) == 2
