"""Data as columns: what can be read, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from dovetail.monitor.columns import DriftError
from dovetail.monitor.drift import measure_drift
from dovetail.monitor.profile import DataProfile


def test_unusable_data_are_refused():
    """No rows, no features, text for numbers, shapes and names that do not match: each has its message."""
    profile = DataProfile.build({"a": np.arange(5.0)})
    for make, message in [
        (lambda: DataProfile.build(np.zeros((0, 2))), "there are no rows in column '0', '1'"),
        (lambda: DataProfile.build(np.zeros((2, 0))), "there are no features"),
        (lambda: DataProfile.build(np.zeros(3)), r"must be \[rows, features\], got shape \[3\]"),
        (lambda: DataProfile.build(np.zeros((3, 2)), names=["a"]), "1 names for 2 columns"),
        (lambda: DataProfile.build(np.zeros((3, 2)), names=["a", "a"]), "two columns have the same name"),
        (lambda: DataProfile.build({"a": np.zeros(3, complex)}), "contains neither numbers nor names: complex128"),
        (lambda: DataProfile.build({"a": np.zeros(3)}, categorical=["b"]), "no column 'b' to treat as categorical"),
        (lambda: DataProfile.build(np.zeros((3, 2)), bins=0), "bins must be at least 1, got 0"),
        (lambda: profile.of({"b": np.zeros(3)}), "no column 'a', which the reference has"),
        (lambda: profile.of({"a": np.array(["x"])}), "column 'a' is <U1; in the reference it is numeric"),
        (
            lambda: measure_drift(profile, DataProfile.build({"a": np.arange(6.0)})),
            r"build the second with reference\.of",
        ),
        (lambda: measure_drift(profile, {"a": np.zeros(3)}, warning=0.3), "0 < warning <= critical, got 0.3 and 0.2"),
    ]:
        with pytest.raises(DriftError, match=message):
            make()
