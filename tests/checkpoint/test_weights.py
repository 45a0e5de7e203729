"""Tests of loading and exporting weights: which files are read, and that reading runs no code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dovetail.checkpoint.format import read_model, write_checkpoint
from dovetail.checkpoint.manifest import CheckpointError
from dovetail.checkpoint.weights import export_weights, is_average, load_weights, read_weights
from dovetail.cli import main
from dovetail.config.diagnostics import ConfigError
from dovetail.main import run
from small_runs import only_run, small


@pytest.fixture
def model():
    """Return a model with random weights."""
    torch.manual_seed(1)
    return torch.nn.Linear(3, 2)


def same(model, other) -> bool:
    """Return whether two models have the same weights."""
    return all(map(torch.equal, model.parameters(), other.parameters()))


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model_state_dict", "model"])
def test_a_pt_file_is_read_only_if_allowed(tmp_path, model, wrapped):
    """Its weights may be at the top level, or under one of the usual keys."""
    state = model.state_dict()
    torch.save(state if wrapped is None else {wrapped: state, "epoch": 3}, tmp_path / "w.pt")
    loaded = torch.nn.Linear(3, 2)

    with pytest.raises(CheckpointError, match=r"w.pt: torch.save wrote this file as .* see training.init_from_pt"):
        load_weights(loaded, tmp_path / "w.pt")
    load_weights(loaded, tmp_path / "w.pt", allow_pt=True)

    assert same(loaded, model)


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        """Return the command as the constructor."""
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("content", ["code", "damaged", "tensor", "list", "module"])
def test_a_pt_file_never_runs_code(tmp_path, model, content):
    """Reliability 6: it is refused in one line, without a fallback to unsafe loading."""
    path, trace = tmp_path / "w.pt", tmp_path / "trace"
    contents = {"code": {"w": Malicious(trace)}, "tensor": torch.ones(3), "list": [1], "module": model}
    if content == "damaged":
        path.write_bytes(b"PK\x03\x04" + bytes(100))
    else:
        torch.save(contents[content], path)

    with pytest.raises(CheckpointError, match=r"w.pt: this file (cannot be read without running its code|holds a )"):
        load_weights(torch.nn.Linear(3, 2), path, allow_pt=True)
    assert not trace.exists()


def test_a_run_starts_from_weights_in_a_file(tmp_path, monkeypatch):
    """A checkpoint's folder, an exported file and an allowed .pt file give the same run."""
    monkeypatch.chdir(tmp_path)
    run(small(Path("first"), run={"seed": 5})).check()
    checkpoint = max((only_run(Path("first")) / "checkpoints").glob("step-*"))
    export_weights(checkpoint, Path("w.safetensors"))
    torch.save(dict(read_model(checkpoint)), "w.pt")

    losses = set()
    for source, allow_pt in ((checkpoint, False), (Path("w.safetensors"), False), (Path("w.pt"), True), (None, False)):
        training = {"max_epochs": 1, "init_from": source and str(source), "init_from_pt": allow_pt}
        outcome = run(small(Path(f"runs-{source and source.suffix}"), training=training)).check()
        losses.add(outcome.metrics["train_loss"])

    assert len(losses) == 2
    assert min(losses) < 0.5 * max(losses)


def test_a_moving_average_starts_from_those_weights_too(tmp_path):
    """It does not start from the weights that the model was created with."""
    seen = []

    class Look:
        def dovetail_run_start(self, run):
            seen.append((run.parts.model.weight.clone(), run.parts.ema.state_dict()["weights"]["weight"].clone()))

    model, wanted = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
    save_file(wanted.state_dict(), tmp_path / "w.safetensors")
    training = {"max_epochs": 1, "ema_decay": 0.9, "init_from": str(tmp_path / "w.safetensors")}
    run(small(tmp_path / "runs", model=model, training=training, callbacks={"look": Look()})).check()

    ((weight, average),) = seen
    assert torch.equal(weight, wanted.weight)
    assert torch.equal(average, wanted.weight)


def test_weights_that_do_not_fit_are_refused_before_training(tmp_path):
    """The error points to training.init_from."""
    save_file({"w": torch.ones(3)}, tmp_path / "w.safetensors")
    for source, message in (
        ("w.safetensors", "these weights do not fit this"),
        ("w.pt", "there is no such file"),
    ):
        with pytest.raises(ConfigError, match=rf"training.init_from: .*{source}: {message}"):
            run(small(tmp_path / "runs", training={"init_from": str(tmp_path / source)}))


def test_the_safetensors_library_reads_an_exported_file(tmp_path, model):
    """It has the metadata that transformers needs, and the file mode that the umask allows."""
    write_checkpoint(tmp_path / "c", {"model": model.state_dict()})
    exported = export_weights(tmp_path / "c", tmp_path / "new" / "w.safetensors")

    with safe_open(tmp_path / "new" / "w.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert sorted(file.keys()) == exported.names == ["bias", "weight"]
    assert not exported.left_out
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["w.safetensors"]
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "new" / "w.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


def test_the_command_line_refuses_a_damaged_checkpoint_in_one_line(tmp_path, capsys):
    """The exit code is 2, and there is no traceback."""
    (tmp_path / "step-00000001").mkdir()
    (tmp_path / "step-00000001" / "manifest.json").write_text("{}")

    assert main(["checkpoints", "export", str(tmp_path / "step-00000001"), "--to", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(
        f"dovetail: {tmp_path}/step-00000001/manifest.json: this is not a checkpoint manifest"
    )


@pytest.mark.parametrize("validated", [True, False])
def test_weights_are_those_that_were_validated(tmp_path, validated):
    """The average if the run validated it; ``ema`` chooses either."""
    layer = torch.nn.Linear(2, 1, bias=False)
    model = {"first": layer.weight, "tied": layer.weight}
    average = {"weights": {"first": torch.full((1, 2), 7.0)}, "validated": validated}
    write_checkpoint(tmp_path / "step", {"model": model, "ema": average})

    trained, averaged = read_weights(tmp_path / "step", ema=False), read_weights(tmp_path / "step", ema=True)

    assert torch.equal(trained["first"], layer.weight)
    assert averaged["first"].tolist() == averaged["tied"].tolist() == [[7.0, 7.0]]
    assert torch.equal(read_weights(tmp_path / "step")["first"], (averaged if validated else trained)["first"])
    assert is_average(tmp_path / "step") is validated
    assert not is_average(tmp_path / "step", ema=False)


@pytest.mark.parametrize("state", [{}, {"ema": 3}, {"ema": {"decay": 0.9}}])
def test_a_checkpoint_without_an_average(tmp_path, state):
    """The trained weights are the only ones, also where a loop saves something else under ``ema``."""
    write_checkpoint(tmp_path / "step", {"model": {"w": torch.ones(2)}, **state})

    assert read_weights(tmp_path / "step")["w"].tolist() == [1.0, 1.0]
    assert not is_average(tmp_path / "step", ema=False)
    with pytest.raises(CheckpointError, match="there is no moving average of the weights in it"):
        read_weights(tmp_path / "step", ema=True)


def test_an_average_of_another_model_is_refused(tmp_path):
    """The message names the checkpoint."""
    average = {"weights": {"other": torch.ones(2)}, "validated": True}
    write_checkpoint(tmp_path / "step", {"model": {"w": torch.ones(2)}, "ema": average})

    with pytest.raises(CheckpointError, match=r"step: the average of the weights does not fit the model"):
        read_weights(tmp_path / "step")
