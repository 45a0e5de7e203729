"""A descriptor whose hook is misspelt, so that nothing of it would ever be found."""

from __future__ import annotations

from dovetail.kernel.component import Component


def dovetail_loses():
    """Offer a loss, under a name that is no hook."""
    yield Component("planted.never_found", "torch.nn:L1Loss", summary="Mean absolute error.", traits=("regression",))
