"""Run with faults.c preloaded: repeat each task, with one of its file operations failing each time.

Prints a JSON object: the number of operations tried per task and mode, and what went wrong.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from functools import partial
from pathlib import Path

import torch

from dovetail.checkpoint.format import read_checkpoint
from dovetail.checkpoint.manifest import CheckpointError
from dovetail.checkpoint.saver import Saver
from dovetail.checkpoint.store import CheckpointStore
from dovetail.checkpoint.weights import export_weights
from dovetail.storage.atomic import is_temporary
from dovetail.storage.errors import StorageError
from dovetail.storage.local import LocalStorage

FAULTS = ctypes.CDLL(os.environ["LD_PRELOAD"])
FAULTS.faults_disarm.restype = ctypes.c_long
FAIL, DEAD, DIE = 0, 1, 2
MODES = {"fails": (FAIL, errno.EIO), "is full": (FAIL, errno.ENOSPC), "is dead": (DEAD, errno.EIO), "kills": (DIE, 0)}
LONGEST = 400
torch.set_num_threads(1)


def state(step):
    """Return the state of a step: large enough for several writes, with the step in every part of it."""
    return {"model": {"w": torch.full((3000,), float(step)), "b": torch.full((2,), step)}, "steps": [step] * 5}


def checkpoint_store(folder):
    """Return a store that keeps one checkpoint."""
    return CheckpointStore(folder / "checkpoints", keep_best=0, keep_last=1)


def save(folder):
    """Save a second checkpoint, with a new manager."""
    checkpoint_store(folder).save(2, 1, {"val_loss": 0.5}, state(2))


def save_in_background(folder):
    """Save a second checkpoint in a thread."""
    checkpoints = checkpoint_store(folder)
    with Saver(checkpoints, background=True) as saver:
        saver.save(state(2), partial(checkpoints.save, 2, 1, {"val_loss": 0.5}))


def copy(folder):
    """Replace an object in a store."""
    LocalStorage(path=folder / "store").put("a/b", b"new" * 1000)


def export(folder):
    """Replace exported weights."""
    export_weights(folder / "checkpoints" / "step-00000001", folder / "w.safetensors")


def careless(folder):
    """Replace weights without care, as many programs do: the test must find this task's bug."""
    try:
        (folder / "w.safetensors").write_bytes((folder / "whole").read_bytes())
    except OSError as error:
        raise StorageError(folder, "not written") from error


def load(folder):
    """Read the newest checkpoint."""
    found = checkpoint_store(folder).latest()
    if found is None or read_checkpoint(found.path)["steps"] != [1] * 5:
        raise CheckpointError(folder, "not read")


def prepare(folder):
    """Write the checkpoint, object and weights that each task replaces."""
    folder.mkdir(parents=True)
    checkpoint_store(folder).save(1, 1, {"val_loss": 0.7}, state(1))
    LocalStorage(path=folder / "store").put("a/b", b"old" * 1000)
    (folder / "w.safetensors").write_bytes(b"old")


def wrong(folder, mode):
    """Return what is wrong after a task, or None."""
    checkpoints = folder / "checkpoints"
    names = {path.name for path in checkpoints.iterdir()} - {"history.json"}
    half = {name for name in names if is_temporary(name)}
    if half and mode in {"fails", "is full"} and len(half) > 1:
        return f"left behind: {half}"
    steps = []
    for name in sorted(names - half):
        step = int(name[5:])
        found = read_checkpoint(checkpoints / name)
        if found["steps"] != [step] * 5 or not bool((found["model"]["w"] == step).all()):
            return f"{name} is mixed"
        steps.append(step)
    again = checkpoint_store(folder)
    if not steps or again.latest().step != max(steps):
        return f"checkpoints {steps}"
    if again.save(3, 1, {}, state(3)).step != again.latest().step:
        return "no further save"
    with LocalStorage(path=folder / "store").open("a/b") as file:
        if file.read() not in {b"old" * 1000, b"new" * 1000}:
            return "the object is half there"
    weights = (folder / "w.safetensors").read_bytes()
    if weights != b"old" and weights != (checkpoints.parent / "whole").read_bytes():
        return "the weights are half there"
    return None


def attempt(task, folder):
    """Run the task and return the error of Dovetail it raised, if any."""
    try:
        task(folder)
    except (StorageError, CheckpointError) as error:
        return error
    return None


def try_once(task, name, folder, nth):
    """Let the nth operation fail; return whether the task reached it, and what went wrong."""
    how, code = MODES[name]
    prepare(folder)
    export_weights(folder / "checkpoints" / "step-00000001", folder / "whole")
    if how == DIE:
        child = os.fork()
        if child == 0:
            FAULTS.faults_arm(os.fsencode(folder), nth, how, code)
            task(folder)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        reached = os.WIFSIGNALED(status)
        if not reached and os.WEXITSTATUS(status):
            return reached, f"exit {status}"
    else:
        FAULTS.faults_arm(os.fsencode(folder), nth, how, code)
        try:
            error = attempt(task, folder)
        except Exception as other:  # noqa: BLE001 (any other exception is a bug to report)
            FAULTS.faults_disarm()
            return True, f"raised {type(other).__name__}: {other}"
        reached = FAULTS.faults_disarm() >= nth
        if not reached and error is not None:
            return reached, f"raised {error} without a fault"
        if error is not None and str(folder) not in str(error):
            return reached, f"the path is not named: {error}"
    return reached, wrong(folder, name)


def main(root):
    """Try every operation of every task in every mode."""
    tried, found = {}, []
    for task in (save, save_in_background, copy, export, load, careless):
        for name in MODES:
            for nth in range(1, LONGEST):
                folder = root / f"{task.__name__}-{name}-{nth}".replace(" ", "-")
                reached, problem = try_once(task, name, folder, nth)
                if problem:
                    found.append(f"{task.__name__}, operation {nth} {name}: {problem}")
                if not reached:
                    break
            tried.setdefault(task.__name__, {})[name] = nth - 1
    print(json.dumps({"tried": tried, "wrong": found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
