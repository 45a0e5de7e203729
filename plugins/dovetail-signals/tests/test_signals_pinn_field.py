"""The derivatives of a field."""

from __future__ import annotations

import pytest
import torch

from dovetail_signals.pinn.field import Field


def points(seed: int = 0, count: int = 50, coordinates: str = "xt") -> torch.Tensor:
    """Return random points, with coordinates from -1 to 1 and time from 0 to 1."""
    drawn = torch.rand(count, len(coordinates), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([2 * drawn[:, :-1] - 1, drawn[:, -1:]], dim=1)


def test_derivatives_are_those_of_a_polynomial():
    """Mixed and repeated derivatives of several unknowns are exact, for letters in any order."""
    at = points().requires_grad_()
    x, t = at[:, :1], at[:, 1:]
    u = Field(torch.cat([x**3 * t**2, x * t], dim=1), at, "xt")

    assert torch.allclose(u("xxt"), torch.cat([12 * x * t, 0 * x], dim=1))
    assert torch.equal(u("txx"), u("xxt"))
    assert torch.allclose(u("t"), torch.cat([2 * x**3 * t, x], dim=1))
    assert torch.equal(u.at("t"), t)


@pytest.mark.parametrize("by", ["y", "xy", "xt t"])
def test_an_unknown_coordinate_raises(by):
    """The error lists the coordinates."""
    at = points().requires_grad_()

    with pytest.raises(ValueError, match="there are x, t"):
        Field(at[:, :1], at, "xt")(by)
