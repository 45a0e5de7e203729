"""Batches: their size, their forms, and changing their tensors."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from dovetail.data.batch import Batch, as_batch, batch_size, map_tensors


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


PAIR = [torch.zeros(3, 2), torch.ones(3)]


@pytest.mark.parametrize("pair", [tuple(PAIR), PAIR])
def test_a_pair_is_inputs_and_targets(pair):
    """As torch's own loaders yield it."""
    batch = as_batch(pair)

    assert batch["inputs"] is PAIR[0]
    assert batch["targets"] is PAIR[1]


def test_a_batch_is_returned_unchanged():
    """Without a copy."""
    batch = Batch(inputs=torch.zeros(3), meta={"rpm": torch.zeros(3)})

    assert as_batch(batch) is batch


def test_labels_are_targets_and_the_attention_mask_is_the_mask():
    """As Hugging Face's collators return them; the other entries are keyword arguments of the model."""
    tokens, labels, mask = torch.zeros(3, 2), torch.ones(3), torch.ones(3, 2)

    plain, masked = as_batch({"ids": tokens, "labels": labels}), as_batch({"attention_mask": mask, "labels": labels})

    assert plain == {"inputs": {"ids": tokens}, "targets": labels}
    assert masked == {"inputs": {"attention_mask": mask}, "targets": labels, "mask": mask}


@pytest.mark.parametrize(
    "raw, message",
    [
        ({"x": 1, "y": 2}, "'inputs' or 'labels'; this one has x, y"),
        ({}, "this one has nothing"),
        ((1, 2, 3), "a dict, or a pair of inputs and targets, not tuple"),
        (torch.zeros(2), "not Tensor"),
    ],
)
def test_other_forms_are_not_batches(raw, message):
    """The message describes what there is."""
    with pytest.raises(TypeError, match=message):
        as_batch(raw)
