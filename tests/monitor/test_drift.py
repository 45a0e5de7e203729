"""Drift: the divergence, and what counts as drift."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import jensenshannon

from dovetail.monitor.columns import DriftError
from dovetail.monitor.drift import jensen_shannon, measure_drift
from dovetail.monitor.profile import DataProfile

COUNTS = st.lists(st.integers(0, 10**6), min_size=2, max_size=30).filter(any)


@given(COUNTS, st.randoms(use_true_random=False))
def test_the_divergence_equals_scipys(counts, random):
    """The square of SciPy's distance to base 2, for counts with and without zeros."""
    other = [random.choice([0, count, random.randint(0, 1000)]) for count in counts]
    other[0] += 1

    assert jensen_shannon(counts, other) == pytest.approx(jensenshannon(counts, other, base=2) ** 2, abs=1e-12)


@given(arrays.arrays(np.float64, (5, 8), elements=st.floats(0, 1e6)))
def test_rows_are_independent(counts):
    """Each row of a matrix gives its own result, symmetric, between 0 and 1."""
    counts[:, 0] += 1
    other = counts[::-1]
    found = jensen_shannon(counts, other)

    assert found.shape == (5,)
    assert found == pytest.approx([float(jensen_shannon(p, q)) for p, q in zip(counts, other, strict=True)])
    assert found == pytest.approx(jensen_shannon(other, counts))
    assert ((found >= 0) & (found <= 1)).all()


def test_extremes_of_the_divergence():
    """0 for equal distributions, 1 without overlap, an error for invalid counts."""
    assert jensen_shannon([1, 2, 3], [2, 4, 6]) == 0
    assert jensen_shannon([1, 0], [0, 5]) == 1
    for wrong in ([0, 0], [-1, 2], [math.nan, 1]):
        with pytest.raises(DriftError, match="not all of them 0"):
            jensen_shannon([1, 1], wrong)


def test_every_kind_of_drift_is_found():
    """A shift, a spread, a new minimum, a changed constant, missing values; other features are unaffected."""
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((5000, 8)).astype(np.float32)
    reference[:, 6] = 3.0
    current = rng.standard_normal((5000, 8)).astype(np.float32)
    current[:, 1] += 1.0
    current[:, 2] *= 3.0
    current[:2500, 3] = -1000.0
    current[:2500, 4] = np.nan
    current[:, 6] = 3.0000002
    found = measure_drift(DataProfile.build(reference, names=list("abcdefgh")), current)

    assert set(found.affected_features) == {"b", "c", "d", "e", "g"}
    assert found.affected_features[0] == "g"
    assert (found.details["g"], found.status, found.js_divergence) == (1.0, "critical", 1.0)
    assert found.states["b"] == "warning"
    assert all(value < 0.01 for name, value in found.details.items() if name in "afh")
    assert found.mean_divergence == pytest.approx(np.mean(list(found.details.values())))
    assert found.in_words().startswith("the data drifted from the reference in 5 of 8 features: g (1), ")


def test_a_divergence_at_a_threshold_exceeds_it():
    """The threshold belongs to the more severe state."""
    reference = DataProfile.build({"x": np.array(["a"] * 50 + ["b"] * 50)})
    current = {"x": np.array(["a"] * 90 + ["b"] * 10)}
    value = measure_drift(reference, current).details["x"]

    assert measure_drift(reference, current, warning=value, critical=value).status == "critical"
    assert measure_drift(reference, current, warning=value, critical=1).status == "warning"
    assert measure_drift(reference, current, warning=math.nextafter(value, 1), critical=1).status == "healthy"
