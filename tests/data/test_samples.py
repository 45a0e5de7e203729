"""Datasets in memory, and subsets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dovetail.data.samples import Subset, TensorSamples


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
