"""Profiles: bins and categories of all kinds of data, and profiles on disk."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import jensenshannon

from dovetail.monitor.columns import DriftError
from dovetail.monitor.drift import measure_drift
from dovetail.monitor.profile import DataProfile

VALUES = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 4)), elements=VALUES), st.integers(1, 12))
def test_every_value_is_in_one_bin(data, bins):
    """For any numbers: bins rise, each row counts once, NaN separately, and a reference has no drift from itself."""
    profile = DataProfile.build(data, bins=bins)
    numeric = profile.numeric

    assert (np.diff(numeric.edges, axis=1) >= 0).all()
    assert (numeric.counts.sum(1) == len(data)).all()
    assert numeric.counts[:, -1].tolist() == np.isnan(data).sum(0).tolist()
    finite = np.where(np.isfinite(data), data, np.nan)
    for place, edges in enumerate(numeric.edges):
        with np.errstate(invalid="ignore"):
            expected = [((finite[:, place] >= low) & (finite[:, place] < high)).sum() for low, high in pairwise(edges)]
        assert numeric.counts[place, 1:-2].tolist() == expected
    assert measure_drift(profile, data).js_divergence == 0


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_bins_of_the_reference_are_equally_full(bins, seed):
    """With distinct numbers, no two bins differ by more than two rows."""
    data = np.random.default_rng(seed).permutation(500).astype(np.float64)[:, None]
    (counts,) = DataProfile.build(data, bins=bins).numeric.counts

    assert counts[0] == counts[-2] == counts[-1] == 0
    assert np.ptp(counts[1:-2]) <= 2


def test_categories_are_compared_by_frequency():
    """New categories and missing values count as such."""
    table = pd.DataFrame({"colour": ["red", "red", "blue", None], "kind": [1, 1, 2, 3], "size": [0.1, 0.2, 0.3, 0.4]})
    profile = DataProfile.build(table, categorical=["kind"])
    other = pd.DataFrame({"size": [0.1, 0.4], "kind": [1, 7], "colour": ["green", "red"], "more": [1, 2]})
    found = profile.of(other)

    assert profile.names == ("size", "colour", "kind")
    assert profile.categorical["colour"].categories == ("red", "blue")
    assert profile.categorical["colour"].counts.tolist() == [2, 1, 0, 1]
    assert found.categorical["colour"].counts.tolist() == [1, 0, 1, 0]
    assert found.categorical["kind"].counts.tolist() == [1, 0, 0, 1, 0]
    expected = jensenshannon([2, 1, 0, 1], [1, 0, 1, 0], base=2) ** 2
    assert measure_drift(profile, other).details["colour"] == pytest.approx(expected)


@given(
    arrays.arrays(np.float64, (20, 3), elements=st.floats(allow_nan=True, allow_infinity=True)),
    st.lists(st.none() | st.text(max_size=5) | st.integers(-9, 9), min_size=1, max_size=20),
)
def test_a_saved_profile_is_the_same(tmp_path_factory, numbers, names):
    """Every edge and count survives JSON to the last bit."""
    column = np.empty(len(names), object)
    column[:] = names
    data = {"a": numbers[:, 0], "b": numbers[:, 1], "c": numbers[:, 2], "names": column}
    profile, path = DataProfile.build(data), tmp_path_factory.mktemp("profiles") / "reference.json"
    profile.save(path)
    loaded = DataProfile.load(path)

    loaded.check_like(profile)
    assert loaded.rows == profile.rows
    assert loaded.numeric.edges.dtype == profile.numeric.edges.dtype
    assert loaded.numeric.counts.tolist() == profile.numeric.counts.tolist()
    assert loaded.categorical["names"].counts.tolist() == profile.categorical["names"].counts.tolist()
    assert measure_drift(loaded, data).js_divergence == 0


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda kept: kept.update(format=2), "has format 2, but this version reads 1"),
        (lambda kept: kept.pop("rows"), "is not a profile: KeyError"),
        (lambda kept: kept["numeric"][0]["counts"].pop(), "is not a profile"),
        (lambda kept: kept["numeric"][0]["edges"].reverse(), "is not a profile"),
        (lambda kept: kept["numeric"][0]["counts"].__setitem__(0, -1), "is not a profile"),
        (lambda kept: kept.update(categorical=[{"name": "x", "categories": [1], "counts": [1]}]), "is not a profile"),
        (lambda kept: kept.update(dtype="object"), "is not a profile"),
    ],
)
def test_a_file_that_is_not_a_profile_is_refused(tmp_path, change, message):
    """Each message names the file."""
    path = tmp_path / "reference.json"
    DataProfile.build(np.arange(10.0)[:, None], bins=3).save(path)
    kept = json.loads(path.read_text())
    change(kept)
    path.write_text(json.dumps(kept))

    with pytest.raises(DriftError, match=rf"reference\.json {message}"):
        DataProfile.load(path)


def test_a_thousand_features_at_once():
    """From a tensor, also in half precision; profiles of parts add up to that of the whole."""
    data = torch.randn(400, 1000, generator=torch.Generator().manual_seed(0))
    profile = DataProfile.build(data)
    parts = profile.of(data[:150]) + profile.of(data[150:])

    assert parts.rows == 400
    assert parts.numeric.counts.tolist() == profile.numeric.counts.tolist()
    assert len(measure_drift(profile, data + 1).affected_features) == 1000
    assert DataProfile.build(data.to(torch.bfloat16)).numeric.edges.dtype == np.float32
