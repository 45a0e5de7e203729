"""Line charts: any values give a well-formed picture with sensible axes."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

from hypothesis import example, given
from hypothesis import strategies as st

from dovetail.record.report.charts import Line, fit, line_chart, smooth, thin, tick_label
from dovetail.record.runs import Point


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=300))
@example([1.7e308])
@example([1e-310, 5e-324])
@example([-1.7e308, 1.7e308])
@example([1e-300, 1.7e308])
def test_any_values_give_a_chart(values):
    """For any values, the SVG is well-formed and all coordinates are finite and in or near the chart."""
    points = [Point(step, 1, value) for step, value in enumerate(values, 1)]
    if not any(map(math.isfinite, values)):
        return
    for options in ({}, {"may_be_log": True}, {"from_zero": True}):
        picture = line_chart("loss", [Line("train", "train", points, points[0])], test=values[0], **options)
        ET.fromstring(picture)  # noqa: S314 (we wrote it)
        for at in re.findall(r'(?:cx|cy|x1|x2|y1|y2|[^\w]x|[^\w]y)="([^"]+)"', picture):
            assert -2000 < float(at) < 2000
        assert "nan" not in re.sub(r"<t(ext|itle|span).*?</t\1>", "", picture)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.booleans())
def test_ticks_are_within_the_axis_and_have_distinct_labels(values, log):
    """Every axis has ticks, within its limits, with different labels."""
    scale = fit([abs(value) + 1e-3 for value in values] if log else values, 100, 0, may_be_log=log)
    ticks = scale.ticks(5)

    assert ticks
    assert all(scale.low - 1e-9 <= tick <= scale.high * (1 + 1e-9) + 1e-9 for tick in ticks)
    assert len(ticks) == len({tick_label(tick, ticks) for tick in ticks})
    assert len(ticks) <= 13


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=2000), st.integers(10, 100))
def test_thinning_keeps_the_ends_and_the_extremes(values, most):
    """A long curve loses points, but keeps its ends, its maximum and its minimum."""
    points = [Point(step, 1, value) for step, value in enumerate(values)]
    kept = thin(points, most)

    assert len(kept) <= max(most, 2)
    assert (points[0], points[-1]) == (kept[0], kept[-1])
    assert {min(values), max(values)} <= {point.value for point in kept}
    assert sorted(kept, key=lambda point: point.step) == kept


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=300))
def test_smoothing_stays_within_the_values(values):
    """A moving average has as many points, and none beyond the extremes."""
    points = [Point(step, 1, value) for step, value in enumerate(values)]
    smoothed = smooth(points)

    assert len(points) == len(smoothed)
    assert all(min(values) - 1e-6 <= point.value <= max(values) + 1e-6 for point in smoothed)
