"""A descriptor with a misspelt hook, so discovery finds none of its components."""

from __future__ import annotations

from dovetail.kernel.component import Component


def dovetail_loses():
    """Register a loss in a function that is not a hook."""
    yield Component("planted.never_found", "torch.nn:L1Loss", summary="Mean absolute error.", traits=("regression",))
