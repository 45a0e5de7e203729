"""Tests of CheckpointStore: it keeps the best and the newest checkpoints, and they are always complete."""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.checkpoint.format import read_checkpoint, read_model, write_checkpoint
from dovetail.checkpoint.manifest import CheckpointError
from dovetail.checkpoint.store import CheckpointStore
from dovetail.storage.atomic import PREFIX
from dovetail.storage.errors import StorageError
from small_disks import small_disk


def save(store, step, value=None, **metrics):
    """Save a small checkpoint with a monitored value."""
    if value is not None:
        metrics[store.monitor] = value
    state = {"model": {"w": torch.full((3,), float(step))}, "step": step}
    return store.save(step=step, epoch=step // 10 + 1, metrics=metrics, state=state)


def steps(checkpoints) -> list[int]:
    """Return the steps of checkpoints."""
    return [checkpoint.step for checkpoint in checkpoints]


def test_a_saved_checkpoint_is_found(tmp_path):
    """It has its step, epoch, metrics, sizes and time."""
    store = CheckpointStore(tmp_path / "checkpoints")

    saved = save(store, 1200, 0.5, val_accuracy=0.9)

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
    assert store.list() == [saved]
    assert store.latest() == store.best() == saved
    assert read_checkpoint(saved.path)["step"] == 1200


def test_an_empty_store_raises_no_error(tmp_path):
    """Its lists are empty, and there is neither a latest nor a best checkpoint."""
    store = CheckpointStore(tmp_path)

    assert (store.list(), store.latest(), store.best(), store.ranked(), store.history()) == (
        [],
        None,
        None,
        [],
        [],
    )


def test_the_best_and_the_newest_are_kept(tmp_path):
    """Others are removed."""
    store = CheckpointStore(tmp_path, keep_best=2, keep_last=2)

    for step, value in enumerate([0.9, 0.3, 0.5, 0.2, 0.8, 0.7, 0.6]):
        save(store, step, value)

    assert steps(store.list()) == [1, 3, 5, 6]
    assert steps(store.ranked()) == [3, 1, 6, 5]
    assert store.best().step == 3
    assert store.latest().step == 6


@pytest.mark.slow
@settings(max_examples=15)
@given(
    st.lists(st.one_of(st.none(), st.just(math.nan), st.just(-math.inf), st.integers(0, 4)), min_size=1, max_size=8),
    st.integers(0, 2),
    st.integers(1, 3),
    st.sampled_from(["min", "max"]),
)
def test_retention_matches_a_plain_implementation(tmp_path_factory, values, keep_best, keep_last, mode):
    """For any values: missing, NaN, infinite, equal."""
    store = CheckpointStore(tmp_path_factory.mktemp("checkpoints"), keep_best=keep_best, keep_last=keep_last, mode=mode)
    sign = 1 if mode == "min" else -1
    kept: list[int] = []
    best_so_far = math.inf
    for step, value in enumerate(values):
        saved = save(store, step, value)
        valid = value is not None and math.isfinite(value)
        assert saved.is_best == (valid and sign * value < best_so_far)
        if saved.is_best:
            best_so_far = sign * value
        kept.append(step)
        ranked = sorted(
            (there for there in kept if (v := values[there]) is not None and math.isfinite(v)),
            key=lambda there: sign * values[there],
        )
        kept = [there for there in kept if there in kept[-keep_last:] or there in ranked[:keep_best]]

        assert steps(store.list()) == kept

    assert steps(store.history()) == list(range(len(values)))
    assert sum(checkpoint.is_best for checkpoint in store.history()) == (best_so_far < math.inf)
    assert [checkpoint.kept for checkpoint in store.history()] == [step in kept for step in range(len(values))]


def test_a_nan_is_never_the_best(tmp_path):
    """Neither the first checkpoint nor infinity in mode "max"."""
    for mode in ("min", "max"):
        store = CheckpointStore(tmp_path / mode, mode=mode)
        assert not save(store, 1, math.nan).is_best
        assert store.best() is None
        assert save(store, 2, 0.5).is_best
        assert not save(store, 3, math.inf if mode == "max" else -math.inf).is_best
        assert store.best().step == 2


def test_the_oldest_of_equal_checkpoints_is_the_best(tmp_path):
    """A later one must have a better value."""
    store = CheckpointStore(tmp_path)

    assert [save(store, step, 0.5).is_best for step in (1, 2)] == [True, False]
    assert store.best().step == 1


def test_save_reports_the_best_so_far_and_history_the_best_of_all(tmp_path):
    """Parity E1: is_best has both meanings."""
    store = CheckpointStore(tmp_path)

    assert [save(store, step, value).is_best for step, value in ((1, 0.6), (2, 0.4), (3, 0.5))] == [True, True, False]
    assert [checkpoint.is_best for checkpoint in store.history()] == [False, True, False]


def test_a_step_may_be_saved_twice(tmp_path):
    """The second checkpoint gets its own folder, so nothing is overwritten."""
    store = CheckpointStore(tmp_path)
    save(store, 5, 0.5)

    again = save(store, 5)

    assert again.path.name == "step-00000005-2"
    assert store.latest().path == again.path
    assert store.best().path.name == "step-00000005"
    assert steps(store.list()) == [5, 5]


def test_the_newest_is_the_one_saved_last(tmp_path):
    """A new run in the same folder counts from 1 again; its checkpoints are newer despite their lower steps."""
    for step in range(1, 6):
        save(CheckpointStore(tmp_path, keep_best=0, keep_last=2), step, 0.5)
    store = CheckpointStore(tmp_path, keep_best=0, keep_last=2)

    again = [save(store, step, 0.9) for step in (1, 2)]

    assert [checkpoint.path.name for checkpoint in store.list()] == ["step-00000001-2", "step-00000002-2"]
    assert store.latest().path == again[-1].path
    assert steps(store.history()) == [1, 2, 3, 4, 5, 1, 2]
    assert steps(CheckpointStore(tmp_path).list()) == [1, 2]


def test_the_history_survives_a_restart(tmp_path):
    """It is read from its file; if that is damaged, from the remaining checkpoints."""
    first = CheckpointStore(tmp_path, keep_best=1, keep_last=1)
    for step, value in ((1, 0.2), (2, 0.5), (3, math.nan)):
        save(first, step, value)

    second = CheckpointStore(tmp_path, keep_best=1, keep_last=1)

    assert steps(second.history()) == [1, 2, 3]
    assert [checkpoint.kept for checkpoint in second.history()] == [True, False, True]
    assert math.isnan(second.history()[2].metrics["val_loss"])
    assert not save(second, 4, 0.3).is_best
    (tmp_path / "history.json").write_text("[{")
    assert steps(CheckpointStore(tmp_path).history()) == [1, 4]


def test_a_damaged_checkpoint_is_skipped_with_a_warning(tmp_path, caplog):
    """The latest is the newest intact one; each damaged one is reported once."""
    store = CheckpointStore(tmp_path)
    for step in (1, 2, 3, 4):
        save(store, step, 0.5)
    flipped = tmp_path / "step-00000004" / "model.safetensors"
    content = bytearray(flipped.read_bytes())
    content[-1] ^= 1
    flipped.write_bytes(content)
    (tmp_path / "step-00000003" / "manifest.json").unlink()
    (tmp_path / "step-00000009").mkdir()

    with caplog.at_level(logging.WARNING, "dovetail.checkpoint"):
        assert store.latest().step == 2
        assert steps(store.list()) == [1, 2, 4]
        store.latest()

    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert sum("step-00000004/model.safetensors: this file is damaged" in message for message in messages) == 1
    assert sum("step-00000003/manifest.json: there is no manifest" in message for message in messages) == 1


def test_a_damaged_checkpoint_does_not_block_its_step(tmp_path):
    """The next checkpoint of the step gets the next name."""
    store = CheckpointStore(tmp_path)
    save(store, 1)
    (tmp_path / "step-00000001" / "manifest.json").unlink()

    assert save(store, 1).path.name == "step-00000001-2"


def test_other_files_are_left_alone(tmp_path):
    """Files and folders that are not checkpoints are neither listed nor removed."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "step-x").write_text("")
    (tmp_path / "step-00000001.bak").mkdir()
    store = CheckpointStore(tmp_path, keep_best=0, keep_last=1)
    for step in (1, 2, 3):
        save(store, step)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "history.json",
        "notes",
        "step-00000001.bak",
        "step-00000003",
        "step-x",
    ]


def test_a_checkpoint_without_a_step_is_skipped(tmp_path, caplog):
    """write_checkpoint can write one without the facts that a store needs."""
    write_checkpoint(tmp_path / "step-00000001", {"model": {}})

    assert CheckpointStore(tmp_path).list() == []
    assert "was not saved by a run or a CheckpointManager: its manifest has no step" in caplog.text


@pytest.mark.parametrize(
    "options, message",
    [
        ({"keep_best": -1}, "keep_best must be at least 0, got -1"),
        ({"keep_last": 0}, "keep_last must be at least 1, got 0"),
        ({"mode": "auto"}, "mode must be 'min' or 'max', got 'auto'"),
    ],
)
def test_invalid_settings_are_refused(tmp_path, options, message):
    """No folder is created."""
    with pytest.raises(ValueError, match=message):
        CheckpointStore(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_the_defaults_are_the_documented_ones(tmp_path):
    """The best three by validation loss, and the last five."""
    store = CheckpointStore(tmp_path)

    assert (store.keep_best, store.keep_last, store.monitor, store.mode) == (3, 5, "val_loss", "min")


def test_leftovers_of_killed_saves_are_removed(tmp_path):
    """Old ones when a store is created; young ones by the first save after they are a minute old."""
    (tmp_path / f"{PREFIX}dead").mkdir()
    old = time.time() - 120
    os.utime(tmp_path / f"{PREFIX}dead", (old, old))
    (tmp_path / f"{PREFIX}young").mkdir()

    store = CheckpointStore(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}young"]
    assert store.list() == []
    store.save(1, 1, {}, {"model": {}})
    assert (tmp_path / f"{PREFIX}young").exists()
    os.utime(tmp_path / f"{PREFIX}young", (old, old))
    store.save(2, 1, {}, {"model": {}})
    assert not (tmp_path / f"{PREFIX}young").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    """The message shows its path."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match=r"file: cannot create this: something with this name already exists"):
        CheckpointStore(tmp_path / "file")


# --- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["write", "fsync", "replace", "rename"])
def test_a_failed_save_keeps_the_previous_checkpoint(tmp_path, monkeypatch, name):
    """Reliability 2: if the first, second … call of saving, pruning and writing the history fails."""
    real = getattr(os, name)
    for nth in range(1, 60):
        store = CheckpointStore(tmp_path / str(nth), keep_best=0, keep_last=1)
        save(store, 1)
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
                save(store, 2)
            except StorageError as error:
                message = str(error)
            else:
                break
        assert str(tmp_path / str(nth)) in message
        again = CheckpointStore(tmp_path / str(nth), keep_best=0, keep_last=1)
        assert again.latest().step in {1, 2}
        assert save(again, 3).step == again.latest().step
    else:
        pytest.fail("save failed every time")
    assert nth > 1


def test_a_state_that_cannot_be_saved_changes_nothing(tmp_path):
    """Existing checkpoints and the history stay."""
    store = CheckpointStore(tmp_path, keep_last=1, keep_best=0)
    save(store, 1)

    with pytest.raises(TypeError, match=r"^optimizer.hook: "):
        store.save(2, 1, {}, {"optimizer": {"hook": print}})

    assert steps(store.list()) == [1]
    assert steps(store.history()) == [1]


def test_a_full_disk_prunes_nothing(tmp_path):
    """Reliability 3: old checkpoints are removed only once the new one is on the disk."""
    with small_disk(tmp_path, "1m") as disk:
        store = CheckpointStore(disk, keep_best=0, keep_last=1)
        save(store, 1)
        with pytest.raises(StorageError, match=r"step-00000002: .* no space left on the disk: 8 MB needed"):
            store.save(2, 1, {}, {"model": {"w": torch.zeros(2_000_000)}})
        assert store.latest().step == 1
        assert read_model(store.latest().path)["w"].tolist() == [1, 1, 1]


def test_the_next_best_replaces_a_damaged_best_checkpoint(tmp_path):
    """Reading finds the damage; ranked() has the next best."""
    store = CheckpointStore(tmp_path)
    save(store, 1, 0.1)
    save(store, 2, 0.2)
    path = store.best().path / "state.json"
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))

    with pytest.raises(CheckpointError, match=r"step-00000001/state.json: this file is damaged"):
        read_checkpoint(store.best().path)
    assert read_checkpoint(store.ranked()[1].path)["step"] == 2


@pytest.mark.slow
def test_importing_the_store_imports_neither_torch_nor_pandas():
    """Pandas is an extra, and commands that list checkpoints start without torch."""
    code = "import sys, dovetail.checkpoint.store; sys.exit(bool({'pandas', 'torch'} & sys.modules.keys()))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


KILLER = """
import os, random, signal, sys, time
import torch
from dovetail.checkpoint.format import read_checkpoint
from dovetail.checkpoint.store import CheckpointStore

torch.set_num_threads(1)
random.seed(3)
path, kills = sys.argv[1], int(sys.argv[2])
step = 0
for kill in range(kills):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        store = CheckpointStore(path, keep_best=1, keep_last=2)
        while True:
            step += 1
            state = {"model": {"w": torch.full((20_000,), float(step))}, "step": step}
            store.save(step, 1, {"val_loss": 1 / step}, state)
            os.write(writer, step.to_bytes(8, "little"))
    os.close(writer)
    committed = os.read(reader, 8)
    start = time.monotonic()
    committed = os.read(reader, 8)
    time.sleep(random.uniform(0, 4 * (time.monotonic() - start)))  # within a few saves, on any disk
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(reader, 8):
        committed = more
    os.close(reader)
    store = CheckpointStore(path, keep_best=1, keep_last=2)
    latest = store.latest()
    assert latest == store.list()[-1], "a listed checkpoint is damaged"
    assert latest.step >= int.from_bytes(committed, "little"), "a committed checkpoint is lost"
    state = read_checkpoint(latest.path)
    assert state["step"] == latest.step and (state["model"]["w"] == latest.step).all()
    step = latest.step
print(step)
"""


@pytest.mark.slow
def test_a_committed_checkpoint_survives_a_kill_at_any_moment(tmp_path):
    """Reliability 1: it is intact and the newest; old leftovers are removed."""
    kills = int(os.environ.get("DOVETAIL_KILLS", "25"))
    done = subprocess.run(
        [sys.executable, "-c", KILLER, tmp_path, str(kills)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2 * kills
    old = time.time() - 120
    for path in tmp_path.glob(f"{PREFIX}*"):
        os.utime(path, (old, old))

    CheckpointStore(tmp_path)

    assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_a_run_resumes_from_the_newest_intact_checkpoint(tmp_path):
    """Damaged ones are set aside with the reason, drop out of the history, and may be saved again."""
    store = CheckpointStore(tmp_path, keep_last=4)
    for step in (1, 2, 3, 4):
        save(store, step, float(step))
    for step in (3, 4):
        damage(tmp_path, step)

    point = store.resume()

    assert point.checkpoint.step == 2
    assert point.state["step"] == 2
    assert [error.path.parent.name for error in point.damaged] == [f"step-{step:08d}" for step in (4, 3)]
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        "step-00000001", "step-00000002", "damaged-step-00000003", "damaged-step-00000004",
    }  # fmt: skip
    assert steps(store.history()) == [1, 2]
    save(store, 3, 3.0)
    assert steps(store.history()) == [1, 2, 3]


def test_a_step_damaged_twice_is_set_aside_twice(tmp_path):
    """The earlier folder gives way."""
    store = CheckpointStore(tmp_path, keep_last=4)
    save(store, 1, 1.0)
    for _ in range(2):
        save(store, 2, 2.0)
        damage(tmp_path, 2)
        assert store.resume().checkpoint.step == 1

    assert [path.name for path in tmp_path.glob("damaged-*")] == ["damaged-step-00000002"]


def test_a_resumed_run_forgets_what_it_will_save_again(tmp_path):
    """Checkpoints that were pruned after the one resumed from are no part of the history."""
    store = CheckpointStore(tmp_path, keep_last=3, keep_best=1)
    for step in (1, 2, 3):
        save(store, step, float(step))
    shutil.rmtree(tmp_path / "step-00000003")

    assert store.resume().checkpoint.step == 2
    assert steps(store.history()) == [1, 2]


def test_nothing_to_resume_from(tmp_path):
    """An empty folder gives None; if every checkpoint is damaged, that is an error, and none is renamed."""
    store = CheckpointStore(tmp_path, keep_last=3)
    assert store.resume() is None
    for step in (1, 2):
        save(store, step)
        damage(tmp_path, step)

    with pytest.raises(CheckpointError, match="all 2 of its checkpoints are damaged"):
        store.resume()
    assert not list(tmp_path.glob("damaged-*"))


def test_a_resume_may_read_in_its_own_way(tmp_path):
    """What ``read`` returns is the state."""
    store = CheckpointStore(tmp_path)
    save(store, 1)

    assert store.resume(lambda path: {"read": path.name}).state == {"read": "step-00000001"}


def test_looking_a_step_up(tmp_path):
    """Also of a checkpoint that was removed since; the frame has a row for each."""
    store = CheckpointStore(tmp_path, keep_last=1, keep_best=1)
    for step, value in ((1, 2.0), (2, 3.0), (3, 1.0)):
        save(store, step, value)

    assert store.saved_at(2).step == 2
    assert not store.saved_at(2).kept
    assert store.saved_at(3).kept
    assert store.saved_at(9) is None
    assert store.history_frame()["step"].tolist() == [1, 2, 3]


def test_pruning_returns_what_it_removed(tmp_path):
    """With looser rules nothing was removed at saving; tighter ones remove the rest."""
    store = CheckpointStore(tmp_path, keep_last=3)
    for step in (1, 2, 3):
        save(store, step)

    assert steps(CheckpointStore(tmp_path, keep_last=1, keep_best=1).prune()) == [1, 2]


def damage(folder, step):
    """Change a byte of a checkpoint's weights."""
    path = folder / f"step-{step:08d}" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
