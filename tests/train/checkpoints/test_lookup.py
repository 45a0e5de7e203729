"""Finding the checkpoints of a run: by path, by name, the best and the last."""

from __future__ import annotations

import pytest

from dovetail.main import run
from dovetail.record.runs import RunLookupError
from dovetail.train.checkpoints.lookup import find_saved
from small_runs import only_run, small


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """Return a folder of runs with one run of three epochs."""
    folder = tmp_path_factory.mktemp("runs")
    checkpoint = {"monitor": "val_accuracy", "mode": "min", "keep_last": 3}
    run(small(folder, training={"max_epochs": 3, "test": False}, checkpoint=checkpoint)).check()
    return folder


def test_a_run_is_found_by_path_and_by_name(output):
    """Both give its checkpoints in order, ranked as its own settings say."""
    folder = only_run(output)
    for reference in (str(folder), "latest", folder.name):
        saved = find_saved(reference, output)

        assert saved.run.samefile(folder)
        assert (saved.retention.monitor, saved.retention.mode, saved.retention.keep_last) == ("val_accuracy", "min", 3)
        assert [checkpoint.step for checkpoint in saved.list(pytest.fail)] == [7, 14, 21]


def test_which_checkpoint(output):
    """``best``, ``last``, or a checkpoint's own name."""
    saved = find_saved("latest", output)

    assert saved.choose("last").name == "step-00000021"
    best = [checkpoint for checkpoint in saved.list(pytest.fail) if checkpoint.is_best]
    assert [saved.choose("best")] == [checkpoint.path for checkpoint in best]
    assert saved.choose("step-00000007").name == "step-00000007"
    with pytest.raises(RunLookupError, match=r"no checkpoint 'step-9' in .*; there is step-00000007, step-00000014"):
        saved.choose("step-9")


def test_a_single_checkpoint_stands_for_itself(output):
    """Whichever is asked for, with the ranking of its run."""
    path = only_run(output) / "checkpoints" / "step-00000014"
    saved = find_saved(str(path), output)

    assert saved.folders() == [path]
    assert saved.choose("best") == saved.choose("last") == path
    assert [checkpoint.step for checkpoint in saved.list(pytest.fail)] == [14]
    assert saved.retention.monitor == "val_accuracy"


def test_checkpoints_without_a_run(output, tmp_path):
    """A folder of checkpoints that no run made is ranked by the defaults."""
    moved = tmp_path / "kept"
    moved.symlink_to(only_run(output) / "checkpoints")
    saved = find_saved(str(moved), output)

    assert saved.run is None
    assert saved.retention.monitor == "val_loss"
    assert len(saved.folders()) == 3
    assert find_saved(str(moved / "step-00000007"), output).folders() == [moved / "step-00000007"]


def test_a_missing_run_or_checkpoint_is_an_error(tmp_path):
    """The message says which of the two is missing."""
    with pytest.raises(RunLookupError):
        find_saved("latest", tmp_path)
    config = small(tmp_path, training={"max_epochs": 1, "test": False})
    folder = run(config).check().folder
    for checkpoint in (folder / "checkpoints").glob("step-*"):
        checkpoint.rename(tmp_path / checkpoint.name)
    saved = find_saved("latest", tmp_path)

    assert saved.list(pytest.fail) == []
    with pytest.raises(RunLookupError, match="there are no checkpoints in"):
        saved.choose("last")
