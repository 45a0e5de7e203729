"""Datasets in memory, and subsets."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from attrs import evolve

from dovetail.data.collators import DefaultCollator
from dovetail.data.samples import Subset, TensorSamples, TextSamples, subset


def samples(targets, **columns) -> TensorSamples:
    """Return samples whose input is their index, so that each can be recognised."""
    targets = np.asarray(targets)
    return TensorSamples(
        torch.arange(len(targets), dtype=torch.float32)[:, None],
        torch.from_numpy(targets),
        tuple(f"class {number}" for number in range(int(targets.max()) + 1)),
        "digest",
        {name: np.asarray(values) for name, values in columns.items()},
    )


class Plain:
    """A dataset without any optional attribute."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[float, int]:
        return float(index), 0


def test_a_subset_has_the_attributes_of_its_dataset():
    """Restricted to its samples."""
    whole = Subset(samples([0, 1, 2, 1], load=[5, 6, 7, 8]), np.asarray([3, 1]))

    assert whole.targets.tolist() == [1, 1]
    assert whole.column("load").tolist() == [8, 6]
    assert (whole.num_classes, whole.input_shape, whole.fingerprint) == (3, (1,), "digest")
    assert whole.get_batch(np.asarray([1]))["inputs"].tolist() == [[1]]
    assert whole.row_keys().tolist() == whole.dataset.row_keys()[[3, 1]].tolist()
    assert not hasattr(Subset(Plain(3), np.arange(2)), "targets")
    assert not hasattr(Subset(Plain(3), np.arange(2)), "num_classes")
    with pytest.raises(KeyError, match="has no columns"):
        Subset(Plain(3), np.arange(2)).column("x")


def test_a_subset_of_a_regression_keeps_its_number_of_outputs():
    """Otherwise the model of a split dataset could not be sized."""
    regression = Plain(6)
    regression.num_outputs, regression.num_classes = 3, None

    part = subset(regression, [0, 2])

    assert (part.num_outputs, part.num_classes, len(part)) == (3, None, 2)


def test_a_subset_survives_pickling():
    """Workers that are spawned get it that way."""
    pickled = pickle.dumps(Subset(Plain(5), np.asarray([4, 1])))
    part = pickle.loads(pickled)  # noqa: S301 (pickled on the line above)

    assert [part[index] for index in range(len(part))] == [(4.0, 0), (1.0, 0)]


def test_texts_can_be_regressed():
    """They give the number of outputs, as other datasets do."""
    texts = TextSamples.encode(
        ["a", "bc", ""],
        8,
        target_values=torch.arange(3.0)[:, None],
        class_names=None,
        fingerprint="digest",
        columns={"length": np.asarray([1, 2, 0])},
        meta=("length",),
    )

    assert (texts.num_outputs, texts.num_classes, texts.targets.tolist()) == (1, None, [0, 1, 2])
    assert texts[1]["inputs"].tolist() == [99, 100]
    assert (texts[1]["targets"].tolist(), texts[1]["length"]) == ([1], 2)
    assert texts.subset(np.asarray([2, 1])).column("length").tolist() == [0, 2]


def test_meta_columns_are_collated_by_type():
    """Integers, booleans, floats and text, as the default collator collates single samples."""
    columns = {"i": [1, 2], "b": [True, False], "f": [0.5, 1.5], "t": ["x", "y"]}
    dataset = evolve(samples([0, 1], **columns), meta=tuple(columns))
    rows = np.arange(2)

    whole, collated = dataset.get_batch(rows), DefaultCollator()([dataset[row] for row in rows])

    assert {name: getattr(values, "dtype", list) for name, values in whole["meta"].items()} == {
        "i": torch.int64,
        "b": torch.bool,
        "f": torch.float32,
        "t": list,
    }
    for name, values in collated["meta"].items():
        assert list(whole["meta"][name]) == list(values)
