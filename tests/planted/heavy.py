"""A descriptor that imports torch, which slows every command of every user."""

from __future__ import annotations

import torch.nn

from dovetail.kernel.component import Component


def dovetail_losses():
    """Register a sound loss."""
    print("planted.heavy is here")
    yield Component(
        "planted.heavy", f"{torch.nn.L1Loss.__module__}:L1Loss", summary="Mean absolute error.", traits=("regression",)
    )
