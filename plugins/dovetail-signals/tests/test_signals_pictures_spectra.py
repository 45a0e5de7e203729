"""Stacked spectra."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from dovetail_signals.pictures.spectra import Marks, stacked_spectra


def words(svg):
    """Return all texts of a picture."""
    return [element.text for element in ET.fromstring(svg).iter() if element.text]  # noqa: S314 (we wrote it)


def test_spectra_keep_narrow_peaks():
    """The maximum of each drawn line is at the peak's place, however narrow the peak is."""
    values = np.full(4000, 0.1)
    values[1000] = 1.0
    drawn = stacked_spectra("s", {"one": values, "two": np.zeros(4000)}, "orders", 4.0, [Marks("A&B", [1.0], "train")])
    line = re.findall(r'd="(M8\.\d[^"]*)"', drawn)[0]
    points = [tuple(map(float, point.split())) for point in line[1:].split("L")]
    x, _ = min(points, key=lambda point: point[1])

    assert x == pytest.approx(8 + 542 / 4, abs=1.5)
    assert "A&B = 1" in words(drawn)
