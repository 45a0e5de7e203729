"""Bearing geometry against published fault frequencies."""

from __future__ import annotations

import csv

import pytest
from attrs import astuple
from hypothesis import given
from hypothesis import strategies as st

from dovetail_signals.geometry import BEARINGS, BearingGeometry, bearing
from places import DATA


def test_the_bearings_of_case_western_reserve_university():
    """The orders equal those on the data centre's page: outer, inner, twice the ball's spin, and cage."""
    drive, fan = bearing("SKF-6205").orders(), bearing("SKF-6203").orders()

    assert (drive.bpfo, drive.bpfi, 2 * drive.bsf, drive.ftf) == pytest.approx((3.5848, 5.4152, 4.7135, 0.39828), 1e-4)
    assert (fan.bpfo, fan.bpfi, 2 * fan.bsf, fan.ftf) == pytest.approx((3.0530, 4.9469, 3.9874, 0.3817), 1e-3)


@pytest.mark.skipif(not (DATA / "mfpt_bearing").is_dir(), reason="needs the MFPT data under DOVETAIL_DATA")
def test_the_mfpt_bearing():
    """The geometry gives the frequencies in the data set's table, whose cage frequency is relative to the shaft."""
    with (DATA / "mfpt_bearing" / "metadata.csv").open() as lines:
        row = next(csv.DictReader(lines))
    stated = {name.lower().removesuffix("_hz"): value for name, value in row.items()}
    shaft = float(stated["shaft"])
    found = bearing("NICE-MFPT").frequencies(shaft)

    for name in ("bpfo", "bpfi", "bsf"):
        assert getattr(found, name) == pytest.approx(float(stated[name]), 2e-3), name
    assert shaft - found.ftf == pytest.approx(float(stated["ftf"]), 2e-3)


@given(st.integers(2, 40), st.floats(0.01, 0.95), st.floats(0, 89), st.floats(0.1, 1000))
def test_the_laws_of_rolling_without_slip(elements, ratio, angle, shaft):
    """BPFO and BPFI add up to the number of elements, and BPFO is the cage frequency times that number."""
    geometry = BearingGeometry(elements=elements, element_diameter=ratio, pitch_diameter=1.0, contact_angle=angle)
    orders = geometry.orders()

    assert orders.bpfo + orders.bpfi == pytest.approx(elements)
    assert orders.bpfo == pytest.approx(elements * orders.ftf)
    assert 0 < orders.ftf < 0.5 < orders.bpfi
    assert astuple(geometry.frequencies(shaft)) == pytest.approx([shaft * order for order in astuple(orders)])


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"elements": 1}, "elements"),
        ({"element_diameter": 0.0}, "element_diameter"),
        ({"element_diameter": 2.0}, "must be less than pitch_diameter"),
        ({"contact_angle": 90.0}, "less than 90"),
    ],
)
def test_invalid_options_raise(changed, message):
    """The error names the option."""
    dimensions = {"elements": 9, "element_diameter": 0.3, "pitch_diameter": 1.5} | changed

    with pytest.raises(ValueError, match=message):
        BearingGeometry(**dimensions)


def test_an_unknown_bearing_raises():
    """The error lists the known bearings."""
    with pytest.raises(ValueError, match="SKF-6205"):
        bearing("6205")
    assert set(BEARINGS) == {"SKF-6205", "SKF-6203", "NICE-MFPT"}
