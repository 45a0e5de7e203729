"""Tests of saving in the background: the same bytes, of one step, and no error is lost."""

from __future__ import annotations

import json
import threading
from functools import partial

import pytest
import torch

from dovetail.checkpoint.format import encode, read_checkpoint
from dovetail.checkpoint.manager import CheckpointManager
from dovetail.checkpoint.manifest import FILES
from dovetail.checkpoint.saver import HostBuffers, Saver
from dovetail.main import run
from dovetail.storage.errors import StorageError
from dovetail.storage.local import LocalStorage
from small_runs import only_run, small


def training_state():
    """Return a model's and a fused optimizer's state after a step, tied and strided tensors among it."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.LazyLinear(5))
    model(torch.randn(2, 3, 8, 8))
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    whole = torch.arange(100.0)
    views = {"whole": whole, "part": whole[10:20], "none": torch.empty(0), "flag": torch.tensor(data=True)}
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "views": views, "n": 3}


def test_the_bytes_are_those_of_a_save_at_once(tmp_path):
    """File by file; only the time in the manifest may differ."""
    state = training_state()
    manager = CheckpointManager(tmp_path / "at once")
    with Saver(manager) as saver:
        saver.save(state, partial(manager.save, 7, 1, {"val_loss": 0.5}))
        (at_once,) = saver.saved()
    manager = CheckpointManager(tmp_path / "later")
    with Saver(manager, background=True) as saver:
        for step in (6, 7):  # the second uses the first one's memory
            saver.save(state, partial(manager.save, step, 1, {"val_loss": 0.5}))
    (_, later) = saver.saved()

    for name in FILES:
        assert (at_once.checkpoint.path / name).read_bytes() == (later.checkpoint.path / name).read_bytes()
    one, other = (json.loads((saved.checkpoint.path / "manifest.json").read_bytes()) for saved in (at_once, later))
    assert one["files"] == other["files"]
    assert one["info"].keys() == other["info"].keys()
    assert later.checkpoint.is_best is False
    assert later.seconds > 0


def test_a_checkpoint_is_of_one_step(tmp_path):
    """Whatever changes while it is written: tensors in place, numbers."""
    weights = [torch.zeros(1_000_003) for _ in range(3)]
    state = {"model": {f"w{number}": one for number, one in enumerate(weights)}, "steps": [0], "rows": {}}
    manager = CheckpointManager(tmp_path, keep_last=99)
    with Saver(manager, background=True) as saver:
        for step in range(1, 6):
            for one in weights:
                one.fill_(step)
            state["steps"][0] = step
            saver.save(state, partial(manager.save, step, 1, {"val_loss": float(step)}))
            for one in weights:
                one.fill_(-1)
            state["steps"][0] = -1

    for saved in saver.saved():
        step, found = saved.checkpoint.step, read_checkpoint(saved.checkpoint.path)
        assert found["steps"] == [step]
        assert saved.checkpoint.metrics == {"val_loss": step}
        assert all(torch.equal(one, torch.full_like(one, step)) for one in found["model"].values())


def test_who_looks_while_a_checkpoint_is_written_finds_it(tmp_path):
    """Listing waits, so that what a run goes back to does not depend on the speed of the disk."""
    manager = CheckpointManager(tmp_path)
    with Saver(manager, background=True) as saver:
        for step in range(1, 6):
            state = {"model": {"w": torch.ones(500_000)}}
            saver.save(state, partial(manager.save, step, 1, {"val_loss": 1 / step}))

            assert manager.latest().step == manager.best().step == step


def test_memory_is_used_again():
    """As long as it is large enough; each tensor begins at a line of the cache."""
    buffers = HostBuffers()
    states = [{"model": {"a": torch.full((5,), float(fill)), "b": torch.full((7, 3), fill)}} for fill in (1, 2)]

    first, second = (buffers.copy(encode(state)).tensors["model"] for state in states)
    larger = buffers.copy(encode({"model": {"a": torch.ones(1000)}})).tensors["model"]
    again = buffers.copy(encode(states[0])).tensors["model"]

    assert first["a"].data_ptr() == second["a"].data_ptr()
    assert first["a"].tolist() == [2.0] * 5
    assert again["a"].data_ptr() == larger["a"].data_ptr()
    assert {(one.data_ptr() - second["a"].data_ptr()) % 64 for one in second.values()} == {0}


def test_an_error_is_told_once_and_by_the_next_call(tmp_path):
    """And does not stop what comes after it."""
    manager = CheckpointManager(tmp_path / "checkpoints")
    saver = Saver(manager, background=True)
    manager.directory.rmdir()
    manager.directory.write_text("in the way")
    saver.save({"model": {}}, partial(manager.save, 1, 1, {}))
    with pytest.raises(StorageError, match="checkpoints: cannot list this"):
        saver.wait()
    saver.save({"model": {}}, partial(manager.save, 2, 1, {}))
    with pytest.raises(StorageError, match="checkpoints: cannot list this"):
        saver.save({"model": {}}, partial(manager.save, 3, 1, {}))
    manager.directory.unlink()
    manager.directory.mkdir()
    saver.save({"model": {}}, partial(manager.save, 4, 1, {}))
    saver.wait()

    assert [saved.checkpoint.step for saved in saver.saved()] == [4]
    assert not saver.writing


def test_the_end_waits_and_tells_of_an_error(tmp_path):
    """Unless another error is under way, which stays the one that is seen."""
    manager = CheckpointManager(tmp_path / "checkpoints")
    manager.directory.rmdir()
    manager.directory.write_text("in the way")

    with (
        pytest.raises(StorageError, match="checkpoints: cannot list this"),
        Saver(manager, background=True) as saver,
    ):
        saver.save({"model": {}}, partial(manager.save, 1, 1, {}))
    with Saver(manager, background=True) as saver:
        saver.save({"model": {}}, partial(manager.save, 1, 1, {}))
        with pytest.raises(ZeroDivisionError), saver:
            raise ZeroDivisionError


class Watcher:
    """Notes what the hook of saved checkpoints is told, and in which thread."""

    def __init__(self) -> None:
        self.steps, self.threads = [], set()

    def dovetail_checkpoint_saved(self, run, checkpoint):
        """Note a checkpoint."""
        assert (checkpoint.path / "manifest.json").is_file()
        self.steps.append(checkpoint.step)
        self.threads.add(threading.current_thread())


def test_a_run_that_saves_in_the_background_is_the_same_run(tmp_path):
    """The same weights, the same checkpoints; parts hear of each when it is on the disk, in the training's thread."""
    outcomes, watchers = {}, {}
    for background in (False, True):
        watchers[background] = Watcher()
        config = small(
            tmp_path / str(background),
            checkpoint={"every": {"steps": 3}, "background": background},
            callbacks={"watcher": watchers[background]},
        )
        outcomes[background] = run(config).check()

    at_once, later = (only_run(tmp_path / name) / "checkpoints" for name in ("False", "True"))
    assert watchers[True].steps == watchers[False].steps
    assert watchers[True].threads == {threading.main_thread()}
    assert outcomes[True].test_metrics == outcomes[False].test_metrics
    assert [path.name for path in sorted(later.glob("step-*"))] == [
        path.name for path in sorted(at_once.glob("step-*"))
    ]
    for path in later.glob("step-*"):
        name = "model.safetensors"
        assert (path / name).read_bytes() == (at_once / path.name / name).read_bytes()


class Vandal:
    """Puts a file in the place of the folder of checkpoints."""

    def dovetail_batch_end(self, run, step):
        """Do so after the second update."""
        if step == 2:
            run.checkpoints.directory.rename(run.checkpoints.directory.with_name("away"))
            run.checkpoints.directory.write_text("in the way")


@pytest.mark.parametrize("background", [False, True])
def test_a_run_that_cannot_save_fails_at_once(tmp_path, background):
    """In the background: by the time of the next save."""
    config = small(
        tmp_path,
        training={"max_epochs": 9},
        checkpoint={"every": {"steps": 3}, "background": background},
        callbacks={"vandal": Vandal()},
    )

    outcome = run(config)

    assert outcome.status == "failed"
    assert isinstance(outcome.error, StorageError)
    assert "checkpoints: cannot list this" in outcome.reason


class Failing:
    """Fails right after the third update, whose checkpoint is then being written."""

    def dovetail_batch_start(self, step):
        """Fail when it is the fourth's turn."""
        if step == 3:
            raise RuntimeError("broken")


def test_a_failing_run_still_tells_of_the_checkpoint_it_was_saving(tmp_path):
    """Parts, the record and the second copy: all hear of the newest, from which the run is resumed."""
    watcher = Watcher()
    config = small(
        tmp_path / "runs",
        checkpoint={"every": {"steps": 1}, "background": True, "copy_to": LocalStorage(path=tmp_path / "store")},
        callbacks={"watcher": watcher, "failing": Failing()},
    )

    outcome = run(config)
    folder = only_run(tmp_path / "runs")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))

    assert outcome.status == "failed"
    assert "callbacks.failing failed in dovetail_batch_start" in outcome.reason
    assert watcher.steps == [1, 2, 3]
    assert record["checkpoint"] == "checkpoints/step-00000003"
    assert (tmp_path / "store" / "run" / folder.name / "step-00000003" / "manifest.json").is_file()


class FailingListener(Failing):
    """Fails, and once more when it is told of the checkpoint."""

    def dovetail_checkpoint_saved(self, checkpoint):
        """Fail."""
        if checkpoint.step == 3:
            raise RuntimeError("broken too")


def test_who_fails_at_the_news_of_a_checkpoint_hides_no_earlier_failure(tmp_path):
    """The run's error is the first one; the other parts are told all the same."""
    watcher = Watcher()
    config = small(
        tmp_path,
        checkpoint={"every": {"steps": 1}, "background": True},
        callbacks={"failing": FailingListener(), "watcher": watcher},
    )

    outcome = run(config)

    assert "failed in dovetail_batch_start" in outcome.reason
    assert watcher.steps == [1, 2, 3]
