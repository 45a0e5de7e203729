"""Tests of the checkpoint manager: the best and the newest are kept, and always whole."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.format import read_checkpoint, read_model
from dovetail.checkpoint.manager import CheckpointManager
from dovetail.storage.atomic import PREFIX
from dovetail.storage.errors import StorageError
from small_disks import small_disk


def save(manager, step, value=None, **metrics):
    """Save a small checkpoint with a monitored value."""
    if value is not None:
        metrics[manager.monitor] = value
    state = {"model": {"w": torch.full((3,), float(step))}, "step": step}
    return manager.save(step=step, epoch=step // 10 + 1, metrics=metrics, state=state)


def steps(checkpoints) -> list[int]:
    """Return the steps of checkpoints."""
    return [one.step for one in checkpoints]


def test_a_checkpoint_is_saved_and_found(tmp_path):
    """With what is known of it."""
    manager = CheckpointManager(tmp_path / "checkpoints")

    saved = save(manager, 1200, 0.5, val_accuracy=0.9)

    assert saved.path == tmp_path / "checkpoints" / "step-00001200"
    assert sorted(path.name for path in saved.path.iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "state.json",
        "state.safetensors",
    ]
    assert (saved.step, saved.epoch, saved.is_best, saved.kept) == (1200, 121, True, True)
    assert saved.metrics == {"val_loss": 0.5, "val_accuracy": 0.9}
    assert 0 < saved.model_size_mb < 0.001
    assert saved.state_size_mb > 0
    assert saved.timestamp.endswith("+00:00")
    assert manager.list() == [saved]
    assert manager.latest() == manager.best() == saved
    assert read_checkpoint(saved.path)["step"] == 1200


def test_nothing_saved_yet(tmp_path):
    """Is no error."""
    manager = CheckpointManager(tmp_path)

    assert (manager.list(), manager.latest(), manager.best(), manager.ranked(), manager.history()) == (
        [],
        None,
        None,
        [],
        [],
    )


def test_the_best_and_the_newest_are_kept(tmp_path):
    """And no others."""
    manager = CheckpointManager(tmp_path, keep_best=2, keep_last=2)

    for step, value in enumerate([0.9, 0.3, 0.5, 0.2, 0.8, 0.7, 0.6]):
        save(manager, step, value)

    assert steps(manager.list()) == [1, 3, 5, 6]
    assert steps(manager.ranked()) == [3, 1, 6, 5]
    assert manager.best().step == 3
    assert manager.latest().step == 6


@pytest.mark.slow
@settings(max_examples=15)
@given(
    st.lists(st.one_of(st.none(), st.just(math.nan), st.just(-math.inf), st.integers(0, 4)), min_size=1, max_size=8),
    st.integers(0, 2),
    st.integers(1, 3),
    st.sampled_from(["min", "max"]),
)
def test_retention_against_a_plain_account_of_it(tmp_path_factory, values, keep_best, keep_last, mode):
    """Whatever the values: missing, NaN, infinite, equal."""
    manager = CheckpointManager(tmp_path_factory.mktemp("manager"), keep_best=keep_best, keep_last=keep_last, mode=mode)
    sign = 1 if mode == "min" else -1
    there: list[int] = []
    best_so_far = math.inf
    for step, value in enumerate(values):
        saved = save(manager, step, value)
        counts = value is not None and math.isfinite(value)
        assert saved.is_best == (counts and sign * value < best_so_far)
        if saved.is_best:
            best_so_far = sign * value
        there.append(step)
        ranked = sorted(
            (one for one in there if (v := values[one]) is not None and math.isfinite(v)),
            key=lambda one: sign * values[one],
        )
        there = [one for one in there if one in there[-keep_last:] or one in ranked[:keep_best]]

        assert steps(manager.list()) == there

    assert steps(manager.history()) == list(range(len(values)))
    assert sum(one.is_best for one in manager.history()) == (best_so_far < math.inf)
    assert [one.kept for one in manager.history()] == [step in there for step in range(len(values))]


def test_a_nan_is_never_the_best(tmp_path):
    """Not even the first, nor where more is better."""
    for mode in ("min", "max"):
        manager = CheckpointManager(tmp_path / mode, mode=mode)
        assert not save(manager, 1, math.nan).is_best
        assert manager.best() is None
        assert save(manager, 2, 0.5).is_best
        assert not save(manager, 3, math.inf if mode == "max" else -math.inf).is_best
        assert manager.best().step == 2


def test_of_equals_the_oldest_is_the_best(tmp_path):
    """A later one must be better."""
    manager = CheckpointManager(tmp_path)

    assert [save(manager, step, 0.5).is_best for step in (1, 2)] == [True, False]
    assert manager.best().step == 1


def test_is_best_is_so_far_when_saved_and_of_all_in_the_history(tmp_path):
    """Parity E1: the return value says one, the history the other."""
    manager = CheckpointManager(tmp_path)

    assert [save(manager, step, value).is_best for step, value in ((1, 0.6), (2, 0.4), (3, 0.5))] == [True, True, False]
    assert [one.is_best for one in manager.history()] == [False, True, False]


def test_a_step_may_be_saved_twice(tmp_path):
    """The second has a folder of its own: nothing is overwritten."""
    manager = CheckpointManager(tmp_path)
    save(manager, 5, 0.5)

    again = save(manager, 5)

    assert again.path.name == "step-00000005-2"
    assert manager.latest().path == again.path
    assert manager.best().path.name == "step-00000005"
    assert steps(manager.list()) == [5, 5]


def test_the_newest_is_the_one_saved_last(tmp_path):
    """Who begins anew in a folder counts from 1 again: what was just saved is kept, whatever its number."""
    for step in range(1, 6):
        save(CheckpointManager(tmp_path, keep_best=0, keep_last=2), step, 0.5)
    manager = CheckpointManager(tmp_path, keep_best=0, keep_last=2)

    again = [save(manager, step, 0.9) for step in (1, 2)]

    assert [one.path.name for one in manager.list()] == ["step-00000001-2", "step-00000002-2"]
    assert manager.latest().path == again[-1].path
    assert steps(manager.history()) == [1, 2, 3, 4, 5, 1, 2]
    assert steps(CheckpointManager(tmp_path).list()) == [1, 2]


def test_steps_sort_as_numbers(tmp_path):
    """Beyond eight digits too, where no history tells the order."""
    manager = CheckpointManager(tmp_path)
    for step in (999_999_999, 1, 100_000_000_000):
        save(manager, step)
    (tmp_path / "history.json").unlink()
    manager = CheckpointManager(tmp_path)

    assert steps(manager.list()) == [1, 999_999_999, 100_000_000_000]


def test_a_new_manager_knows_what_was_saved(tmp_path):
    """After a restart; the history comes from its file, and from the checkpoints where that is damaged."""
    first = CheckpointManager(tmp_path, keep_best=1, keep_last=1)
    for step, value in ((1, 0.2), (2, 0.5), (3, math.nan)):
        save(first, step, value)

    second = CheckpointManager(tmp_path, keep_best=1, keep_last=1)

    assert steps(second.history()) == [1, 2, 3]
    assert [one.kept for one in second.history()] == [True, False, True]
    assert math.isnan(second.history()[2].metrics["val_loss"])
    assert not save(second, 4, 0.3).is_best
    (tmp_path / "history.json").write_text("[{")
    assert steps(CheckpointManager(tmp_path).history()) == [1, 4]


@pytest.mark.parametrize(
    "content", ["{}", "[1]", '[{"name": "../x"}]', '[{"name": "step-1", "metrics": {}}]', "[" * 100_000, "\ud800"]
)
def test_a_damaged_history_is_no_obstacle(tmp_path, content, caplog):
    """It begins anew."""
    save(CheckpointManager(tmp_path), 1, 0.5)
    (tmp_path / "history.json").write_bytes(content.encode("utf-8", "surrogatepass"))

    assert steps(CheckpointManager(tmp_path).history()) == [1]


def test_history_as_a_data_frame(tmp_path):
    """One row a checkpoint, one column a metric."""
    manager = CheckpointManager(tmp_path)
    assert manager.history_frame().empty
    save(manager, 10, 0.5)
    save(manager, 20, 0.4, val_accuracy=0.9)

    frame = manager.history_frame()

    assert frame["epoch"].tolist() == [2, 3]
    assert frame["val_loss"].tolist() == [0.5, 0.4]
    assert frame["is_best"].tolist() == [False, True]
    assert math.isnan(frame["val_accuracy"][0])
    assert frame["path"].tolist() == [str(tmp_path / "step-00000010"), str(tmp_path / "step-00000020")]


def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, caplog):
    """The newest that is whole is the latest; each is named once."""
    manager = CheckpointManager(tmp_path)
    for step in (1, 2, 3, 4):
        save(manager, step, 0.5)
    flipped = tmp_path / "step-00000004" / "model.safetensors"
    content = bytearray(flipped.read_bytes())
    content[-1] ^= 1
    flipped.write_bytes(content)
    (tmp_path / "step-00000003" / "manifest.json").unlink()
    (tmp_path / "step-00000009").mkdir()

    with caplog.at_level(logging.WARNING, "dovetail.checkpoint"):
        assert manager.latest().step == 2
        assert steps(manager.list()) == [1, 2, 4]
        manager.latest()

    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 3
    assert sum("step-00000004/model.safetensors: this file is damaged" in one for one in named) == 1
    assert sum("step-00000003/manifest.json: there is no manifest" in one for one in named) == 1


def test_a_damaged_checkpoint_of_a_step_does_not_stop_another(tmp_path):
    """It gets the next name."""
    manager = CheckpointManager(tmp_path)
    save(manager, 1)
    (tmp_path / "step-00000001" / "manifest.json").unlink()

    assert save(manager, 1).path.name == "step-00000001-2"


def test_other_files_are_left_alone(tmp_path):
    """What is not a checkpoint is neither listed nor removed."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "step-x").write_text("")
    (tmp_path / "step-00000001.bak").mkdir()
    manager = CheckpointManager(tmp_path, keep_best=0, keep_last=1)
    for step in (1, 2, 3):
        save(manager, step)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "history.json",
        "notes",
        "step-00000001.bak",
        "step-00000003",
        "step-x",
    ]


def test_a_checkpoint_of_other_making_is_passed_over(tmp_path, caplog):
    """Valid, but without a step in its manifest."""
    from dovetail.checkpoint.format import write_checkpoint

    write_checkpoint(tmp_path / "step-00000001", {"model": {}})

    assert CheckpointManager(tmp_path).list() == []
    assert "not saved by a manager" in caplog.text


@pytest.mark.parametrize(
    "options, message",
    [
        ({"keep_best": -1}, "keep_best must be at least 0, got -1"),
        ({"keep_last": 0}, "keep_last must be at least 1, got 0"),
        ({"mode": "auto"}, "mode must be 'min' or 'max', got 'auto'"),
    ],
)
def test_settings_that_cannot_work(tmp_path, options, message):
    """Refused before anything is made."""
    with pytest.raises(ValueError, match=message):
        CheckpointManager(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_the_defaults_are_those_documented(tmp_path):
    """Best three, last five, by the validation loss."""
    manager = CheckpointManager(tmp_path)

    assert (manager.keep_best, manager.keep_last, manager.monitor, manager.mode) == (3, 5, "val_loss", "min")


def test_leftovers_of_killed_saves_are_removed(tmp_path):
    """When a manager is made, if they are old enough; else with the first save that finds them so."""
    (tmp_path / f"{PREFIX}dead").mkdir()
    old = time.time() - 120
    os.utime(tmp_path / f"{PREFIX}dead", (old, old))
    (tmp_path / f"{PREFIX}young").mkdir()

    manager = CheckpointManager(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}young"]
    assert manager.list() == []
    manager.save(1, 1, {}, {"model": {}})
    assert (tmp_path / f"{PREFIX}young").exists()
    os.utime(tmp_path / f"{PREFIX}young", (old, old))
    manager.save(2, 1, {}, {"model": {}})
    assert not (tmp_path / f"{PREFIX}young").exists()


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    """With its path."""
    (tmp_path / "file").write_text("")

    with pytest.raises(
        StorageError, match=r"file: cannot create this: something with this name already exists"
    ):
        CheckpointManager(tmp_path / "file")


# --- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["write", "fsync", "replace", "rename"])
def test_whichever_call_fails_the_previous_checkpoint_stays(tmp_path, monkeypatch, name):
    """Reliability 2: for every N, saving, retention and history included."""
    real = getattr(os, name)
    for nth in range(1, 60):
        manager = CheckpointManager(tmp_path / str(nth), keep_best=0, keep_last=1)
        save(manager, 1)
        left = nth

        def call(*args, _real=real, **kwargs):
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return _real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, call)
            try:
                save(manager, 2)
            except StorageError as error:
                said = str(error)
            else:
                break
        assert str(tmp_path / str(nth)) in said
        again = CheckpointManager(tmp_path / str(nth), keep_best=0, keep_last=1)
        assert again.latest().step in {1, 2}
        assert save(again, 3).step == again.latest().step
    else:
        pytest.fail("the calls never ended")
    assert nth > 1


def test_a_state_that_cannot_be_kept_changes_nothing(tmp_path):
    """The checkpoints that were there still are."""
    manager = CheckpointManager(tmp_path, keep_last=1, keep_best=0)
    save(manager, 1)

    with pytest.raises(TypeError, match=r"^optimizer.hook: "):
        manager.save(2, 1, {}, {"optimizer": {"hook": print}})

    assert steps(manager.list()) == [1]
    assert steps(manager.history()) == [1]


def test_a_full_disk_prunes_nothing(tmp_path):
    """Reliability 3: old ones go only when the new one is there."""
    with small_disk(tmp_path, "1m") as disk:
        manager = CheckpointManager(disk, keep_best=0, keep_last=1)
        save(manager, 1)
        with pytest.raises(StorageError, match=r"step-00000002: .* no space left on the disk: 8 MB needed"):
            manager.save(2, 1, {}, {"model": {"w": torch.zeros(2_000_000)}})
        assert manager.latest().step == 1
        assert read_model(manager.latest().path)["w"].tolist() == [1, 1, 1]


def test_a_best_checkpoint_that_is_damaged_has_a_successor(tmp_path):
    """Reading verifies; ranked() gives the next."""
    manager = CheckpointManager(tmp_path)
    save(manager, 1, 0.1)
    save(manager, 2, 0.2)
    path = manager.best().path / "state.json"
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))

    with pytest.raises(CheckpointError, match=r"step-00000001/state.json: this file is damaged"):
        read_checkpoint(manager.best().path)
    assert read_checkpoint(manager.ranked()[1].path)["step"] == 2


def test_the_history_file_is_plain_json(tmp_path):
    """For anybody's tools; NaN, which JSON has not, is text."""
    save(CheckpointManager(tmp_path), 1, math.nan)

    (record,) = json.loads((tmp_path / "history.json").read_text(), parse_constant=pytest.fail)

    assert (record["name"], record["step"], record["metrics"]) == ("step-00000001", 1, {"val_loss": "nan"})


@pytest.mark.slow
def test_importing_the_manager_does_not_import_pandas():
    """It comes with an extra."""
    code = "import sys, dovetail.checkpoint.manager; sys.exit('pandas' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


KILLER = """
import os, random, signal, sys, time
import torch
from dovetail.checkpoint.format import read_checkpoint
from dovetail.checkpoint.manager import CheckpointManager

torch.set_num_threads(1)
random.seed(3)
path, kills = sys.argv[1], int(sys.argv[2])
step = 0
for kill in range(kills):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        manager = CheckpointManager(path, keep_best=1, keep_last=2)
        while True:
            step += 1
            state = {"model": {"w": torch.full((20_000,), float(step))}, "step": step}
            manager.save(step, 1, {"val_loss": 1 / step}, state)
            os.write(writer, step.to_bytes(8, "little"))
    os.close(writer)
    told = os.read(reader, 8)
    began = time.monotonic()
    told = os.read(reader, 8)
    time.sleep(random.uniform(0, 4 * (time.monotonic() - began)))  # within a few saves, however fast the disk is
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(reader, 8):
        told = more
    os.close(reader)
    manager = CheckpointManager(path, keep_best=1, keep_last=2)
    latest = manager.latest()
    assert latest == manager.list()[-1], "a checkpoint that is there is not whole"
    assert latest.step >= int.from_bytes(told, "little"), "a checkpoint that was committed is lost"
    state = read_checkpoint(latest.path)
    assert state["step"] == latest.step and (state["model"]["w"] == latest.step).all()
    step = latest.step
print(step)
"""


@pytest.mark.slow
def test_saves_killed_at_random_instants(tmp_path):
    """Reliability 1: whatever is committed stays, is whole and is the newest; old leftovers are reaped."""
    kills = int(os.environ.get("DOVETAIL_KILLS", "25"))
    found = subprocess.run(
        [sys.executable, "-c", KILLER, tmp_path, str(kills)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) >= 2 * kills
    old = time.time() - 120
    for path in tmp_path.glob(f"{PREFIX}*"):
        os.utime(path, (old, old))

    CheckpointManager(tmp_path)

    assert not list(tmp_path.glob(f"{PREFIX}*"))
