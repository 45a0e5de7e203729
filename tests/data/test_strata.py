"""Strata, and exact apportionment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.data.errors import DataError
from dovetail.data.strata import apportion, largest_remainder, strata

fractions = st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 20)).map(
    lambda parts: tuple(part / sum(parts) for part in parts)
)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=40), fractions)
def test_apportioned_counts_are_exact_in_every_direction(sizes, parts):
    """Each count is rounded down or up, and the totals are those of all samples together."""
    sizes = np.asarray(sizes)

    counts = apportion(sizes, parts)

    exact = np.outer(sizes, parts)
    assert (counts.sum(axis=1) == sizes).all()
    assert (counts.sum(axis=0) == largest_remainder(int(sizes.sum()), parts)).all()
    assert (np.abs(counts - exact) < 1 + 1e-6).all()


def test_a_bin_that_is_too_small_joins_its_neighbour():
    """A single person of 81 does not prevent a split by decades; a class would."""
    codes, names = strata(np.asarray([21, 22, 23, 35, 36, 37, 81]), 10, 3, "age")

    assert codes.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert names == ["20 to 30", "30 to 90"]


@pytest.mark.parametrize(
    "values, bin_size, message",
    [
        (np.asarray([1.0, np.nan, 2.0]), 1.0, "1 sample without a value, the first is sample 1"),
        (np.asarray(["a", "b", "c"], dtype=object), 1.0, "it is text"),
        (np.asarray([1.0, 2.0]), 1.0, "2 samples for 3 splits"),
    ],
)
def test_values_that_cannot_be_stratified_are_refused(values, bin_size, message):
    """Missing values, text in bins, too few samples."""
    with pytest.raises(DataError, match=message):
        strata(values, bin_size, 3, "age")
