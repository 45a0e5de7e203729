"""Calling the model: compiled, with keywords, with a mask."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch import nn

from dovetail.checkpoint.format import read_checkpoint
from dovetail.main import run
from small_runs import Keep, small


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_model_is_the_same_model(tmp_path):
    """It learns the same, and its checkpoint has the original parameter names."""
    ends = []
    for compiled in (False, True):
        keep = Keep()
        config = small(
            tmp_path / str(compiled),
            training={"max_epochs": 1},
            hardware={"compile": compiled},
            loader={"drop_last": True},
            callbacks={"keep": keep},
        )
        outcome = run(config).check()
        model = read_checkpoint(keep.run.checkpoints.latest().path)["model"]
        ends.append((outcome.metrics["val_loss"], list(model)))

    assert ends[0][1] == ends[1][1] == ["hidden.0.weight", "hidden.0.bias", "head.weight", "head.bias"]
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-4)


class TakesMask(nn.Module):
    """A model that takes a mask, and inputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.masks = 0

    def forward(self, values: torch.Tensor, mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """Return logits in a dict."""
        self.masks += mask is not None
        return {"logits": self.layer(values), "hidden": values}


def test_inputs_by_name_and_masks_reach_the_model(tmp_path):
    """A dict is passed as keywords, and the mask if ``forward`` takes it."""

    def collate(samples: list[Any]) -> dict[str, Any]:
        values = torch.stack([sample[0] for sample in samples])
        targets = torch.stack([sample[1] for sample in samples])
        return {"inputs": {"values": values}, "targets": targets, "mask": torch.ones(len(samples), 4, dtype=torch.bool)}

    model = TakesMask()
    outcome = run(small(tmp_path, model=model, collator=collate, training={"max_epochs": 1})).check()

    assert model.masks == 1 + 7 + 2 + 2  # one batch before the first epoch, then all
    assert outcome.metrics["val_loss"] > 0
