"""The modes of layers: what is in evaluation mode when training starts stays there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dovetail import resume, run
from dovetail.pieces.accumulator import GradientAccumulator
from dovetail.pieces.loop import TrainingLoop
from small_runs import blobs, only_run, small


class Net(nn.Module):
    """A backbone with a batch norm, and a head with dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        logits: torch.Tensor = self.head(self.backbone(inputs).relu())
        return logits


class Watch:
    """Notes the modes at the start of each epoch's first update."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, bool]] = []

    def dovetail_batch_start(self, run: Any, step: int) -> None:
        """Note whether the batch norm and the dropout train."""
        model = run.parts.model
        self.seen.append((model.backbone[1].training, model.head[0].training))


def trained(output: Path, model: nn.Module, **sections: Any) -> tuple[nn.Module, set[tuple[bool, bool]]]:
    """Return the model after a run of two epochs, and the modes that its updates saw."""
    watch = Watch()
    run(small(output, model=model, callbacks={"watch": watch}, training={"test": False}, **sections)).check()
    return model, set(watch.seen)


def frozen() -> Net:
    """Return a net whose backbone is frozen and in evaluation mode."""
    model = Net()
    model.backbone.requires_grad_(False)
    model.backbone.eval()
    return model


def test_a_layer_that_was_put_into_evaluation_mode_stays_there(tmp_path: Path) -> None:
    """The statistics of a frozen batch norm do not move in any epoch; the rest trains."""
    model, seen = trained(tmp_path, frozen())

    assert seen == {(False, True)}
    assert torch.equal(model.backbone[1].running_mean, torch.zeros(8))
    assert model.backbone[1].num_batches_tracked == 0


def test_a_pretrained_model_in_evaluation_mode_trains_as_a_whole(tmp_path: Path) -> None:
    """As such models are when they are loaded."""
    _, seen = trained(tmp_path, Net().eval())

    assert seen == {(True, True)}


@pytest.mark.parametrize(
    "patterns, moves",
    [(["backbone.*"], False), (["backbone.1.weight", "backbone.1.bias"], False), (["backbone.1.weight"], True)],
)
def test_a_frozen_batch_norm_of_a_phase_stays_still(tmp_path: Path, patterns: list[str], moves: bool) -> None:
    """Its statistics move again in the next phase only."""
    model, _ = trained(tmp_path, Net(), phases=[{"max_epochs": 2, "freeze": patterns}])
    _, seen = trained(tmp_path / "b", Net(), phases=[{"max_epochs": 1, "freeze": patterns}, {"max_epochs": 1}])

    assert torch.equal(model.backbone[1].running_mean, torch.zeros(8)) != moves
    assert seen == {(True, True), (moves, True)}


def test_a_resumed_run_starts_its_epochs_alike(tmp_path: Path) -> None:
    """What a callback did within an epoch does not last, resumed or not."""

    class Undo:
        def dovetail_batch_end(self, run: Any, step: int, loss: Any) -> None:
            run.parts.model.head.eval()

    weights = []
    for name, lengths in (("straight", [2]), ("resumed", [1, 2])):
        for epochs in lengths:
            sections = {"callbacks": {"undo": Undo()}, "training": {"max_epochs": epochs, "test": False}}
            config = small(tmp_path / name, model=frozen(), **sections)
            run(config).check() if epochs == lengths[0] else resume(only_run(tmp_path / name), config).check()
        weights.append(config.model.live.state_dict())

    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_loop_of_your_own_keeps_modes_too() -> None:
    """A frozen batch norm stays still in a model that trains."""
    model = frozen()
    data = blobs(32)
    targets = torch.as_tensor(data.targets)
    batches = [(data.inputs[:16], targets[:16]), (data.inputs[16:], targets[16:])]
    loop = TrainingLoop(GradientAccumulator(), None, nn.CrossEntropyLoss())
    loop.run_epoch(1, model, batches, torch.optim.SGD(model.head.parameters(), lr=0.1))

    assert torch.equal(model.backbone[1].running_mean, torch.zeros(8))
    assert model.head[0].training
