"""Saving the checkpoints of a run: in the background or not, and what a failure leaves."""

from __future__ import annotations

import json
import threading

import pytest

from dovetail.main import run
from dovetail.storage.errors import StorageError
from dovetail.storage.local import LocalStorage
from dovetail.train.errors import PartError
from small_runs import only_run, small


def test_a_part_that_cannot_return_its_state_is_named(tmp_path):
    """As if it had failed in a hook."""

    class Mute:
        def dovetail_epoch_end(self) -> None:
            """Do nothing."""

        def state_dict(self):
            raise KeyError("nothing")

        def load_state_dict(self, state) -> None:
            """Do nothing."""

    with pytest.raises(PartError, match=r"callbacks\.mute failed in state_dict: KeyError: 'nothing'"):
        run(small(tmp_path, callbacks={"mute": Mute()})).check()


class Watcher:
    """Records the steps of saved checkpoints, and the threads of the hook calls."""

    def __init__(self) -> None:
        self.steps, self.threads = [], set()

    def dovetail_checkpoint_saved(self, run, checkpoint):
        """Record a checkpoint."""
        assert (checkpoint.path / "manifest.json").is_file()
        self.steps.append(checkpoint.step)
        self.threads.add(threading.current_thread())


def test_background_saving_does_not_change_a_run(tmp_path):
    """Weights and checkpoints are the same, and the training thread calls the hook once a checkpoint is on the disk."""
    outcomes, watchers = {}, {}
    for background in (False, True):
        watchers[background] = Watcher()
        config = small(
            tmp_path / str(background),
            checkpoint={"every": {"steps": 3}, "background": background},
            callbacks={"watcher": watchers[background]},
        )
        outcomes[background] = run(config).check()

    foreground, background = (only_run(tmp_path / name) / "checkpoints" for name in ("False", "True"))
    assert watchers[True].steps == watchers[False].steps
    assert watchers[True].threads == {threading.main_thread()}
    assert outcomes[True].test_metrics == outcomes[False].test_metrics
    weights, expected = (
        {path.parent.name: path.read_bytes() for path in folder.glob("step-*/model.safetensors")}
        for folder in (background, foreground)
    )
    assert weights == expected
    assert weights


class Vandal:
    """Replaces the checkpoints' folder by a file."""

    def dovetail_batch_end(self, run, step):
        """Replace it after the second update."""
        if step == 2:
            run.checkpoints.directory.rename(run.checkpoints.directory.with_name("away"))
            run.checkpoints.directory.write_text("in the way")


@pytest.mark.parametrize("background", [False, True])
def test_a_run_that_cannot_save_fails(tmp_path, background):
    """With background saving, at the next save at the latest."""
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
    """Fails after the third update, while its checkpoint is being written."""

    def dovetail_batch_start(self, step):
        """Fail before the fourth update."""
        if step == 3:
            raise RuntimeError("broken")


def test_a_failing_run_still_reports_its_last_checkpoint(tmp_path):
    """Hooks, the run's record and the copier all get the checkpoint that a resumed run starts from."""
    watcher = Watcher()
    config = small(
        tmp_path / "runs",
        checkpoint={"every": {"steps": 1}, "background": True, "copy_to": LocalStorage(path=tmp_path / "storage")},
        callbacks={"watcher": watcher, "failing": Failing()},
    )

    outcome = run(config)
    folder = only_run(tmp_path / "runs")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))

    assert outcome.status == "failed"
    assert "callbacks.failing failed in dovetail_batch_start" in outcome.reason
    assert watcher.steps == [1, 2, 3]
    assert record["checkpoint"] == "checkpoints/step-00000003"
    assert (tmp_path / "storage" / "run" / folder.name / "step-00000003" / "manifest.json").is_file()


class FailingListener(Failing):
    """Fails, and fails again in the hook for the saved checkpoint."""

    def dovetail_checkpoint_saved(self, checkpoint):
        """Fail on the third checkpoint."""
        if checkpoint.step == 3:
            raise RuntimeError("broken too")


def test_a_failing_checkpoint_hook_does_not_hide_an_earlier_failure(tmp_path):
    """The run reports the first error, and other parts' hooks are still called."""
    watcher = Watcher()
    config = small(
        tmp_path,
        checkpoint={"every": {"steps": 1}, "background": True},
        callbacks={"failing": FailingListener(), "watcher": watcher},
    )

    outcome = run(config)

    assert "failed in dovetail_batch_start" in outcome.reason
    assert watcher.steps == [1, 2, 3]
