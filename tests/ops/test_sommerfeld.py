"""Tests of the Sommerfeld number and of the eccentricity it stands for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail import ops


def test_the_number_by_hand() -> None:
    """SAE-30-like oil of 0.02 Pa s at 1800 rpm under 5 kN in a bearing of 50 by 100 mm with 0.1 mm of clearance."""
    found = ops.sommerfeld_number(torch.tensor([0.02]), torch.tensor([-1800]), torch.tensor([5000.0]))

    assert found.item() == pytest.approx(0.02 * 30 / (5000 / (0.05 * 0.1)) * 500**2)
    assert found.dtype is torch.float64


@given(ratio=st.floats(1e-5, 1 - 1e-5), slenderness=st.sampled_from([0.25, 0.5, 1.0]))
def test_the_severity_solves_the_equation(ratio: float, slenderness: float) -> None:
    """The eccentricity ratio that goes in on the right comes out again on the left."""
    free = 1 - ratio**2
    number = free**2 / (math.pi * ratio * math.sqrt(math.pi**2 * free + 16 * ratio**2)) / slenderness**2

    found = ops.sommerfeld_severity(torch.tensor([number], dtype=torch.float64), slenderness)

    assert found.item() == pytest.approx(ratio, abs=1e-6)


def test_the_ends() -> None:
    """No speed or oil: the surfaces touch; no load: the shaft floats; what is none: NaN."""
    numbers = torch.tensor([0.0, math.inf, math.nan, -1.0, 1e-30, 1e30])

    found = ops.sommerfeld_severity(numbers)

    wanted = torch.tensor([1.0, 0.0, math.nan, math.nan, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6, equal_nan=True)
    unloaded = ops.sommerfeld_number(torch.tensor([0.02]), torch.tensor([1800.0]), torch.tensor([0.0]))
    assert math.isinf(unloaded.item())
    assert ops.sommerfeld_severity(torch.zeros(0)).shape == (0,)


def test_harder_conditions_are_more_severe() -> None:
    """Slower, more loaded, thinner oil: each alone."""

    def severity(viscosity: float, rpm: float, load: float) -> float:
        tensors = (torch.tensor([one]) for one in (viscosity, rpm, load))
        return ops.sommerfeld_severity(ops.sommerfeld_number(*tensors)).item()

    middle = severity(0.02, 1800, 5000)

    assert severity(0.02, 900, 5000) > middle
    assert severity(0.02, 1800, 9000) > middle
    assert severity(0.01, 1800, 5000) > middle


def test_sizes_that_make_no_sense_are_refused() -> None:
    """By name."""
    ones = [torch.ones(1)] * 3
    with pytest.raises(ValueError, match="clearance must be above 0, got 0"):
        ops.sommerfeld_number(*ones, clearance=0.0)
    with pytest.raises(ValueError, match="slenderness must be above 0, got -1"):
        ops.sommerfeld_severity(torch.ones(1), -1.0)
