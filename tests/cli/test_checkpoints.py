"""Tests of `dovetail checkpoints`, on the checkpoints of real runs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dovetail.checkpoint.format import read_model
from dovetail.checkpoint.store import CheckpointStore
from dovetail.cli import main
from dovetail.main import run
from dovetail.record.run_directory import RunDirectory
from small_runs import only_run, small


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Run for four epochs, in the current folder's `runs`, and return the run's folder."""
    monkeypatch.chdir(tmp_path)
    run(small(Path("runs"), training={"max_epochs": 4}, checkpoint={"keep_best": 1, "keep_last": 3})).check()
    return only_run(Path("runs"))


def names(folder) -> list[str]:
    """Return the checkpoints that are there."""
    return sorted(path.name for path in (folder / "checkpoints").glob("step-*"))


def flip(path, place=-1):
    """Flip a bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_list_shows_each_with_its_metric(trained, capsys):
    """And which is the best, for people and as JSON; what is damaged is named."""
    assert main(["checkpoints", "list"]) == 0
    said = capsys.readouterr().out
    assert main(["checkpoints", "list", "latest", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)

    assert [one["name"] for one in told] == names(trained)
    assert all(f"{one['name']}  " in said for one in told)
    assert sum(one["is_best"] for one in told) == 1
    assert said.splitlines()[0].split()[:3] == ["CHECKPOINT", "EPOCH", "VAL_LOSS"]
    assert min(told, key=lambda one: one["metrics"]["val_loss"])["is_best"]

    (trained / "checkpoints" / names(trained)[0] / "manifest.json").unlink()
    assert main(["checkpoints", "list"]) == 0
    assert f"damaged: {trained}/checkpoints/{told[0]['name']}/manifest.json: there is no" in capsys.readouterr().err


def test_verify_names_file_and_tensor(trained, capsys):
    """Exit code 1 where something is damaged, 0 where all is whole."""
    assert main(["checkpoints", "verify"]) == 0
    assert "none damaged" in capsys.readouterr().out
    first, *others = names(trained)
    flip(trained / "checkpoints" / first / "state.safetensors")

    assert main(["checkpoints", "verify"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert main(["checkpoints", "verify", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)

    assert said[0] == f"{first}: damaged"
    assert said[1].startswith("  state.safetensors: this file is damaged: tensor '")
    assert said[2:] == [*(f"{name}: whole" for name in others), f"{len(others) + 1} checkpoints, 1 damaged"]
    (problem,) = told["checkpoints"][0]["problems"]
    assert problem["file"] == "state.safetensors"
    assert f"tensor '{problem['tensor']}'" in problem["message"]
    assert told["damaged"] == 1
    assert main(["checkpoints", "verify", str(trained / "checkpoints" / others[0])]) == 0


def test_prune_keeps_the_best_and_the_last(trained, capsys):
    """A dry run changes nothing; without numbers the run file's hold, which the run itself has kept to."""
    before = names(trained)
    best = next(one.path.name for one in CheckpointStore(trained / "checkpoints").list() if one.is_best)

    assert main(["checkpoints", "prune", "latest", "--keep-last", "1", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert names(trained) == before
    assert main(["checkpoints", "prune"]) == 0
    assert names(trained) == before
    capsys.readouterr()
    assert main(["checkpoints", "prune", "latest", "--keep-last", "1", "--keep-best", "1"]) == 0
    *_, said = capsys.readouterr().out.splitlines()

    assert said == f"{len(told['kept'])} kept: {', '.join(sorted(told['kept']))}"
    assert names(trained) == sorted({best, before[-1]}) == sorted(told["kept"])
    assert sorted(told["removed"]) == sorted(set(before) - {best, before[-1]})
    assert [one.path.name for one in CheckpointStore(trained / "checkpoints").history() if not one.kept]


def test_a_folder_begun_anew_is_pruned_as_it_was_told(tmp_path, capsys):
    """The newest are those saved last, in a dry run, in the list, and when they are removed."""
    manager = CheckpointStore(tmp_path, keep_best=0, keep_last=9)
    for step in (7, 8, 1, 2):
        manager.save(step=step, epoch=step, metrics={}, state={"model": {"w": torch.ones(2)}})
    prune = ["checkpoints", "prune", str(tmp_path), "--keep-best", "0", "--keep-last", "2", "--json"]

    assert main(["checkpoints", "list", str(tmp_path), "--json"]) == 0
    assert [one["step"] for one in json.loads(capsys.readouterr().out)] == [7, 8, 1, 2]
    assert main([*prune, "--dry-run"]) == 0
    told = json.loads(capsys.readouterr().out)["removed"]
    assert main(prune) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == told == ["step-00000007", "step-00000008"]


def test_prune_leaves_a_run_alone_that_is_under_way(trained, capsys):
    """Another process would find its checkpoints gone."""
    before = names(trained)
    arguments = ["checkpoints", "prune", str(trained), "--keep-last", "1"]
    code = f"from dovetail.cli import main; raise SystemExit(main({arguments!r}))"
    with RunDirectory(trained):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "is using this run" in done.stderr
    assert names(trained) == before


def test_export_writes_the_models_weights(trained, capsys, tmp_path):
    """Of the best checkpoint unless another is named, to a file or into a folder, and never over another file."""
    best = next(one.path for one in CheckpointStore(trained / "checkpoints").list() if one.is_best)

    assert main(["checkpoints", "export", "latest", "--to", "weights/model.safetensors"]) == 0
    assert main(["checkpoints", "export", "--checkpoint", "last", "--to", "weights", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.partition("\n")[2])
    last = trained / "checkpoints" / names(trained)[-1]

    for checkpoint, path in ((best, Path("weights/model.safetensors")), (last, Path(told["path"]))):
        assert {name: one.tolist() for name, one in load_file(path).items()} == {
            name: one.tolist() for name, one in read_model(checkpoint).items()
        }
    assert told["path"] == f"weights/run-{last.name}.safetensors"
    assert main(["checkpoints", "export", "--to", "model.pt"]) == 2
    assert "weights are written as safetensors, such as model.safetensors" in capsys.readouterr().err
    assert main(["checkpoints", "export", "--to", "weights/model.safetensors"]) == 2
    assert "is there already; --force replaces it" in capsys.readouterr().err
    assert main(["checkpoints", "export", "--to", "weights/model.safetensors", "--force"]) == 0


def test_export_says_how_the_file_is_named(trained, capsys):
    """Where a file is given with -o, which is the folder of all runs here and the file to write in many other tools."""
    assert main(["checkpoints", "export", "-o", "model.safetensors"]) == 2
    assert "--to model.safetensors" in capsys.readouterr().err


def test_export_refuses_what_is_damaged(trained, capsys):
    """And writes nothing."""
    for name in names(trained):
        flip(trained / "checkpoints" / name / "model.safetensors")

    assert main(["checkpoints", "export", "--to", "model.safetensors"]) == 2
    assert "this file is damaged: tensor '" in capsys.readouterr().err
    assert not Path("model.safetensors").exists()


def test_tied_weights_are_exported_under_both_names(tmp_path, capsys):
    """From a folder of checkpoints that no run has made; other programs know nothing of our views."""
    weight = torch.arange(6.0).reshape(2, 3)
    manager = CheckpointStore(tmp_path / "own")
    manager.save(3, 1, {}, {"model": {"encoder": weight, "decoder": weight.T, "extra": {"note": 1}}})

    assert main(["checkpoints", "export", str(tmp_path / "own"), "--to", str(tmp_path / "a.safetensors")]) == 0
    found = load_file(tmp_path / "a.safetensors")

    assert torch.equal(found["encoder"], weight)
    assert torch.equal(found["decoder"], weight.T)
    assert "left out, being no tensors: extra" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["list", "nothing"], "there is no run 'nothing'"),
        (["export", "--checkpoint", "step-9"], "there is no checkpoint 'step-9'"),
        (["prune", "--keep-last", "0"], "0 is not in the range x>=1"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(trained, capsys, arguments, message):
    """With exit code 2."""
    assert main(["checkpoints", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_run_without_checkpoints(tmp_path, capsys):
    """Is no error to list or to verify, but there is nothing to export."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")

    assert main(["checkpoints", "list", str(tmp_path / "run")]) == 0
    assert "there are no checkpoints in" in capsys.readouterr().out
    assert main(["checkpoints", "verify", str(tmp_path / "run")]) == 0
    assert main(["checkpoints", "export", str(tmp_path / "run")]) == 2


def test_checkpoints_elsewhere_are_found(tmp_path, monkeypatch, capsys):
    """In the folder that paths.models names."""
    monkeypatch.chdir(tmp_path)
    run(small(Path("runs"), paths={"output": "runs", "models": "kept"})).check()

    assert main(["checkpoints", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(one["path"]).parent for one in found] == [Path("kept/run") / only_run(Path("runs")).name] * 2


@pytest.mark.slow
def test_listing_and_verifying_import_no_torch(trained):
    """They start as quickly as the other commands that read records."""
    for command in ("list", "verify", "prune"):
        code = f"""
import sys
sys.modules["torch"] = None
from dovetail.cli import main
sys.exit(main(["checkpoints", "{command}"]))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_what_a_run_removes_meanwhile_is_not_damaged(tmp_path, capsys):
    """Verifying and listing while checkpoints come and go tell of none that was there and is not any more."""
    manager = CheckpointStore(tmp_path, keep_best=0, keep_last=3)

    def train() -> None:
        for step in range(1, 20):
            manager.save(step, 1, {}, {"model": {"weights": torch.full((300_000,), float(step))}})

    manager.save(0, 1, {}, {"model": {}})
    training = threading.Thread(target=train)
    training.start()
    codes = []
    while training.is_alive():
        codes.append(main(["checkpoints", "verify", str(tmp_path)]))
        codes.append(main(["checkpoints", "list", str(tmp_path)]))
    training.join()
    said = capsys.readouterr()

    assert set(codes) == {0}
    assert " damaged" not in said.err + said.out.replace("none damaged", "")
