"""`dovetail checkpoints`, on the checkpoints of real runs."""

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
    """Train for four epochs, with `runs` in the current folder, and return the run's folder."""
    monkeypatch.chdir(tmp_path)
    run(small(Path("runs"), training={"max_epochs": 4}, checkpoint={"keep_best": 1, "keep_last": 3})).check()
    return only_run(Path("runs"))


def names(folder) -> list[str]:
    """Return the names of the checkpoints."""
    return sorted(path.name for path in (folder / "checkpoints").glob("step-*"))


def flip(path, place=-1):
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_list_shows_each_checkpoint_with_its_metric(trained, capsys):
    """The list marks the best one, as text and as JSON, and names damaged ones."""
    assert main(["checkpoints", "list"]) == 0
    output = capsys.readouterr().out
    assert main(["checkpoints", "list", "latest", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)

    assert [row["name"] for row in listed] == names(trained)
    assert all(f"{row['name']}  " in output for row in listed)
    assert sum(row["is_best"] for row in listed) == 1
    assert output.splitlines()[0].split()[:3] == ["CHECKPOINT", "EPOCH", "VAL_LOSS"]
    assert min(listed, key=lambda row: row["metrics"]["val_loss"])["is_best"]

    (trained / "checkpoints" / names(trained)[0] / "manifest.json").unlink()
    assert main(["checkpoints", "list"]) == 0
    assert f"damaged: {trained}/checkpoints/{listed[0]['name']}/manifest.json: there is no" in capsys.readouterr().err


def test_verify_names_file_and_tensor(trained, capsys):
    """The exit code is 1 if a checkpoint is damaged, else 0."""
    assert main(["checkpoints", "verify"]) == 0
    assert "none damaged" in capsys.readouterr().out
    first, *others = names(trained)
    flip(trained / "checkpoints" / first / "state.safetensors")

    assert main(["checkpoints", "verify"]) == 1
    output = capsys.readouterr().out.splitlines()
    assert main(["checkpoints", "verify", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)

    assert output[0] == f"{first}: damaged"
    assert output[1].startswith("  state.safetensors: this file is damaged: tensor '")
    assert output[2:] == [*(f"{name}: intact" for name in others), f"{len(others) + 1} checkpoints, 1 damaged"]
    (problem,) = document["checkpoints"][0]["problems"]
    assert problem["file"] == "state.safetensors"
    assert f"tensor '{problem['tensor']}'" in problem["message"]
    assert document["damaged"] == 1
    assert main(["checkpoints", "verify", str(trained / "checkpoints" / others[0])]) == 0


def test_prune_keeps_the_best_and_the_last(trained, capsys):
    """A dry run removes nothing; without options, the numbers of the run file apply, as they did during the run."""
    before = names(trained)
    best = next(saved.path.name for saved in CheckpointStore(trained / "checkpoints").list() if saved.is_best)

    assert main(["checkpoints", "prune", "latest", "--keep-last", "1", "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert names(trained) == before
    assert main(["checkpoints", "prune"]) == 0
    assert names(trained) == before
    capsys.readouterr()
    assert main(["checkpoints", "prune", "latest", "--keep-last", "1", "--keep-best", "1"]) == 0
    *_, output = capsys.readouterr().out.splitlines()

    assert output == f"{len(document['kept'])} kept: {', '.join(sorted(document['kept']))}"
    assert names(trained) == sorted({best, before[-1]}) == sorted(document["kept"])
    assert sorted(document["removed"]) == sorted(set(before) - {best, before[-1]})
    assert [saved.path.name for saved in CheckpointStore(trained / "checkpoints").history() if not saved.kept]


def test_pruning_follows_the_order_of_saving(tmp_path, capsys):
    """If a folder was used again from step 1, the newest checkpoints are the last saved, not those with most steps."""
    manager = CheckpointStore(tmp_path, keep_best=0, keep_last=9)
    for step in (7, 8, 1, 2):
        manager.save(step=step, epoch=step, metrics={}, state={"model": {"w": torch.ones(2)}})
    prune = ["checkpoints", "prune", str(tmp_path), "--keep-best", "0", "--keep-last", "2", "--json"]

    assert main(["checkpoints", "list", str(tmp_path), "--json"]) == 0
    assert [row["step"] for row in json.loads(capsys.readouterr().out)] == [7, 8, 1, 2]
    assert main([*prune, "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out)["removed"]
    assert main(prune) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == planned == ["step-00000007", "step-00000008"]


def test_prune_refuses_a_run_that_is_training(trained, capsys):
    """The run's lock keeps its checkpoints."""
    before = names(trained)
    arguments = ["checkpoints", "prune", str(trained), "--keep-last", "1"]
    code = f"from dovetail.cli import main; raise SystemExit(main({arguments!r}))"
    with RunDirectory(trained):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "is using this run" in done.stderr
    assert names(trained) == before


def test_export_writes_the_weights_of_a_checkpoint(trained, capsys, tmp_path):
    """It exports the best checkpoint or a named one, to a file or a folder, and never overwrites a file by default."""
    best = next(saved.path for saved in CheckpointStore(trained / "checkpoints").list() if saved.is_best)

    assert main(["checkpoints", "export", "latest", "--to", "weights/model.safetensors"]) == 0
    assert main(["checkpoints", "export", "--checkpoint", "last", "--to", "weights", "--json"]) == 0
    document = json.loads(capsys.readouterr().out.partition("\n")[2])
    last = trained / "checkpoints" / names(trained)[-1]

    for checkpoint, path in ((best, Path("weights/model.safetensors")), (last, Path(document["path"]))):
        assert {name: tensor.tolist() for name, tensor in load_file(path).items()} == {
            name: tensor.tolist() for name, tensor in read_model(checkpoint).items()
        }
    assert document["path"] == f"weights/run-{last.name}.safetensors"
    assert main(["checkpoints", "export", "--to", "model.pt"]) == 2
    assert "weights can only be written as safetensors, such as model.safetensors" in capsys.readouterr().err
    assert main(["checkpoints", "export", "--to", "weights/model.safetensors"]) == 2
    assert "already exists; use --force to replace it" in capsys.readouterr().err
    assert main(["checkpoints", "export", "--to", "weights/model.safetensors", "--force"]) == 0


def test_export_explains_output(trained, capsys):
    """In many tools, -o names the file to write; here it is the folder of all runs, so the error names --to."""
    assert main(["checkpoints", "export", "-o", "model.safetensors"]) == 2
    assert "--to model.safetensors" in capsys.readouterr().err


def test_export_refuses_a_damaged_checkpoint(trained, capsys):
    """The error names the tensor, and no file is written."""
    for name in names(trained):
        flip(trained / "checkpoints" / name / "model.safetensors")

    assert main(["checkpoints", "export", "--to", "model.safetensors"]) == 2
    assert "this file is damaged: tensor '" in capsys.readouterr().err
    assert not Path("model.safetensors").exists()


def test_tied_weights_are_exported_under_both_names(tmp_path, capsys):
    """Both tensors are written in full, since other programs do not know our aliases; no run is needed."""
    weight = torch.arange(6.0).reshape(2, 3)
    manager = CheckpointStore(tmp_path / "own")
    manager.save(3, 1, {}, {"model": {"encoder": weight, "decoder": weight.T, "extra": {"note": 1}}})

    assert main(["checkpoints", "export", str(tmp_path / "own"), "--to", str(tmp_path / "a.safetensors")]) == 0
    found = load_file(tmp_path / "a.safetensors")

    assert torch.equal(found["encoder"], weight)
    assert torch.equal(found["decoder"], weight.T)
    assert "skipped, not tensors: extra" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["list", "nothing"], "there is no run 'nothing'"),
        (["export", "--checkpoint", "step-9"], "there is no checkpoint 'step-9'"),
        (["prune", "--keep-last", "0"], "0 is not in the range x>=1"),
    ],
)
def test_a_missing_run_or_checkpoint_is_bad_input(trained, capsys, arguments, message):
    """The error names what is missing or out of range, with exit code 2."""
    assert main(["checkpoints", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_run_may_have_no_checkpoints(tmp_path, capsys):
    """Listing and verifying succeed; exporting fails."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")

    assert main(["checkpoints", "list", str(tmp_path / "run")]) == 0
    assert "there are no checkpoints in" in capsys.readouterr().out
    assert main(["checkpoints", "verify", str(tmp_path / "run")]) == 0
    assert main(["checkpoints", "export", str(tmp_path / "run")]) == 2


def test_checkpoints_in_paths_models_are_found(tmp_path, monkeypatch, capsys):
    """Checkpoints outside the run's folder are listed too."""
    monkeypatch.chdir(tmp_path)
    run(small(Path("runs"), paths={"output": "runs", "models": "kept"})).check()

    assert main(["checkpoints", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(row["path"]).parent for row in found] == [Path("kept/run") / only_run(Path("runs")).name] * 2


@pytest.mark.slow
def test_listing_and_verifying_import_no_torch(trained):
    """list, verify and prune work without torch, so they start fast."""
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
def test_a_checkpoint_removed_meanwhile_is_not_damaged(tmp_path, capsys):
    """Verifying and listing during training report no damage when the run removes an old checkpoint."""
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
    output = capsys.readouterr()

    assert set(codes) == {0}
    assert " damaged" not in output.err + output.out.replace("none damaged", "")
