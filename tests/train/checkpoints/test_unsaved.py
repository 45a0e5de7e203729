"""State that no checkpoint holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dovetail.main import run
from dovetail.train.checks.own_generators import UNSAVED
from dovetail.train.trainer import StandardTrainer
from small_runs import alerts, small


class OwnLayer(StandardTrainer):
    """Trains a layer of its own with its own optimizer, and keeps a frozen teacher and a generator."""

    def __init__(self) -> None:
        self.teacher = nn.Linear(2, 2)
        self.layers = [nn.Linear(4, 3)]
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.noise = torch.Generator()

    def update(self, run, closure):
        """Update the model and the layer."""
        (layer,) = self.layers
        if not self.optimizers:
            self.optimizers["second"] = torch.optim.Adam(layer.parameters())
        loss = super().update(run, closure)
        layer(torch.ones(4)).sum().backward()
        self.optimizers["second"].step()
        return loss


class Saved(OwnLayer):
    """A trainer with a state."""

    def state_dict(self):
        """Return the layer."""
        return {"layer": self.layers[0].state_dict()}

    def load_state_dict(self, state):
        """Restore the layer."""
        self.layers[0].load_state_dict(state["layer"])


def test_unsaved_state_is_an_alert(tmp_path):
    """An optimizer, a generator and a trained layer are named; a frozen teacher is not."""
    run(small(tmp_path, trainer=OwnLayer())).check()
    messages = alerts(tmp_path, UNSAVED)
    assert sorted(message.split(",")[0] for message in messages) == [
        "trainer keeps Adam 'optimizers['second']'",
        "trainer keeps Generator 'noise'",
        "trainer keeps Linear 'layers[0]'",
    ]
    assert all("Give OwnLayer state_dict() and load_state_dict(state)" in message for message in messages)


@pytest.mark.parametrize("sections", [{"trainer": Saved()}, {"trainer": StandardTrainer()}])
def test_a_part_with_a_state_dict_is_trusted(tmp_path, sections):
    """It decides what it saves."""
    run(small(tmp_path, **sections)).check()
    assert not alerts(tmp_path, UNSAVED)


def test_references_to_the_runs_own_parts_are_no_alert(tmp_path):
    """A checkpoint holds the model, its layers and the optimizer anyway."""

    class Holds:
        def dovetail_run_start(self, run: Any) -> None:
            self.model, self.optimizer, self.run = run.parts.model, run.parts.optimizer, run
            self.weights = list(run.parts.model.parameters())

    run(small(tmp_path, callbacks={"holds": Holds()})).check()
    assert not alerts(tmp_path, UNSAVED)
