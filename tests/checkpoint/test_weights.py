"""Tests of weights from files: which are read, which are refused, and what is never run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.format import read_model, write_checkpoint
from dovetail.checkpoint.weights import export_weights, load_weights
from dovetail.cli import main
from dovetail.config.diagnostics import ConfigError
from dovetail.main import run
from small_runs import only_run, small


@pytest.fixture
def taught():
    """Return a model with weights of its own."""
    torch.manual_seed(1)
    return torch.nn.Linear(3, 2)


def same(model, other) -> bool:
    """Say whether two models have the same weights."""
    return all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model_state_dict", "model"])
def test_a_pt_file_is_read_where_that_is_allowed(tmp_path, taught, wrapped):
    """As torch.save writes it, bare or under one of the usual keys."""
    state = taught.state_dict()
    torch.save(state if wrapped is None else {wrapped: state, "epoch": 3}, tmp_path / "w.pt")
    model = torch.nn.Linear(3, 2)

    with pytest.raises(CheckpointError, match=r"w.pt: this is a file of torch.save, .* see training.init_from_pt"):
        load_weights(model, tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt", allow_pt=True)

    assert same(model, taught)


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        """Say how to make one again."""
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("content", ["code", "damaged", "tensor", "list", "module"])
def test_a_pt_file_never_runs_code(tmp_path, taught, content):
    """Reliability 6: refused in one line, with no fallback to unsafe loading."""
    path, trace = tmp_path / "w.pt", tmp_path / "trace"
    held = {"code": {"w": Malicious(trace)}, "tensor": torch.ones(3), "list": [1], "module": taught}
    if content == "damaged":
        path.write_bytes(b"PK\x03\x04" + bytes(100))
    else:
        torch.save(held[content], path)

    with pytest.raises(CheckpointError, match=r"w.pt: this file (cannot be read without running its code|holds a )"):
        load_weights(torch.nn.Linear(3, 2), path, allow_pt=True)
    assert not trace.exists()


def test_a_run_begins_with_weights_from_a_file(tmp_path, monkeypatch):
    """From a checkpoint's folder, an exported file, a .pt file with the switch: all the same."""
    monkeypatch.chdir(tmp_path)
    run(small(Path("first"), run={"seed": 5})).check()
    checkpoint = max((only_run(Path("first")) / "checkpoints").glob("step-*"))
    export_weights(checkpoint, Path("w.safetensors"))
    torch.save(dict(read_model(checkpoint)), "w.pt")

    losses = set()
    for source, switch in ((checkpoint, False), (Path("w.safetensors"), False), (Path("w.pt"), True), (None, False)):
        training = {"max_epochs": 1, "init_from": source and str(source), "init_from_pt": switch}
        outcome = run(small(Path(f"runs-{source and source.suffix}"), training=training)).check()
        losses.add(outcome.metrics["train_loss"])

    assert len(losses) == 2
    assert min(losses) < 0.5 * max(losses)


def test_an_average_begins_with_those_weights_too(tmp_path):
    """And not with those that the model was made with."""
    seen = []

    class Look:
        def dovetail_run_start(self, run):
            seen.append((run.parts.model.weight.clone(), run.parts.ema.state_dict()["weights"]["weight"].clone()))

    model = torch.nn.Linear(4, 3)
    wanted = torch.nn.Linear(4, 3)
    save_file(wanted.state_dict(), tmp_path / "w.safetensors")
    training = {"max_epochs": 1, "ema_decay": 0.9, "init_from": str(tmp_path / "w.safetensors")}
    run(small(tmp_path / "runs", model=model, training=training, callbacks={"look": Look()})).check()

    ((weight, average),) = seen
    assert torch.equal(weight, wanted.weight)
    assert torch.equal(average, wanted.weight)


def test_weights_that_do_not_fit_are_refused_before_training(tmp_path):
    """At the place where they are written, in a dry run too."""
    save_file({"w": torch.ones(3)}, tmp_path / "w.safetensors")
    for source, message in (
        ("w.safetensors", "these are not the weights of this"),
        ("w.pt", "there is no such file"),
    ):
        with pytest.raises(ConfigError, match=rf"training.init_from: .*{source}: {message}"):
            run(small(tmp_path / "runs", training={"init_from": str(tmp_path / source)}))


def test_what_is_exported_is_read_by_the_library(tmp_path, taught):
    """Whole, with the metadata that transformers asks for, readable by whoever may read files here."""
    write_checkpoint(tmp_path / "c", {"model": taught.state_dict()})
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
    """Exit code 2, no traceback."""
    (tmp_path / "step-00000001").mkdir()
    (tmp_path / "step-00000001" / "manifest.json").write_text("{}")

    assert main(["checkpoints", "export", str(tmp_path / "step-00000001"), "--to", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"dovetail: {tmp_path}/step-00000001/manifest.json: this is no manifest")
