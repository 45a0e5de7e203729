"""Heat maps."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np

from dovetail_signals.pictures.heat_map import heat_map
from dovetail_signals.pictures.svg import Axis


def words(svg):
    """Return all texts of a picture."""
    return [element.text for element in ET.fromstring(svg).iter() if element.text]  # noqa: S314 (we wrote it)


def test_a_heat_map_shows_its_values():
    """Small values are dark and large ones bright, rows go from the bottom up, and hidden cells have no colour."""
    axes = (Axis.linear("x", 0, 3), Axis.linear("t", 5, 6))
    drawn = heat_map("a <b>", np.array([[0.0, 1.0], [1.0, 2.5]]), *axes)
    covered = heat_map("a", np.array([[0.0, 1.0], [1.0, 9.0]]), *axes, hidden=np.array([[0.0, 0.0], [0.0, 1.0]]))

    assert "a &lt;b&gt;" in drawn
    assert '<path style="stroke: #00224e" d="M0 1h1"/>' in drawn
    assert '<path style="stroke: #fee838" d="M1 0h1"/>' in drawn
    assert {"x", "t", "5", "5.5", "2.5"} <= {*words(drawn)}
    assert '<path style="stroke: #fee838" d="M1 1h1M0 0h1"/>' in covered.replace("M0 0h1M1 1h1", "M1 1h1M0 0h1")
    assert "M1 0h1" not in covered


def test_powers_are_written_out_and_large_pictures_stay_small():
    """A power of -3 is labelled 1e-3; a heat map of a million values takes less than 200 kB."""
    axes = (Axis.linear("x", 0, 1), Axis.linear("t", 0, 1))
    drawn = heat_map("error", np.linspace(-5, -1, 20).reshape(4, 5), *axes, powers=True)

    assert {"1e-5", "1e-3", "1e-1"} <= {*words(drawn)}
    assert len(heat_map("noise", np.random.default_rng(0).random((1000, 1000)), *axes)) < 200_000
