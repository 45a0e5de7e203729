"""State that no checkpoint holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dovetail.main import run
from dovetail.train.checks.own_generators import UNSAVED
from dovetail.train.trainer import StandardTrainer
from small_runs import only_run, small


def alerts(output: Path, kind: str) -> list[str]:
    """Return what the only run alerted of."""
    file = only_run(output) / "alerts.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [one["message"] for one in lines if one["type"] == kind]


class Twofold(StandardTrainer):
    """Updates one layer more with an optimizer of its own, and keeps a slow copy of it and one that never moves."""

    def __init__(self) -> None:
        self.teacher = nn.Linear(2, 2)
        self.layers = [nn.Linear(4, 3)]
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.noise = torch.Generator()

    def update(self, run, closure):
        """Update both."""
        (layer,) = self.layers
        if not self.optimizers:
            self.optimizers["second"] = torch.optim.Adam(layer.parameters())
        loss = super().update(run, closure)
        layer(torch.ones(4)).sum().backward()
        self.optimizers["second"].step()
        return loss


class Saved(Twofold):
    """Has a state."""

    def state_dict(self):
        """Return it."""
        return {"layer": self.layers[0].state_dict()}

    def load_state_dict(self, state):
        """Take it back."""
        self.layers[0].load_state_dict(state["layer"])


def test_what_no_checkpoint_has_is_told(tmp_path):
    """Another optimizer, a generator and a network that moves are named, a teacher that stays as it is is not."""
    run(small(tmp_path, trainer=Twofold())).check()
    told = alerts(tmp_path, UNSAVED)
    assert sorted(one.split(",")[0] for one in told) == [
        "trainer keeps Adam 'optimizers['second']'",
        "trainer keeps Generator 'noise'",
        "trainer keeps Linear 'layers[0]'",
    ]
    assert all("Give Twofold state_dict() and load_state_dict(state)" in one for one in told)


@pytest.mark.parametrize("sections", [{"trainer": Saved()}, {"trainer": StandardTrainer()}])
def test_a_part_with_a_state_of_its_own_is_believed(tmp_path, sections):
    """What it saves is its own affair."""
    run(small(tmp_path, **sections)).check()
    assert not alerts(tmp_path, UNSAVED)


def test_a_callback_that_holds_the_runs_own_parts_keeps_nothing(tmp_path):
    """A checkpoint has the model, its layers and the optimizer already."""

    class Holds:
        def dovetail_run_start(self, run: Any) -> None:
            self.model, self.optimizer, self.run = run.parts.model, run.parts.optimizer, run
            self.weights = list(run.parts.model.parameters())

    run(small(tmp_path, callbacks={"holds": Holds()})).check()
    assert not alerts(tmp_path, UNSAVED)
