"""The data of a run: splits, transforms, and the facts that other parts ask for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dovetail.data import Splits
from dovetail.data.samples import TensorSamples
from dovetail.distributed.group import ALONE, Group
from dovetail.kernel.build import BuildError
from dovetail.main import run
from dovetail.train.data import Data
from small_runs import Keep, blobs, small, three_blobs


def test_a_run_does_not_copy_samples_in_memory(tmp_path):
    """It trains on the dataset that was passed from Python."""
    data, keep = three_blobs(), Keep()
    run(small(tmp_path, data=data, callbacks={"keep": keep})).check()

    assert isinstance(data.train, TensorSamples)
    assert keep.run.parts.loaders.train.dataset is data.train


class Rows:
    """Samples that say nothing of themselves but their targets."""

    def __init__(self, targets: Any, sample: Any = None) -> None:
        self.targets, self.sample = targets, sample

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Any:
        return (torch.zeros(2, 3), self.targets[index]) if self.sample is None else self.sample


def build(tmp_path, group: Group = ALONE, **sections: Any) -> Data:
    """Return the data of a run."""
    return Data.build(small(tmp_path, **sections), torch.device("cpu"), group)


@pytest.mark.parametrize(
    "train,validation,expected",
    [
        (np.array([0, 2, 2]), None, (3, [1, 0, 2])),
        ([1, 0], np.array([4]), (5, [1, 1, 0, 0, 0])),  # a class that training never sees is still a class
        (np.array([0.5, 2.0]), None, (None, None)),
        (np.array([[0, 1], [1, 0]]), None, (None, None)),
    ],
)
def test_classes_are_counted_from_integer_labels(tmp_path, train, validation, expected):
    """Numbers to predict and several labels per sample are no classes."""
    splits = Splits(Rows(train), None if validation is None else Rows(validation))
    data = build(tmp_path, data=splits)

    assert (data.provided["num_classes"], data.provided["class_counts"]) == expected
    assert data.provided["input_shape"] == (2, 3)
    assert data.facts["sizes"]["train"] == len(train)


def test_facts_of_a_dataset_are_its_own(tmp_path):
    """They are provided to parts, and recorded; the input shape is that after the transforms."""
    data = build(tmp_path, transforms={"twice": lambda sample: (sample[0].repeat(2), sample[1])})

    assert {name: data.provided[name] for name in ("seed", "num_classes", "class_counts", "input_shape")} == {
        "seed": 42,
        "num_classes": 3,
        "class_counts": [34, 33, 33],
        "input_shape": (8,),
    }
    assert data.facts["class_names"] == ["a", "b", "c"]
    assert data.facts["fingerprint"] == "blobs"
    assert data.facts["sizes"] == {"train": 100, "validation": 30, "test": 30}


def test_inputs_by_name_have_no_single_shape(tmp_path):
    """None is provided."""
    sample = {"inputs": {"x": torch.zeros(3)}, "targets": 1}

    assert build(tmp_path, data=Splits(Rows([1, 1], sample))).provided["input_shape"] is None


def test_transforms_apply_to_the_splits_that_they_name(tmp_path):
    """Without ``splits``, to training samples only."""
    plus = {
        "first": {"type": lambda sample: (sample[0] + 1, sample[1]), "splits": ["validation"]},
        "second": {"type": lambda sample: (sample[0] + 10, sample[1])},
    }
    blank = TensorSamples(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), ("a",), "blank")
    loaders = build(tmp_path, data=Splits(blank, blank, blank), transforms=plus).loaders

    means = [next(iter(loader))["inputs"].mean().item() for loader in (loaders.train, loaders.validation, loaders.test)]
    assert means == [10, 1, 0]


def fail(sample: Any) -> Any:
    """Refuse a sample."""
    raise ValueError("too short")


@pytest.mark.parametrize(
    "sections,path,message",
    [
        ({"data": Splits(blobs(0), blobs(3))}, "data", "the train split has no samples; where there is no such split"),
        ({"transforms": {"good": lambda sample: sample, "bad": fail}}, "transforms.bad", "too short"),
        (
            {"data": Splits(Rows([0, 1], {"odd": object()}))},
            "data",
            "none of them 'inputs' or 'labels'",
        ),
    ],
)
def test_data_that_cannot_be_used_are_located(tmp_path, sections, path, message):
    """The error has the place of the part to change."""
    with pytest.raises(BuildError, match=message) as caught:
        build(tmp_path, **sections)

    assert caught.value.path == path


def test_ranks_share_the_batches(tmp_path):
    """Together they have every validation sample once, and equally many batches to train on."""
    ranks = [build(tmp_path, Group(rank, 2)).loaders for rank in range(2)]

    assert sum(len(batch["targets"]) for loaders in ranks for batch in loaders.validation) == 30
    assert len(ranks[0].train) == len(ranks[1].train) == 4
