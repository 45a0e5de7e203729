"""The size of batches, and changing their tensors."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from dovetail.data.batch import Batch, batch_size, map_tensors


@pytest.mark.parametrize(
    "batch",
    [
        Batch(inputs=torch.zeros(3, 2), targets=torch.zeros(3)),
        Batch(inputs={"ids": torch.zeros(3, 2)}),
        Batch(targets=torch.zeros(3)),
        Batch(inputs=torch.tensor(1.0), mask=torch.ones(3, 5)),
        Batch(meta={"names": ["a", "b", "c"]}),
    ],
)
def test_batch_size_is_that_of_the_first_tensor(batch):
    """Targets, inputs, mask and meta are tried in this order."""
    assert batch_size(batch) == 3


@pytest.mark.parametrize("batch", [Batch(), Batch(inputs=torch.tensor(1.0)), Batch(meta={})])
def test_a_batch_without_a_batch_dimension_is_refused(batch):
    """An error is better than a guess."""
    with pytest.raises(ValueError, match="gives its number of samples"):
        batch_size(batch)


def test_map_tensors_changes_tensors_only():
    """The function never gets a list or a string."""
    batch = Batch(inputs=torch.ones(2), meta={"names": ["x", "y"], "empty": []})

    changed = map_tensors(batch, lambda tensor: tensor * 2)

    assert changed["inputs"].tolist() == [2, 2]
    assert changed["meta"] == {"names": ["x", "y"], "empty": []}


def test_the_module_does_not_import_torch():
    """Hooks and kinds name Batch, and must stay light."""
    code = "import sys, dovetail.data.batch; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
