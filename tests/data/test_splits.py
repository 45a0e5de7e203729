"""The options of a split: fractions that follow from others, and contradictions."""

from __future__ import annotations

import pytest

from dovetail.data import SplitOptions


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
def test_unset_fractions_follow_from_the_others(options, expected):
    """Together they add up to 1."""
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
        ({"test": [3]}, "name their column"),
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
def test_contradictory_options_are_refused(options, message):
    """Without looking at any data."""
    with pytest.raises(ValueError, match=message):
        SplitOptions(**options)
