"""Parts built for a run: refusals, precision, and parameters that the optimizer trains."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dovetail.config.diagnostics import ConfigError
from dovetail.losses.supcon import SupConLoss
from dovetail.main import run
from small_runs import Keep, small


@pytest.mark.parametrize(
    "loss,name",
    [
        ({"type": "supcon"}, "supcon"),
        ({"type": "peft_aware", "loss": {"type": "supcon"}}, "supcon"),
        ({"type": "cross_entropy"}, None),
        (SupConLoss(), None),
    ],
)
def test_a_loss_whose_batches_do_not_add_up_is_not_accumulated(tmp_path, loss, name):
    """Unless somebody says so, or it is an object of Python, of which nothing is known."""
    model, done = nn.Linear(4, 3), 0
    for training in ({}, {"accumulate": 2}, {"accumulate": 2, "accumulate_any_loss": True}):
        config = small(tmp_path, model=model, loss=loss, training={"max_epochs": 1, **training})
        if name and "accumulate" in training and "accumulate_any_loss" not in training:
            with pytest.raises(ConfigError, match=f"training.accumulate: loss '{name}' does not claim to be additive"):
                run(config)
        else:
            done += run(config).check().status == "completed"
    assert done == (2 if name else 3)


def test_a_loss_with_parameters_trains_them(tmp_path):
    """They go to the optimizer, to the checkpoint and back."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(logits * self.scale, target)

    loss, keep = Scaled(), Keep()
    run(small(tmp_path, loss=loss, callbacks={"keep": keep})).check()

    assert loss.scale.item() != 1.0
    assert sum(one.numel() for one in keep.run.parts.model.parameters()) + 1 == sum(
        one.numel() for group in keep.run.parts.optimizer.param_groups for one in group["params"]
    )


def test_an_optimizer_made_for_another_model_is_refused(tmp_path):
    """An object from Python that updates nothing of the run would train nothing."""
    model, other = nn.Linear(4, 3), nn.Linear(4, 3)

    with pytest.raises(ConfigError, match="optimizer: none of its parameters belongs to the model or the loss"):
        run(small(tmp_path, model=model, optimizer=torch.optim.SGD(other.parameters(), lr=0.1)))
    assert run(small(tmp_path, model=model, optimizer=torch.optim.SGD([model.bias], lr=0.1))).check()
