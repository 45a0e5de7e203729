"""Tests of copying checkpoints: training never waits, failures are retried, and a copy is complete or absent."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.checkpoint.copier import Copier
from dovetail.checkpoint.format import read_checkpoint
from dovetail.checkpoint.store import CheckpointStore
from dovetail.storage.local import LocalStorage
from unsteady_storage import Unsteady


@pytest.fixture
def storage(tmp_path):
    """Return a storage that is not open yet."""
    return Unsteady(tmp_path / "storage")


@pytest.fixture
def checkpoints(tmp_path):
    """Return a store that keeps the last two checkpoints."""
    return CheckpointStore(tmp_path / "checkpoints", keep_best=0, keep_last=2)


def save(checkpoints, step):
    """Save a small checkpoint and return its folder."""
    return checkpoints.save(step, 1, {}, {"model": {"w": torch.full((3,), float(step))}}).path


def test_a_copy_is_a_checkpoint(storage, checkpoints, tmp_path):
    """It can be read in place; add() does not wait for the storage."""
    copier = Copier(storage, "run/1", checkpoints.retention)
    copier.add(save(checkpoints, 1))
    copier.add(save(checkpoints, 2))
    assert storage.list() == []

    storage.opened.set()

    assert copier.close(30) == []
    for step in (1, 2):
        copy = tmp_path / "storage" / "run" / "1" / f"step-{step:08d}"
        assert read_checkpoint(copy)["model"]["w"].tolist() == [step] * 3


def test_a_failed_copy_is_retried(storage, checkpoints):
    """All files are copied again until an attempt succeeds."""
    storage.opened.set()
    storage.refusals = 3
    copier = Copier(storage, "a", checkpoints.retention, retry_delays=(0.01,) * 5)
    copier.add(save(checkpoints, 1))

    assert copier.close(30) == []
    assert len(storage.list("a/step-00000001/")) == 4
    assert storage.tries == 3 + 4


def test_a_copy_that_keeps_failing_is_reported(storage, checkpoints):
    """With the storage's own message after the last attempt; the next checkpoint is attempted too."""
    storage.opened.set()
    storage.refusals = 3
    copier = Copier(storage, "a", checkpoints.retention, retry_delays=(0.01, 0.01))
    copier.add(save(checkpoints, 1))
    copier.add(save(checkpoints, 2))

    (failure,) = copier.close(30)

    assert (failure.name, failure.reason) == ("step-00000001", "the network is down")
    assert {key.split("/")[1] for key in storage.list()} == {"step-00000002"}


def test_close_waits_no_longer_than_its_patience(storage, checkpoints):
    """It returns the checkpoints without a copy, even if the storage hangs."""
    copier = Copier(storage, "a", checkpoints.retention)
    copier.add(save(checkpoints, 1))
    copier.add(save(checkpoints, 2))

    assert [failure.name for failure in copier.close(0.05)] == ["step-00000001", "step-00000002"]
    assert not any(thread.name == "dovetail-copy" and not thread.daemon for thread in threading.enumerate())
    storage.opened.set()


def test_an_unfinished_copy_reports_its_last_error(storage, checkpoints):
    """close() ends the wait before the last attempt."""
    storage.refusals = 10**6
    copier = Copier(storage, "a", checkpoints.retention, retry_delays=(60.0,))
    copier.add(save(checkpoints, 1))
    while not copier._pending["step-00000001"]:  # until the first attempt has failed
        time.sleep(0.01)

    (missing,) = copier.close(0.05)

    assert missing.reason == "not done 0.05 s after the end; the last attempt failed with OSError: the network is down"


def test_a_checkpoint_pruned_before_its_turn_is_skipped(storage, checkpoints):
    """This is not a failure, and leaves no partial copy."""
    copier = Copier(storage, "a", checkpoints.retention, retry_delays=(0.01,))
    for step in (1, 2, 3, 4, 5):
        copier.add(save(checkpoints, step))
    storage.opened.set()

    assert copier.close(30) == []
    assert names(storage) == {checkpoint.path.name: 4 for checkpoint in checkpoints.list()}


def names(storage, prefix="a"):
    """Return the number of files in a storage, by checkpoint."""
    return dict(Counter(key.split("/")[1] for key in storage.list(f"{prefix}/")))


def values_saved(checkpoints, copier, values, first=1):
    """Save and copy a checkpoint for each value of val_loss."""
    for step, value in enumerate(values, start=first):
        copier.add(checkpoints.save(step, 1, {"val_loss": value}, {"model": {"w": torch.ones(3)}}).path)


@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.1, 0.2, 0.3, float("nan")]), min_size=1, max_size=7),
    keep_best=st.integers(0, 2),
    keep_last=st.integers(1, 3),
    restart=st.integers(0, 7),
)
def test_copies_follow_the_same_retention_rules(tmp_path_factory, values, keep_best, keep_last, restart):
    """Both places end with the same checkpoints, even if another process continues in between."""
    folder = tmp_path_factory.mktemp("copies")
    storage = LocalStorage(path=folder / "storage")
    checkpoints = CheckpointStore(folder / "checkpoints", keep_best=keep_best, keep_last=keep_last)
    for first, some in ((0, values[:restart]), (restart, values[restart:])):
        copier = Copier(storage, "a", checkpoints.retention)
        for step, value in enumerate(some, start=first + 1):
            values_saved(checkpoints, copier, [value], step)
            while not storage.exists(f"a/step-{step:08d}/manifest.json"):
                time.sleep(0.001)
        assert copier.close(30) == []

    assert names(storage) == {checkpoint.path.name: 4 for checkpoint in checkpoints.list()}


def test_no_copy_is_removed_before_a_newer_one_is_complete(storage, checkpoints, tmp_path):
    """Losing the original checkpoints removes no copy; neither does a failed copy."""
    storage.opened.set()
    copier = Copier(storage, "a", checkpoints.retention, retry_delays=(0.01,))
    values_saved(checkpoints, copier, [0.3, 0.2])
    assert copier.close(30) == []
    shutil.rmtree(checkpoints.directory)

    storage.refusals = 2
    checkpoints = CheckpointStore(tmp_path / "checkpoints", keep_best=0, keep_last=1)
    copier = Copier(storage, "a", checkpoints.retention, retry_delays=(0.01,))
    values_saved(checkpoints, copier, [0.4], first=3)
    assert [failure.name for failure in copier.close(30)] == ["step-00000003"]
    assert names(storage) == {"step-00000001": 4, "step-00000002": 4}

    copier = Copier(storage, "a", checkpoints.retention, retry_delays=(0.01,))
    values_saved(checkpoints, copier, [0.5], first=4)
    assert copier.close(30) == []
    assert names(storage) == {"step-00000004": 4}


def test_partial_copies_of_a_killed_process_are_removed(checkpoints, tmp_path):
    """Once a newer copy is complete; files that belong to no checkpoint stay."""
    storage = LocalStorage(path=tmp_path / "storage")
    storage.put("a/step-00000001/model.safetensors", b"begun")
    storage.put("a/step-00000009/model.safetensors", b"begun")
    storage.put("a/notes.txt", b"mine")
    storage.put("b/step-00000001/model.safetensors", b"another's")
    copier = Copier(storage, "a", checkpoints.retention)
    values_saved(checkpoints, copier, [0.3, 0.2, 0.1])

    assert copier.close(30) == []
    assert names(storage) == {"step-00000002": 4, "step-00000003": 4, "step-00000009": 1, "notes.txt": 1}
    assert storage.list("b/") == ["b/step-00000001/model.safetensors"]


def test_a_damaged_copy_stays(checkpoints, tmp_path, caplog):
    """It does not count for retention, and a warning names it."""
    storage = LocalStorage(path=tmp_path / "storage")
    manifest = tmp_path / "storage" / "a" / "step-00000001" / "manifest.json"
    storage.put("a/step-00000001/manifest.json", b"{}")
    copier = Copier(storage, "a", checkpoints.retention)
    values_saved(checkpoints, copier, [0.3, 0.2, 0.1], first=2)

    assert copier.close(30) == []
    assert names(storage) == {"step-00000001": 1, "step-00000003": 4, "step-00000004": 4}
    assert manifest.read_bytes() == b"{}"
    assert "a/step-00000001/manifest.json: this is not a checkpoint manifest" in caplog.text


class NoDelete(Unsteady):
    """A storage that refuses to delete."""

    def delete(self, key):
        """Refuse."""
        raise OSError(f"{key} is locked")


def test_a_storage_that_refuses_to_delete_still_gets_copies(checkpoints, tmp_path, caplog):
    """A warning in the log shows the error."""
    storage = NoDelete(tmp_path / "storage")
    storage.opened.set()
    copier = Copier(storage, "a", checkpoints.retention)
    values_saved(checkpoints, copier, [0.3, 0.2, 0.1, 0.0])

    assert copier.close(30) == []
    assert len(names(storage)) == 4
    assert re.search(r"a/step-00000001/\S+ is locked", caplog.text)
