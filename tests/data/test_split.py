"""Tests of splits: exact, disjoint, complete, and refused where they cannot be."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.data.errors import DataError
from dovetail.data.samples import Subset, TensorSamples
from dovetail.data.split import NAMES, SplitOptions, Splits, split
from dovetail.data.strata import apportion, natural_key, share, strata


def samples(targets, **columns) -> TensorSamples:
    """Return samples whose input is their number, so that each can be told apart."""
    targets = np.asarray(targets)
    return TensorSamples(
        torch.arange(len(targets), dtype=torch.float32)[:, None],
        torch.from_numpy(targets),
        tuple(f"class {number}" for number in range(int(targets.max()) + 1)),
        "digest",
        {name: np.asarray(values) for name, values in columns.items()},
    )


def members(part) -> list[int]:
    """Return the numbers of the samples in a split."""
    return [] if part is None else [int(part[index][0]) for index in range(len(part))]


class Plain:
    """A dataset that tells nothing about itself."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[float, int]:
        return float(index), 0


fractions = st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 20)).map(
    lambda parts: tuple(part / sum(parts) for part in parts)
)

# --- fractions ------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(1, 120), fractions, st.booleans(), st.integers(0, 5), st.data())
def test_splits_never_overlap_and_cover_everything(length, parts, stratify, seed, data):
    """Whatever the fractions, classes and seed: a partition, or a refusal."""
    targets = data.draw(st.lists(st.integers(0, 3), min_size=length, max_size=length))
    options = SplitOptions(train=parts[0], validation=parts[1], test=parts[2], stratify=stratify)
    try:
        splits = split(samples(targets), options, seed)
    except DataError:
        return

    found = [members(getattr(splits, name)) for name in NAMES]

    assert sorted(chain(*found)) == list(range(length))
    assert all(part == sorted(part) for part in found)
    assert [bool(part) for part in found] == [fraction > 0 for fraction in parts]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=40), fractions)
def test_stratified_counts_are_exact_in_every_direction(sizes, parts):
    """Each stratum's share is rounded down or up, and the totals are those of all samples together."""
    sizes = np.asarray(sizes)

    counts = apportion(sizes, parts)

    exact = np.outer(sizes, parts)
    assert (counts.sum(axis=1) == sizes).all()
    assert (counts.sum(axis=0) == share(int(sizes.sum()), parts)).all()
    assert (np.abs(counts - exact) < 1 + 1e-6).all()


def test_small_strata_do_not_all_round_the_same_way():
    """Twenty classes of five: test gets ten samples, not none and not twenty."""
    targets = np.repeat(np.arange(20), 5)

    splits = split(samples(targets), SplitOptions(stratify=True), 0)

    assert (len(splits.train), len(splits.validation), len(splits.test)) == (80, 10, 10)


@pytest.mark.parametrize("stratify", [True, "targets"])
def test_stratified_classes_keep_their_proportions(stratify):
    """Ninety to ten stays nine to one everywhere."""
    targets = [0] * 90 + [1] * 10

    splits = split(samples(targets), SplitOptions(train=0.6, validation=0.2, test=0.2, stratify=stratify), 3)

    assert [np.bincount(part.targets).tolist() for _, part in splits] == [[54, 6], [18, 2], [18, 2]]


def test_the_default_is_a_tenth_each():
    """No options at all."""
    splits = split(Plain(50), None, 0)

    assert [(name, len(part)) for name, part in splits] == [("train", 40), ("validation", 5), ("test", 5)]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"train": 0.8}, {"train": 0.8, "validation": 0.1, "test": 0.1}),
        ({"train": 0.8, "validation": 0.2}, {"train": 0.8, "validation": 0.2, "test": 0.0}),
        ({"validation": 0.3}, {"train": 0.6, "validation": 0.3, "test": 0.1}),
        ({"test": 0}, {"train": 0.9, "validation": 0.1, "test": 0.0}),
        ({"train": 1}, {"train": 1.0, "validation": 0.0, "test": 0.0}),
        ({"by": "load", "test": [3]}, {"train": 0.9, "validation": 0.1, "test": 0.0}),
        ({"by": "load", "test": [3], "validation": [2]}, {"train": 1.0, "validation": 0.0, "test": 0.0}),
    ],
)
def test_shares_that_are_not_given(options, expected):
    """What is left out follows from what is there."""
    assert SplitOptions(**options).fractions() == pytest.approx(expected)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"train": 0.8, "validation": 0.3}, "more than 1"),
        ({"validation": 0.7, "test": 0.7}, "more than 1"),
        ({"train": 0.5, "validation": 0.1, "test": 0.1}, "left out"),
        ({"validation": 0.5, "test": 0.5}, "nothing is left for train"),
        ({"train": 1.5}, "between 0 and 1, got 1.5"),
        ({"test": -0.1}, "between 0 and 1"),
        ({"test": float("nan")}, "between 0 and 1"),
        ({"test": [3]}, "which column"),
        ({"by": "load"}, "needs a list"),
        ({"by": "load", "test": []}, "empty list"),
        ({"by": "load", "test": [3, 3]}, "twice"),
        ({"by": "load", "test": [3], "validation": [2, 3]}, "both name '3'"),
        ({"by": "load", "test": [3], "train": 0.5}, "cannot be a fraction"),
        ({"bin_size": 10}, "needs `stratify`"),
        ({"stratify": "age", "bin_size": 0}, "more than 0"),
        ({"limit": 0}, "at least 1"),
    ],
)
def test_options_that_contradict_one_another_are_refused(options, message):
    """Without looking at any data."""
    with pytest.raises(ValueError, match=message):
        SplitOptions(**options)


def test_a_fraction_that_gives_no_row_is_refused():
    """An empty split would only fail later."""
    with pytest.raises(DataError, match=r"split.validation = 0.01 of 20 rows is no row"):
        split(Plain(20), SplitOptions(validation=0.01), 0)


def test_an_empty_dataset_is_refused():
    """There is nothing to divide."""
    with pytest.raises(DataError, match="no samples"):
        split(Plain(0), None, 0)


# --- determinism ----------------------------------------------------------------------------------------------------


def test_the_seed_draws_the_split():
    """The same seed gives the same, another seed another; the options' seed wins."""
    first = members(split(Plain(100), None, 1).test)

    assert members(split(Plain(100), None, 1).test) == first
    assert members(split(Plain(100), None, 2).test) != first
    assert members(split(Plain(100), SplitOptions(seed=1), 2).test) == first


@settings(max_examples=25)
@given(st.permutations(list(range(40))), st.booleans())
def test_the_order_of_rows_does_not_matter(order, stratify):
    """The same samples in another order are split the same way."""
    targets = np.arange(40) % 3
    whole = samples(targets)
    shuffled = whole.subset(np.asarray(order))
    options = SplitOptions(stratify=stratify)

    first, second = split(whole, options, 0), split(shuffled, options, 0)

    for name in NAMES:
        assert sorted(members(getattr(first, name))) == sorted(members(getattr(second, name)))


def test_equal_rows_are_split_all_the_same():
    """Rows with the same content share a key, and still go to different splits."""
    whole = TensorSamples(torch.zeros(20, 2), torch.zeros(20, dtype=torch.int64), ("a",), "digest")

    assert [len(part) for _, part in split(whole, None, 0)] == [16, 2, 2]


# --- by a column ----------------------------------------------------------------------------------------------------


def test_listed_values_make_up_a_split_and_the_rest_trains():
    """The way to keep machines, loads or speakers apart."""
    loads = [0, 1, 2, 3] * 5

    splits = split(samples([0] * 20, load=loads), SplitOptions(by="load", test=[3], validation=[2]), 0)

    assert splits.train.column("load").tolist() == [0, 1] * 5
    assert splits.validation.column("load").tolist() == [2] * 5
    assert splits.test.column("load").tolist() == [3] * 5


def test_a_fraction_beside_by_comes_from_the_training_rows():
    """Validation is drawn from what no list names."""
    loads = [0, 1, 2, 3] * 10

    splits = split(samples([0] * 40, load=loads), SplitOptions(by="load", test=[3], validation=0.2), 0)

    assert len(splits.validation) == 6
    assert len(splits.train) == 24
    assert 3 not in splits.validation.column("load")


@pytest.mark.parametrize("values", [[1, 2, 3], [1.0, 2.0, 3.0], ["1", "2", "3"]])
@pytest.mark.parametrize("wanted", [3, "3", 3.0])
def test_values_are_compared_as_a_person_would(values, wanted):
    """3 in TOML is "3" in a CSV file."""
    column = np.asarray(values, dtype=object if isinstance(values[0], str) else None)

    splits = split(samples([0, 0, 0], load=column), SplitOptions(by="load", test=[wanted], validation=0), 0)

    assert members(splits.test) == [2]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"by": "lod", "test": [3]}, r"split.by: no column 'lod'; there are 'load'"),
        ({"by": "load", "test": [7]}, r"no row has 7 in column 'load', which has '0', '1', '2', '3'"),
        ({"by": "load", "test": ["x"]}, "no row has 'x'"),
        ({"by": "load", "test": [3], "train": [0, 1]}, r"also has '2' \(5 rows\), which no split names"),
        ({"by": "load", "test": [0, 1, 2, 3]}, "no row"),
        ({"stratify": "lod"}, "split.stratify: no column 'lod'"),
    ],
)
def test_columns_and_values_that_are_not_there_are_named(options, message):
    """With what there is instead."""
    with pytest.raises(DataError, match=message):
        split(samples([0, 1] * 10, load=[0, 1, 2, 3] * 5), SplitOptions(**options), 0)


def test_a_dataset_without_columns_says_so():
    """A plain dataset cannot be split by one."""
    with pytest.raises(DataError, match=r"has no column .x."):
        split(Plain(10), SplitOptions(by="x", test=[1]), 0)


# --- strata ---------------------------------------------------------------------------------------------------------


def test_a_class_with_too_few_members_is_named():
    """With its number of members, and what was needed."""
    with pytest.raises(DataError, match=r"'class 1' has only 2 samples, and each of 3 splits needs one"):
        split(samples([0] * 20 + [1] * 2), SplitOptions(stratify=True), 0)


def test_ages_are_cut_into_bins_before_stratifying():
    """Parity C5: age and age_group_size."""
    ages = list(range(20, 60)) * 5

    splits = split(samples([0] * 200, age=ages), SplitOptions(stratify="age", bin_size=10, train=0.8), 0)

    assert np.bincount(splits.test.column("age") // 10).tolist() == [0, 0, 5, 5, 5, 5]


def test_a_bin_that_is_too_small_joins_its_neighbour():
    """One person of 81 does not stop a split by decades; a class would."""
    codes, names = strata(np.asarray([21, 22, 23, 35, 36, 37, 81]), 10, 3, "age")

    assert codes.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert names == ["20 to 30", "30 to 90"]


def test_a_number_without_bins_suggests_them():
    """Forty different ages are no strata."""
    with pytest.raises(DataError, match="set bin_size"):
        split(samples([0] * 40, age=np.arange(40) + 0.5), SplitOptions(stratify="age"), 0)


@pytest.mark.parametrize(
    "values, bin_size, message",
    [
        (np.asarray([1.0, np.nan, 2.0]), 1.0, "1 sample without a value there, the first is sample 1"),
        (np.asarray(["a", "b", "c"], dtype=object), 1.0, "it is text"),
        (np.asarray([1.0, 2.0]), 1.0, "2 samples for 3 splits"),
    ],
)
def test_values_that_cannot_be_stratified_are_refused(values, bin_size, message):
    """Missing ones, text in bins, too few."""
    with pytest.raises(DataError, match=message):
        strata(values, bin_size, 3, "age")


def test_stratifying_by_targets_needs_classes():
    """A regression is told what to do; a plain dataset too."""
    regression = TensorSamples(torch.zeros(20, 1), torch.arange(20.0)[:, None], None, "digest")

    with pytest.raises(DataError, match="targets are no classes"):
        split(regression, SplitOptions(stratify=True), 0)
    with pytest.raises(DataError, match="does not tell its targets"):
        split(Plain(20), SplitOptions(stratify=True), 0)
    assert len(split(regression, SplitOptions(stratify=True, bin_size=5), 0).test) == 2


def test_natural_order():
    """As a person sorts: numbers inside text by value."""
    assert sorted(["x10", "x2", "B", "10", "9", ""], key=natural_key) == ["", "9", "10", "B", "x2", "x10"]


# --- what comes with its own splits, and what is left of the dataset -------------------------------------------------


def test_official_splits_are_kept():
    """And cannot be divided again."""
    official = Splits(Plain(10), Plain(5))

    assert split(official, None, 0) == official
    assert [len(part) for _, part in split(official, SplitOptions(limit=4), 0)] == [4, 4]
    with pytest.raises(DataError, match=r"comes with its own splits: leave split.by out"):
        split(official, SplitOptions(by="x", test=[1]), 0)


def test_limit_takes_a_few_of_each_split():
    """For a quick trial."""
    splits = split(Plain(100), SplitOptions(limit=7), 0)

    assert [len(part) for _, part in splits] == [7, 7, 7]


def test_a_subset_tells_what_its_dataset_tells():
    """Cut to its samples."""
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


def test_targets_can_be_named_whatever_their_column():
    """``stratify = "targets"`` works for every dataset that has targets, also for one without columns."""
    dataset = samples([0] * 20 + [1] * 20)
    plain = Plain(40)
    plain.targets = [0] * 20 + [1] * 20
    for one in (dataset, plain):
        made = split(one, SplitOptions(test=0.5, stratify="targets"), 0)
        assert len(made.test) == 20
