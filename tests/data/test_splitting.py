"""Splits: exact, disjoint, complete, and refused if they cannot be."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.data import SPLIT_NAMES, SplitOptions, Splits, split
from dovetail.data.errors import DataError
from dovetail.data.samples import TensorSamples


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


def members(part) -> list[int]:
    """Return the indices of the samples in a split."""
    return [] if part is None else [int(part[index][0]) for index in range(len(part))]


class Plain:
    """A dataset without any optional attribute."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[float, int]:
        return float(index), 0


fractions = st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 20)).map(
    lambda parts: tuple(part / sum(parts) for part in parts)
)


@settings(max_examples=60)
@given(st.integers(1, 120), fractions, st.booleans(), st.integers(0, 5), st.data())
def test_splits_never_overlap_and_cover_everything(length, parts, stratify, seed, data):
    """For any fractions, classes and seed: a partition, or a refusal."""
    targets = data.draw(st.lists(st.integers(0, 3), min_size=length, max_size=length))
    options = SplitOptions(train=parts[0], validation=parts[1], test=parts[2], stratify=stratify)
    try:
        splits = split(samples(targets), options, seed)
    except DataError:
        return

    found = [members(getattr(splits, name)) for name in SPLIT_NAMES]

    assert sorted(chain(*found)) == list(range(length))
    assert all(part == sorted(part) for part in found)
    assert [bool(part) for part in found] == [fraction > 0 for fraction in parts]


def test_small_strata_do_not_all_round_the_same_way():
    """With twenty classes of five, test gets ten samples, not none and not twenty."""
    targets = np.repeat(np.arange(20), 5)

    splits = split(samples(targets), SplitOptions(stratify=True), 0)

    assert (len(splits.train), len(splits.validation), len(splits.test)) == (80, 10, 10)


@pytest.mark.parametrize("stratify", [True, "targets"])
def test_stratified_classes_keep_their_proportions(stratify):
    """Ninety to ten stays nine to one in every split."""
    targets = [0] * 90 + [1] * 10

    splits = split(samples(targets), SplitOptions(train=0.6, validation=0.2, test=0.2, stratify=stratify), 3)

    assert [np.bincount(part.targets).tolist() for _, part in splits] == [[54, 6], [18, 2], [18, 2]]


def test_the_default_is_a_tenth_each():
    """Without any options."""
    splits = split(Plain(50), None, 0)

    assert [(name, len(part)) for name, part in splits] == [("train", 40), ("validation", 5), ("test", 5)]


def test_a_fraction_that_gives_no_row_is_refused():
    """An empty split would only fail later."""
    with pytest.raises(DataError, match=r"split.validation = 0.01 of 20 rows is not even one row"):
        split(Plain(20), SplitOptions(validation=0.01), 0)


def test_an_empty_dataset_is_refused():
    """There is nothing to divide."""
    with pytest.raises(DataError, match="no samples"):
        split(Plain(0), None, 0)


def test_the_seed_draws_the_split():
    """The same seed gives the same split, another seed another; the options' seed takes precedence."""
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

    for name in SPLIT_NAMES:
        assert sorted(members(getattr(first, name))) == sorted(members(getattr(second, name)))


def test_equal_rows_go_to_different_splits():
    """Although their content, and so their key, is the same."""
    whole = TensorSamples(torch.zeros(20, 2), torch.zeros(20, dtype=torch.int64), ("a",), "digest")

    assert [len(part) for _, part in split(whole, None, 0)] == [16, 2, 2]


def test_listed_values_make_up_a_split_and_the_rest_trains():
    """This keeps machines, loads or speakers apart."""
    loads = [0, 1, 2, 3] * 5

    splits = split(samples([0] * 20, load=loads), SplitOptions(by="load", test=[3], validation=[2]), 0)

    assert splits.train.column("load").tolist() == [0, 1] * 5
    assert splits.validation.column("load").tolist() == [2] * 5
    assert splits.test.column("load").tolist() == [3] * 5


def test_a_fraction_next_to_a_list_is_drawn_from_the_remaining_rows():
    """Validation has no row that the list names."""
    loads = [0, 1, 2, 3] * 10

    splits = split(samples([0] * 40, load=loads), SplitOptions(by="load", test=[3], validation=0.2), 0)

    assert len(splits.validation) == 6
    assert len(splits.train) == 24
    assert 3 not in splits.validation.column("load")


@pytest.mark.parametrize("values", [[1, 2, 3], [1.0, 2.0, 3.0], ["1", "2", "3"]])
@pytest.mark.parametrize("wanted", [3, "3", 3.0])
def test_numbers_equal_their_text(values, wanted):
    """The number 3 in TOML equals the text 3 in a CSV file."""
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
        ({"by": "load", "test": [0, 1, 2, 3]}, "no row is left for train"),
        ({"stratify": "lod"}, "split.stratify: no column 'lod'"),
    ],
)
def test_unknown_columns_and_values_are_named(options, message):
    """With the alternatives."""
    with pytest.raises(DataError, match=message):
        split(samples([0, 1] * 10, load=[0, 1, 2, 3] * 5), SplitOptions(**options), 0)


def test_a_dataset_without_columns_cannot_be_split_by_one():
    """The message names the column."""
    with pytest.raises(DataError, match=r"has no column .x."):
        split(Plain(10), SplitOptions(by="x", test=[1]), 0)


def test_a_class_with_too_few_samples_is_named():
    """The message has its number of samples, and the number needed."""
    with pytest.raises(DataError, match=r"'class 1' has only 2 samples, and each of 3 splits needs one"):
        split(samples([0] * 20 + [1] * 2), SplitOptions(stratify=True), 0)


def test_ages_are_cut_into_bins_before_stratifying():
    """With age and age_group_size (parity C5)."""
    ages = list(range(20, 60)) * 5

    splits = split(samples([0] * 200, age=ages), SplitOptions(stratify="age", bin_size=10, train=0.8), 0)

    assert np.bincount(splits.test.column("age") // 10).tolist() == [0, 0, 5, 5, 5, 5]


def test_stratifying_by_distinct_numbers_suggests_bins():
    """Forty different ages are not strata."""
    with pytest.raises(DataError, match="set bin_size"):
        split(samples([0] * 40, age=np.arange(40) + 0.5), SplitOptions(stratify="age"), 0)


def test_stratifying_by_targets_needs_classes():
    """A regression needs bins, and a dataset without targets a column."""
    regression = TensorSamples(torch.zeros(20, 1), torch.arange(20.0)[:, None], None, "digest")

    with pytest.raises(DataError, match="targets are not classes"):
        split(regression, SplitOptions(stratify=True), 0)
    with pytest.raises(DataError, match="has no attribute 'targets'"):
        split(Plain(20), SplitOptions(stratify=True), 0)
    assert len(split(regression, SplitOptions(stratify=True, bin_size=5), 0).test) == 2


def test_official_splits_are_kept():
    """They cannot be divided again."""
    official = Splits(Plain(10), Plain(5))

    assert split(official, None, 0) == official
    assert [len(part) for _, part in split(official, SplitOptions(limit=4), 0)] == [4, 4]
    with pytest.raises(DataError, match=r"comes with its own splits: leave split.by out"):
        split(official, SplitOptions(by="x", test=[1]), 0)


def test_limit_takes_a_few_of_each_split():
    """For a quick trial."""
    splits = split(Plain(100), SplitOptions(limit=7), 0)

    assert [len(part) for _, part in splits] == [7, 7, 7]


def test_stratify_accepts_targets_for_every_dataset():
    """Also for a dataset without columns."""
    dataset = samples([0] * 20 + [1] * 20)
    plain = Plain(40)
    plain.targets = [0] * 20 + [1] * 20
    for source in (dataset, plain):
        made = split(source, SplitOptions(test=0.5, stratify="targets"), 0)
        assert len(made.test) == 20


def test_given_splits_need_a_length():
    """A run reads samples by index, so a stream is refused."""
    with pytest.raises(DataError, match=r"the validation split, an object of type list_iterator, has no len\(\)"):
        split(Splits(Plain(5), iter([1, 2])), None, 0)


def test_a_column_has_one_value_per_sample():
    """The message has both numbers."""
    dataset = Plain(5)
    dataset.column = lambda name: np.zeros(4)

    with pytest.raises(DataError, match=r"split.by: column 'x' has shape \(4,\) for 5 samples"):
        split(dataset, SplitOptions(by="x", test=[0]), 0)
