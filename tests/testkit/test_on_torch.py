"""The kit cries no wolf: torch's own parts, registered as they are, pass; the one that broadcasts is found."""

from __future__ import annotations

import pytest

from dovetail.kernel.component import Component
from dovetail.spec.plugins import Plugins
from dovetail.testkit import run_checks

LOSSES = {
    "CrossEntropyLoss": ("classification", "soft_labels", "additive"),
    "SmoothL1Loss": ("regression", "additive"),
    "BCEWithLogitsLoss": ("soft_labels", "additive"),
    "PoissonNLLLoss": ("regression", "additive"),
    "MultiLabelSoftMarginLoss": ("soft_labels",),
}
SCHEDULERS = {
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "CyclicLR": {"base_lr": 0.001, "max_lr": 0.1, "step_size_up": 4},
    "MultiStepLR": {"milestones": [2, 4]},
    "ReduceLROnPlateau": {"patience": 2},
}
OPTIMIZERS = ("Adafactor", "LBFGS", "NAdam")


class Torch:
    """A plugin that offers torch's parts under their own signatures."""

    def dovetail_losses(self):
        """Offer losses."""
        for name, traits in LOSSES.items():
            yield Component(f"torch.{name}", f"torch.nn:{name}", summary="Torch's own.", traits=traits)

    def dovetail_schedulers(self):
        """Offer schedulers."""
        for name, example in SCHEDULERS.items():
            target = f"torch.optim.lr_scheduler:{name}"
            traits = ("cycles_momentum",)
            yield Component(f"torch.{name}", target, summary="Torch's own.", traits=traits, example=example)

    def dovetail_optimizers(self):
        """Offer optimizers."""
        for name in OPTIMIZERS:
            yield Component(f"torch.{name}", f"torch.optim:{name}", summary="Torch's own.")


@pytest.fixture(scope="module")
def plugins():
    """Everything that is installed, and torch's parts."""
    found = Plugins.discover()
    found.register(Torch(), distribution="from-torch")
    return found


def _failures(plugins, name):
    return [one.check for one in run_checks(f"torch.{name}", plugins=plugins) if not one.ok]


@pytest.mark.parametrize("name", [*list(LOSSES)[:-1], *SCHEDULERS, *OPTIMIZERS])
def test_torchs_own_parts_pass(plugins, name):
    """Nothing is wrong with it, and the kit says so."""
    assert _failures(plugins, name) == []


def test_a_loss_of_torchs_that_broadcasts_is_found(plugins):
    """MultiLabelSoftMarginLoss takes one target for several samples without a word; the kit does not."""
    assert _failures(plugins, "MultiLabelSoftMarginLoss") == [
        "loss.too_few_targets_are_refused",
        "loss.wrong_rank_is_refused",
        "loss.outputs_without_samples_are_refused",
    ]
