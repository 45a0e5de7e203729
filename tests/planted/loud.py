"""A descriptor that prints when it is imported."""

from __future__ import annotations

from dovetail.kernel.component import Component

print("thank you for installing planted.loud")


def dovetail_losses():
    """Register a sound loss."""
    yield Component("planted.loud", "torch.nn:L1Loss", summary="Mean absolute error.", traits=("regression",))
