"""Axes and ticks."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail_signals.pictures.svg import Axis, round_values


def words(svg):
    """Return all texts of a picture."""
    return [element.text for element in ET.fromstring(svg).iter() if element.text]  # noqa: S314 (we wrote it)


@given(st.floats(-1e4, 1e4), st.floats(1e-6, 1e6), st.integers(2, 9))
def test_ticks_are_round_few_and_inside(offset, span, most):
    """There are at most as many as requested, evenly spaced and within the range."""
    low = offset * span
    found = round_values(low, low + span, most)

    assert len(found) <= most
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in found)
    if len(found) > 2:
        steps = np.diff(found)
        assert np.allclose(steps, steps[0], rtol=1e-3)


def test_uneven_axes_keep_their_order():
    """On a logarithmic axis, ticks are at their values."""
    axis = Axis.from_values("Hz", np.geomspace(10, 1000, 50))

    assert axis.ticks[0] == (0.0, "10")
    assert {words: place for place, words in axis.ticks}["100"] == pytest.approx(0.5, abs=0.01)
    assert [place for place, _ in axis.ticks] == sorted(place for place, _ in axis.ticks)
