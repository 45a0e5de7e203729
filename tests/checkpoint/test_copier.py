"""Tests of the second copy: it never holds training up, is tried again, and is whole or not there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dovetail.checkpoint import copier as copying
from dovetail.checkpoint.copier import Copier
from dovetail.checkpoint.format import read_checkpoint
from dovetail.checkpoint.manager import CheckpointManager
from dovetail.main import resume, run
from dovetail.storage.local import LocalStorage
from small_runs import only_run, small


class Unsteady:
    """A store over a folder that can be shut."""

    def __init__(self, path) -> None:
        self.inner = LocalStorage(path=path)
        self.opened = threading.Event()
        self.refusals = 0
        self.tries = 0

    def put(self, key, source):
        """Put, after waiting to be opened, or refuse."""
        self.tries += 1
        if self.refusals:
            self.refusals -= 1
            raise OSError("the network is down")
        self.opened.wait()
        self.inner.put(key, source)

    def open(self, key):
        """Open."""
        return self.inner.open(key)

    def list(self, prefix=""):
        """List."""
        return self.inner.list(prefix)

    def delete(self, key):
        """Delete."""
        self.inner.delete(key)

    def exists(self, key):
        """Say whether it is there."""
        return self.inner.exists(key)


@pytest.fixture
def store(tmp_path):
    """Return a store that is shut."""
    return Unsteady(tmp_path / "store")


@pytest.fixture
def manager(tmp_path):
    """Return a manager that keeps the last two."""
    return CheckpointManager(tmp_path / "checkpoints", keep_best=0, keep_last=2)


def save(manager, step):
    """Save a small checkpoint and return its folder."""
    return manager.save(step, 1, {}, {"model": {"w": torch.full((3,), float(step))}}).path


def test_a_copy_is_a_checkpoint(store, manager, tmp_path):
    """It can be read where it lies; adding one does not wait for the store."""
    copier = Copier(store, "run/1", manager.retention)
    copier.add(save(manager, 1))
    copier.add(save(manager, 2))
    assert store.list() == []

    store.opened.set()

    assert copier.close(30) == []
    for step in (1, 2):
        copy = tmp_path / "store" / "run" / "1" / f"step-{step:08d}"
        assert read_checkpoint(copy)["model"]["w"].tolist() == [step] * 3


def test_a_store_that_fails_is_tried_again(store, manager):
    """From the first file on, until it works."""
    store.opened.set()
    store.refusals = 3
    copier = Copier(store, "a", manager.retention, waits=(0.01,) * 5)
    copier.add(save(manager, 1))

    assert copier.close(30) == []
    assert len(store.list("a/step-00000001/")) == 4
    assert store.tries == 3 + 4


def test_a_store_that_stays_down_is_told_of(store, manager):
    """After all tries, with its own words; the next checkpoint gets its chance."""
    store.opened.set()
    store.refusals = 3
    copier = Copier(store, "a", manager.retention, waits=(0.01, 0.01))
    copier.add(save(manager, 1))
    copier.add(save(manager, 2))

    (failure,) = copier.close(30)

    assert (failure.name, failure.reason) == ("step-00000001", "the network is down")
    assert {key.split("/")[1] for key in store.list()} == {"step-00000002"}


def test_the_end_waits_only_so_long(store, manager):
    """A store that hangs does not keep the process; what has no copy is named."""
    copier = Copier(store, "a", manager.retention)
    copier.add(save(manager, 1))
    copier.add(save(manager, 2))

    assert [one.name for one in copier.close(0.05)] == ["step-00000001", "step-00000002"]
    assert not any(thread.name == "dovetail-copy" and not thread.daemon for thread in threading.enumerate())
    store.opened.set()


def test_a_copy_that_is_not_done_says_what_stood_in_its_way(store, manager):
    """The end comes before the last try: what the tries before failed with is told."""
    store.refusals = 10**6
    copier = Copier(store, "a", manager.retention, waits=(60.0,))
    copier.add(save(manager, 1))
    while not copier._open["step-00000001"]:  # until the first try has failed
        time.sleep(0.01)

    (missing,) = copier.close(0.05)

    assert missing.reason == "not done 0.05 s after the end; last it failed with OSError: the network is down"


def test_what_was_pruned_before_its_turn_is_left_out(store, manager):
    """No failure, and nothing half is left behind."""
    copier = Copier(store, "a", manager.retention, waits=(0.01,))
    for step in (1, 2, 3, 4, 5):
        copier.add(save(manager, step))
    store.opened.set()

    assert copier.close(30) == []
    assert names(store) == {one.path.name: 4 for one in manager.list()}


def names(store, prefix="a"):
    """Return the checkpoints that a store has files of, and how many files each has."""
    return dict(Counter(key.split("/")[1] for key in store.list(f"{prefix}/")))


def values_saved(manager, copier, values, first=1):
    """Save a checkpoint for each value, and copy it."""
    for step, value in enumerate(values, start=first):
        copier.add(manager.save(step, 1, {"val_loss": value}, {"model": {"w": torch.ones(3)}}).path)


@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.1, 0.2, 0.3, float("nan")]), min_size=1, max_size=7),
    keep_best=st.integers(0, 2),
    keep_last=st.integers(1, 3),
    restart=st.integers(0, 7),
)
def test_the_copies_are_kept_by_the_same_rules(tmp_path_factory, values, keep_best, keep_last, restart):
    """Once all are copied, both places have the same checkpoints; also if the process was another one in between."""
    folder = tmp_path_factory.mktemp("copies")
    store = LocalStorage(path=folder / "store")
    manager = CheckpointManager(folder / "checkpoints", keep_best=keep_best, keep_last=keep_last)
    for first, some in ((0, values[:restart]), (restart, values[restart:])):
        copier = Copier(store, "a", manager.retention)
        for step, value in enumerate(some, start=first + 1):
            values_saved(manager, copier, [value], step)
            while not store.exists(f"a/step-{step:08d}/manifest.json"):
                time.sleep(0.001)
        assert copier.close(30) == []

    assert names(store) == {one.path.name: 4 for one in manager.list()}


def test_nothing_is_removed_before_a_newer_copy_is_complete(store, manager, tmp_path):
    """Losing all that is on the first disk loses no copy, and a store that is down keeps what it has."""
    store.opened.set()
    copier = Copier(store, "a", manager.retention, waits=(0.01,))
    values_saved(manager, copier, [0.3, 0.2])
    assert copier.close(30) == []
    shutil.rmtree(manager.directory)

    store.refusals = 2
    manager = CheckpointManager(tmp_path / "checkpoints", keep_best=0, keep_last=1)
    copier = Copier(store, "a", manager.retention, waits=(0.01,))
    values_saved(manager, copier, [0.4], first=3)
    assert [one.name for one in copier.close(30)] == ["step-00000003"]
    assert names(store) == {"step-00000001": 4, "step-00000002": 4}

    copier = Copier(store, "a", manager.retention, waits=(0.01,))
    values_saved(manager, copier, [0.5], first=4)
    assert copier.close(30) == []
    assert names(store) == {"step-00000004": 4}


def test_what_a_killed_process_began_to_copy_goes_with_the_old_ones(manager, tmp_path):
    """What has no manifest is no checkpoint, and what is no checkpoint's is left alone."""
    store = LocalStorage(path=tmp_path / "store")
    store.put("a/step-00000001/model.safetensors", b"begun")
    store.put("a/step-00000009/model.safetensors", b"begun")
    store.put("a/notes.txt", b"mine")
    store.put("b/step-00000001/model.safetensors", b"another's")
    copier = Copier(store, "a", manager.retention)
    values_saved(manager, copier, [0.3, 0.2, 0.1])

    assert copier.close(30) == []
    assert names(store) == {"step-00000002": 4, "step-00000003": 4, "step-00000009": 1, "notes.txt": 1}
    assert store.list("b/") == ["b/step-00000001/model.safetensors"]


def test_a_damaged_copy_is_left_alone(manager, tmp_path, caplog):
    """As a damaged checkpoint is: it counts for nothing, is named, and may still be of use to somebody."""
    store = LocalStorage(path=tmp_path / "store")
    manifest = tmp_path / "store" / "a" / "step-00000001" / "manifest.json"
    store.put("a/step-00000001/manifest.json", b"{}")
    copier = Copier(store, "a", manager.retention)
    values_saved(manager, copier, [0.3, 0.2, 0.1], first=2)

    assert copier.close(30) == []
    assert names(store) == {"step-00000001": 1, "step-00000003": 4, "step-00000004": 4}
    assert manifest.read_bytes() == b"{}"
    assert "a/step-00000001/manifest.json: this is no manifest of a checkpoint" in caplog.text


class Keeping(Unsteady):
    """A store that removes nothing."""

    def delete(self, key):
        """Refuse."""
        raise OSError(f"{key} is locked")


def test_a_store_that_removes_nothing_costs_no_copy(manager, tmp_path, caplog):
    """It is said in the log, and the copies go on."""
    store = Keeping(tmp_path / "store")
    store.opened.set()
    copier = Copier(store, "a", manager.retention)
    values_saved(manager, copier, [0.3, 0.2, 0.1, 0.0])

    assert copier.close(30) == []
    assert len(names(store)) == 4
    assert re.search(r"a/step-00000001/\S+ is locked", caplog.text)


class Alerts:
    """Notes alerts and the steps of training."""

    def __init__(self) -> None:
        self.seen, self.steps = [], 0

    def dovetail_alert(self, alert):
        """Note one."""
        self.seen.append(alert)

    def dovetail_batch_end(self):
        """Count."""
        self.steps += 1


def test_a_run_goes_on_while_its_store_hangs(tmp_path, store):
    """Every update is made, and the missing copies are an alert each."""
    alerts = Alerts()
    config = small(
        tmp_path / "runs",
        checkpoint={"copy_to": store, "copy_patience": 0.05},
        callbacks={"alerts": alerts},
    )

    outcome = run(config).check()  # or for ever: the store waits to be opened

    assert outcome.status == "completed"
    assert alerts.steps == 14
    assert [(one.type, one.severity) for one in alerts.seen] == [("checkpoint_copy", "warning")] * 2
    assert "step-00000014 was not copied: not done 0.05 s after the end" in alerts.seen[-1].message
    store.opened.set()


def test_a_runs_copies_lie_under_its_name_and_id(tmp_path, store):
    """Whole, in the background too."""
    store.opened.set()
    run(small(tmp_path / "runs", checkpoint={"copy_to": store, "background": True})).check()

    folder = only_run(tmp_path / "runs")
    for path in (folder / "checkpoints").glob("step-*"):
        copy = tmp_path / "store" / "run" / folder.name / path.name
        assert {one.name: one.read_bytes() for one in copy.iterdir()} == {
            one.name: one.read_bytes() for one in path.iterdir()
        }


class Interrupts:
    """Sends the process a signal once the run has ended."""

    def dovetail_run_end(self):
        """Send it, in a while."""
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()


def test_a_signal_at_the_end_hurries_the_wait_for_copies(tmp_path, store, monkeypatch):
    """The first one: the run has completed, its record says so, and what is not copied is told."""
    monkeypatch.setattr(copying, "HURRIED", 0.5)

    outcome = run(small(tmp_path / "runs", checkpoint={"copy_to": store}, callbacks={"signal": Interrupts()}))

    assert outcome.status == "completed"
    folder = only_run(tmp_path / "runs")
    assert json.loads((folder / "run.json").read_text())["status"] == "completed"
    assert "not done 0.5 s after the end" in (folder / "alerts.jsonl").read_text()
    store.opened.set()


def test_a_resumed_run_copies_what_was_not_done(tmp_path, store):
    """What the process before could not copy any more; what is there already is not copied again."""
    checkpoint = {"copy_to": store, "copy_patience": 0.05}
    sections = {"checkpoint": checkpoint, "callbacks": {"alerts": Alerts()}}
    run(small(tmp_path / "runs", **sections)).check()
    folder = only_run(tmp_path / "runs")
    store.opened.set()

    checkpoint["copy_patience"] = 30
    resume(folder, small(tmp_path / "runs", training={"max_epochs": 3}, **sections)).check()
    tries = store.tries
    resume(folder, small(tmp_path / "runs", training={"max_epochs": 4}, **sections)).check()

    there = {path.name for path in (folder / "checkpoints").glob("step-*")}
    assert {path.name for path in (tmp_path / "store" / "run" / folder.name).iterdir()} == there
    assert len(there) == 4
    assert store.tries - tries == 4  # files of one new checkpoint
