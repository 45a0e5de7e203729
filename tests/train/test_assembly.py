"""Building the parts of a run: what is refused, and which parameters the optimizer trains."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from dovetail.config.diagnostics import ConfigError
from dovetail.distributed.group import Group
from dovetail.kernel.build import BuildError
from dovetail.losses.supcon import SupConLoss
from dovetail.main import run
from dovetail.train.trainer import StandardTrainer
from small_runs import Keep, built, small


@pytest.mark.parametrize(
    "loss,name",
    [
        ({"type": "supcon"}, "supcon"),
        ({"type": "peft_aware", "loss": {"type": "supcon"}}, "supcon"),
        ({"type": "cross_entropy"}, None),
        (SupConLoss(), None),
    ],
)
def test_a_loss_that_is_not_additive_is_not_accumulated(tmp_path, loss, name):
    """Unless the config allows it, or the loss is an object from Python, which makes no claims."""
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
    """They are handed to the optimizer."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(logits * self.scale, target)

    loss, keep = Scaled(), Keep()
    run(small(tmp_path, loss=loss, callbacks={"keep": keep})).check()

    assert loss.scale.item() != 1.0
    trained = [parameter for group in keep.run.parts.optimizer.param_groups for parameter in group["params"]]
    assert any(parameter is loss.scale for parameter in trained)
    assert len(trained) == 1 + len(list(keep.run.parts.model.parameters()))


def test_an_optimizer_made_for_another_model_is_refused(tmp_path):
    """It would train nothing."""
    model, other = nn.Linear(4, 3), nn.Linear(4, 3)

    with pytest.raises(ConfigError, match="optimizer: none of its parameters belongs to the model or the loss"):
        run(small(tmp_path, model=model, optimizer=torch.optim.SGD(other.parameters(), lr=0.1)))
    assert run(small(tmp_path, model=model, optimizer=torch.optim.SGD([model.bias], lr=0.1))).check()


class Doubled:
    """A metric whose results cannot be merged."""

    def update(self, outputs: object, batch: object) -> None:
        """Do nothing."""

    def compute(self) -> dict[str, float]:
        """Return nothing."""
        return {}

    def reset(self) -> None:
        """Do nothing."""


class NoBatches(StandardTrainer):
    """A trainer that counts no batches."""

    def num_batches(self, loader: object) -> int:
        """Return 0."""
        return 0


@pytest.mark.parametrize(
    "processes,sections,path,message",
    [
        (1, {"trainer": NoBatches()}, "trainer", r"num_batches\(\) returned 0"),
        (1, {"training": {"init_from": "no/such/file"}}, "training.init_from", "no/such/file"),
        (1, {"training": {"gradient_checkpointing": True}}, "training.gradient_checkpointing", "no nn.ModuleList"),
        (
            2,
            {"metrics": {"doubled": Doubled()}},
            "metrics.doubled",
            r"it lacks state_dict\(\), .* cannot be merged",
        ),
    ],
)
def test_a_part_that_cannot_be_used_is_located(tmp_path, processes, sections, path, message):
    """The error has the config path to change."""
    with pytest.raises(BuildError, match=message) as caught:
        built(tmp_path, Group(0, processes), **sections)

    assert caught.value.path == path


def test_a_loss_that_is_not_additive_warns_with_several_processes(tmp_path, caplog):
    """Its gradients are those of smaller batches."""
    with caplog.at_level(logging.WARNING):
        built(tmp_path, Group(0, 2), loss={"type": "supcon"})
        assert "loss 'supcon' does not claim to be additive: with 2 processes it may differ" in caplog.text
        caplog.clear()
        built(tmp_path, Group(1, 2))
    assert not caplog.text


def test_only_rank_0_has_trackers_and_copies(tmp_path):
    """The metrics of training batches are a second set, of the same objects from Python."""
    sections = {
        "trackers": {"lines": {"type": "jsonl", "path": "more.jsonl"}},
        "checkpoint": {"copy_to": {"type": "local", "path": str(tmp_path / "copies")}},
        "training": {"train_metrics": True},
    }
    leader, other = (built(tmp_path, Group(rank, 2), **sections).parts for rank in range(2))

    assert (list(leader.trackers), list(other.trackers)) == (["lines"], [])
    assert leader.train_metrics["accuracy"] is not leader.metrics["accuracy"]
