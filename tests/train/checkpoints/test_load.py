"""Loading the trained model of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import dovetail
from dovetail.checkpoint.format import read_model
from dovetail.checkpoint.manifest import CheckpointError
from dovetail.checkpoint.weights import export_weights, read_weights
from dovetail.config.diagnostics import ConfigError
from dovetail.main import run
from dovetail.record.runs import RunLookupError
from small_runs import only_run, small, three_blobs

VALIDATION = three_blobs().validation


def validation_loss(model: nn.Module) -> float:
    """Return the loss of the validation split, as a run computes it."""
    with torch.no_grad():
        return float(cross_entropy(model(VALIDATION.inputs), torch.as_tensor(VALIDATION.targets)))


def record(folder: Path) -> dict:
    """Return a run's record."""
    return json.loads((folder / "run.json").read_text())


class Tied(nn.Module):
    """A model with one weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return class scores."""
        return self.head(self.second(self.first(inputs)))


@pytest.mark.parametrize("training", [{}, {"ema_decay": 0.95}, {"ema_decay": 0.95, "ema_validate": False}])
def test_it_predicts_as_the_validated_model_did(tmp_path, training):
    """Its loss is that of the best checkpoint, whether the average of the weights was validated or not."""
    folder = run(small(tmp_path, training={"max_epochs": 3, **training})).check().folder
    best = record(folder)["best"]

    model = dovetail.load_model(folder)

    assert not model.training
    assert validation_loss(model) == pytest.approx(best["value"], rel=1e-5)
    if training:
        other = dovetail.load_model(folder, ema=not training.get("ema_validate", True))
        assert validation_loss(other) != pytest.approx(best["value"], rel=1e-4)
        assert other.state_dict().keys() == model.state_dict().keys()


def test_a_tied_weight_is_averaged_under_both_names(tmp_path):
    """Also in a file for other programs."""
    folder = run(small(tmp_path, model=Tied(), training={"max_epochs": 2, "ema_decay": 0.95})).check().folder
    best = folder / record(folder)["best"]["checkpoint"]

    state = read_weights(best)
    exported = export_weights(best, tmp_path / "w.safetensors")
    model = dovetail.load_model(folder, model=Tied())

    assert exported.average
    assert torch.equal(state["first.weight"], state["second.weight"])
    assert not torch.equal(state["first.weight"], read_model(best)["first.weight"])
    assert validation_loss(model) == pytest.approx(record(folder)["best"]["value"], rel=1e-5)


def test_only_the_model_is_needed(tmp_path, monkeypatch):
    """Neither the data nor the plugins of other parts; and the run may have been moved."""
    monkeypatch.chdir(tmp_path)
    folder = run(small(Path("runs"))).check().folder
    resolved = folder / "resolved.toml"
    resolved.write_text(resolved.read_text().replace("python:", "not_here:").replace("dovetail:adamw", "not_here:own"))
    moved = Path(shutil.move(folder, "elsewhere"))

    state = torch.random.get_rng_state()
    model = dovetail.load_model(moved)

    assert torch.equal(torch.random.get_rng_state(), state)
    assert validation_loss(model) == pytest.approx(record(moved)["best"]["value"], rel=1e-5)


def test_runs_and_checkpoints_are_named_as_on_the_command_line(tmp_path, monkeypatch):
    """A run by its name or ``latest``; a checkpoint by its name or path."""
    monkeypatch.chdir(tmp_path)
    folder = run(small(Path("runs"), training={"max_epochs": 3})).check().folder
    first = min((folder / "checkpoints").glob("step-*"))
    wanted = read_model(first)

    for model in (
        dovetail.load_model("latest", first.name),
        dovetail.load_model("run", first.name),
        dovetail.load_model(first),
        dovetail.load_model(folder.name[-6:], first.name, output=tmp_path / "runs"),
    ):
        assert all(torch.equal(weight, wanted[name]) for name, weight in model.state_dict().items())
    assert not all(
        torch.equal(weight, wanted[name]) for name, weight in dovetail.load_model("latest", "last").state_dict().items()
    )


def test_a_model_that_cannot_be_loaded_is_an_error(tmp_path, monkeypatch):
    """The run is missing, its model was an object, or the checkpoint has other weights or no average."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunLookupError, match="there are no runs in runs"):
        dovetail.load_model("latest")
    run(small(Path("runs"), model=nn.Linear(4, 3))).check()
    folder = only_run(Path("runs"))

    with pytest.raises(ConfigError, match=r"resolved.toml:\d+:8: model.type: was a Python object \(.*Linear"):
        dovetail.load_model("latest")
    with pytest.raises(RunLookupError, match="there is no checkpoint 'step-9' in"):
        dovetail.load_model("latest", "step-9")
    with pytest.raises(CheckpointError, match=r"these weights do not fit this Linear: .* size mismatch"):
        dovetail.load_model("latest", model=nn.Linear(4, 5))
    with pytest.raises(
        CheckpointError, match=r"there is no moving average of the weights in it: the run had no training.ema_decay"
    ):
        dovetail.load_model("latest", model=nn.Linear(4, 3), ema=True)
    shutil.copytree(folder / "checkpoints", "copied")
    with pytest.raises(RunLookupError, match=r"belongs to no run, .*: pass model="):
        dovetail.load_model("copied")
    assert isinstance(dovetail.load_model("copied", model=nn.Linear(4, 3)), nn.Linear)


def test_init_from_takes_the_validated_weights(tmp_path):
    """``training.init_from`` takes the average of a checkpoint, like every other reader of its weights."""
    seen = []

    class Look:
        def dovetail_run_start(self, run):
            seen.append({name: weight.clone() for name, weight in run.parts.model.state_dict().items()})

    first = run(small(tmp_path, training={"max_epochs": 2, "ema_decay": 0.95})).check().folder
    best = first / record(first)["best"]["checkpoint"]
    run(small(tmp_path, training={"max_epochs": 1, "init_from": str(best)}, callbacks={"look": Look()})).check()

    (weights,) = seen
    assert all(torch.equal(weight, weights[name]) for name, weight in dovetail.load_model(first).state_dict().items())
