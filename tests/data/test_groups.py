"""Splits of samples that belong together, such as the windows of a recording."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.data import SplitOptions, split, subset
from dovetail.data.errors import DataError


class Windows:
    """Windows of recordings: ``recordings`` of ``windows`` each, one second long, starting every half second."""

    num_classes = 2
    class_names = ("good", "bad")

    def __init__(self, recordings: int, windows: int = 10, *, order=None) -> None:
        number = np.repeat(np.arange(recordings), windows)
        start = np.tile(np.arange(windows) / 2, recordings)
        order = np.arange(len(number)) if order is None else order
        self.groups = np.asarray([f"rec{recording}" for recording in number])[order]
        self.spans = np.stack([start, start + 1], axis=1)[order]
        self.targets = (number % 2)[order]
        self.columns = {"load": (number % 4)[order], "window": np.tile(np.arange(windows), recordings)[order]}

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int):
        return float(index), int(self.targets[index])

    def row_keys(self):
        """Return a number for each window that says which it is."""
        return np.asarray([int(name[3:]) for name in self.groups]) * 1000 + self.columns["window"]

    def column(self, name: str):
        """Return a column."""
        if name not in self.columns:
            raise KeyError(f"no column '{name}'")
        return self.columns[name]


def groups_of(splits) -> dict[str, set[str]]:
    """Return the groups in each split."""
    return {name: set(np.asarray(part.groups).tolist()) for name, part in splits}


@given(st.integers(4, 30), st.integers(0, 9), st.booleans(), st.randoms())
def test_a_group_is_never_divided_by_default(recordings, seed, stratify, random):
    """Fractions draw whole groups and cover every sample; the order of the samples changes nothing."""
    order = np.arange(recordings * 10)
    random.shuffle(order)
    options = SplitOptions(validation=0.25, test=0.25, stratify=stratify and recordings >= 8)
    first = split(Windows(recordings), options, seed)
    again = split(Windows(recordings, order=order), options, seed)
    found = groups_of(first)

    assert not found["train"] & found["test"]
    assert not found["train"] & found["validation"]
    assert not found["validation"] & found["test"]
    assert sum(len(part) for _, part in first) == recordings * 10
    assert found == groups_of(again)


def test_groups_can_be_stratified():
    """Each split gets its fraction of the recordings of each class, or of bins of a column."""
    splits = split(Windows(20), SplitOptions(validation=0.2, test=0.2, stratify=True), 0)
    binned = split(Windows(40), SplitOptions(validation=0.0, test=0.5, stratify="load", bin_size=2), 0)

    assert [np.bincount(part.targets).tolist() for _, part in splits] == [[60, 60], [20, 20], [20, 20]]
    assert np.bincount(binned.test.column("load") // 2).tolist() == [100, 100]


def test_unit_sample_divides_groups():
    """Windows of one recording are on both sides."""
    found = groups_of(split(Windows(6), SplitOptions(unit="sample", test=0.3), 0))

    assert found["train"] & found["test"]


def test_a_column_that_is_constant_within_groups_splits():
    """Loads are those of whole recordings; the rest is divided by recording."""
    splits = split(Windows(24), SplitOptions(by="load", test=[3], validation=0.25), 0)

    assert set(splits.test.column("load").tolist()) == {3}
    assert not groups_of(splits)["train"] & groups_of(splits)["validation"]


def test_a_column_that_divides_groups_is_refused_by_default():
    """The message names the recording, and how to divide it anyway."""
    options = {"by": "window", "test": [9], "validation": 0.0}
    with pytest.raises(DataError, match=r"puts samples of 'rec0' into .*test.*unit = \"sample\""):
        split(Windows(4), SplitOptions(**options), 0)

    assert len(split(Windows(4), SplitOptions(**options, unit="sample"), 0).test) == 4


@given(st.integers(1, 4), st.integers(8, 60), st.floats(0, 1.5))
def test_time_is_cut_with_a_gap(recordings, windows, gap):
    """In every recording train comes first and test last, with at least ``gap`` between, and no shared value."""
    options = SplitOptions(validation=0.3, test=0.3, unit="time", gap=gap)
    dataset = Windows(recordings, windows)
    if windows * 0.5 * 0.3 < 2 + gap:  # too short for a whole window in every part
        return
    splits = dict(split(dataset, options, 0))

    for name in set(dataset.groups.tolist()):
        spans = [part.spans[np.asarray(part.groups) == name] for part in splits.values()]
        for before, after in pairwise(spans):
            assert after[:, 0].min() - before[:, 1].max() >= gap - 1e-6


def test_unit_time_combines_with_a_column():
    """One load tests; the others are cut in time, so that training sees all of them."""
    splits = split(Windows(8, 40), SplitOptions(by="load", test=[3], validation=0.25, unit="time"), 0)

    assert set(splits.train.column("load").tolist()) == set(splits.validation.column("load").tolist()) == {0, 1, 2}
    assert set(splits.test.column("load").tolist()) == {3}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"unit": "time", "validation": 0.01}, "contains no whole sample"),
        ({"unit": "group", "validation": 0.01}, r"0.01 of 4 groups is not even one group"),
        ({"stratify": True}, r"has only 2 groups.*unit = \"time\""),
        ({"stratify": "window"}, "'rec0' has several values"),
    ],
)
def test_groups_that_cannot_be_divided_are_refused(options, message):
    """The message says what is too few, and what would help."""
    with pytest.raises(DataError, match=message):
        split(Windows(4), SplitOptions(**options), 0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"unit": "time", "stratify": True}, "leave stratify out"),
        ({"gap": 1.0}, "gap needs"),
        ({"unit": "time", "gap": -1.0}, "gap must be"),
    ],
)
def test_contradictory_units_are_refused(options, message):
    """Before any data are read."""
    with pytest.raises(ValueError, match=message):
        SplitOptions(**options)


def test_a_dataset_without_groups_cannot_be_split_by_them():
    """Nor one without spans by time."""
    plain = subset(list(range(10)), range(10))
    with pytest.raises(DataError, match="has no groups of samples"):
        split(plain, SplitOptions(unit="group"), 0)
    windows = Windows(4)
    windows.spans = None
    with pytest.raises(DataError, match="has no spans"):
        split(windows, SplitOptions(unit="time"), 0)
    windows.spans = np.zeros((39, 2))
    with pytest.raises(DataError, match="do not match its 40 samples"):
        split(windows, SplitOptions(), 0)
