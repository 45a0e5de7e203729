"""Kill runs at random moments, resume them until they finish, and compare them with uninterrupted runs.

Each attempt is a process that executes `dovetail run FILE checkpoint.resume=auto`, forked from this one, which has
imported torch already. It gets a SIGKILL after a random time. After each kill, the script verifies every checkpoint;
the newest one must not be older than before the kill. When the run has finished, its weights, optimizer, random
generators, log and trackers are compared with those of an uninterrupted run, bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from _measure import record, table, versions
from attrs import define

import dovetail.main
import dovetail.metrics.accuracy
import dovetail.models.mlp
import dovetail.pieces.schedulers
import dovetail.record.trackers
import dovetail.train.session  # noqa: F401 (imported before the forks, which then start fast)
from dovetail.checkpoint.format import read_checkpoint
from dovetail.checkpoint.manifest import CheckpointError
from dovetail.cli import main as command_line
from dovetail.record.experiments import ExperimentDB

RUN_FILE: Final = """\
[run]
name = "killed"

[data]
type = "csv"
path = "points.csv"
target = "side"
split = { train = 0.6, validation = 0.2, test = 0.2 }

[transforms.noise]
type = "gaussian_noise"
std = 0.1

[loader]
batch_size = 8

[model]
type = "mlp"
hidden_dims = [32]
dropout = 0.3
batch_norm = true

[loss]
type = "cross_entropy"

[scheduler]
type = "warmup_cosine"

[training]
max_epochs = 4

[metrics.accuracy]
type = "accuracy"

[callbacks.patience]
type = "early_stopping"
patience = 3

[trackers.lines]
type = "jsonl"

[trackers.database]
type = "sqlite"

[checkpoint]
every = { epochs = 1, steps = 5 }
keep_last = 3
resume = "auto"

[logging]
every = 2

[report]
enabled = false

[hardware]
device = "cpu"
threads = 1
"""
VARIANTS: Final[Mapping[str, list[str]]] = {
    "plain": [],
    "2 workers": ["loader.num_workers=2"],
    "accumulation of 3": ["training.accumulate=3", "training.validate_every={steps=3}"],
    "saved in the background, averaged": ["checkpoint.background=true", "training.ema_decay=0.9"],
    "bf16, SGD": ["training.precision=bf16", "optimizer.type=sgd", "optimizer.lr=0.05", "optimizer.momentum=0.9"],
}
#: The largest number of kills per run: on a slower machine, a run that is killed too early never finishes.
MAX_KILLS: Final = 12
#: Metrics that depend on the clock.
CLOCK: Final = {"time", "samples_per_second"}
UNFINISHED: Final = ".dovetail-tmp-"


@define
class Tally:
    """The results of one variant."""

    runs: int = 0
    kills: int = 0
    #: Kills during a save.
    while_saving: int = 0
    lost: int = 0
    differing: int = 0


def start(folder: Path, variant: str) -> int:
    """Start an attempt in another process, and return its id."""
    pid = os.fork()
    if pid:
        return pid
    os.chdir(folder)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os._exit(command_line(["run", "killed.toml", *VARIANTS[variant], "--quiet"]))


def wait_for(pid: int, seconds: float) -> int | None:
    """Return the exit code of a process, or None if it does not end within ``seconds``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    return None


def prepare(folder: Path) -> None:
    """Create a folder with the run file and its data."""
    folder.mkdir()
    rows = [f"{x},{100 - x},{'right' if x > 50 else 'left'}" for x in range(100)]
    (folder / "points.csv").write_text("x,y,side\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (folder / "killed.toml").write_text(RUN_FILE, encoding="utf-8")


def finished(folder: Path) -> Path | None:
    """Return the folder of the run if it has finished, else None."""
    for path in folder.glob("runs/killed/*/run.json"):
        if json.loads(path.read_text(encoding="utf-8"))["status"] in {"completed", "stopped_early"}:
            return path.parent
    return None


def run_uninterrupted(folder: Path, variant: str) -> tuple[str, float]:
    """Return the digest of an uninterrupted run, and its duration in seconds."""
    prepare(folder)
    started = time.monotonic()
    code = wait_for(start(folder, variant), 300)
    seconds, run = time.monotonic() - started, finished(folder)
    if code or run is None:
        raise SystemExit(f"{variant}: {(folder / 'output.txt').read_text(encoding='utf-8')}")
    return digest(run), seconds


def run_with_kills(folder: Path, variant: str, *, expected: str, longest: float, tally: Tally, most: int) -> None:
    """Kill a run up to ``most`` times, resume it until it finishes, and add the results to ``tally``."""
    prepare(folder)
    newest = -1
    tally.runs += 1
    while (run := finished(folder)) is None:
        pid = start(folder, variant)
        code = wait_for(pid, random.uniform(0, longest) if most else 300)  # noqa: S311 (not for secrets)
        if code is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            tally.kills, most = tally.kills + 1, most - 1
        elif code:
            raise SystemExit(f"{variant}: exit code {code}: {(folder / 'output.txt').read_text(encoding='utf-8')}")
        newest = verify(folder, newest, tally, was_killed=code is None)
    if digest(run) != expected:
        tally.differing += 1
        print(f"{variant}: {run} differs", file=sys.stderr)


def verify(folder: Path, newest: int, tally: Tally, *, was_killed: bool) -> int:
    """Verify every checkpoint, count lost ones, and return the newest step."""
    steps = [-1]
    for path in folder.glob("runs/killed/*/checkpoints/step-*"):
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            tally.lost += 1
            print(error, file=sys.stderr)
        steps.append(int(path.name.split("-")[1]))
    partial = [*folder.glob(f"runs/killed/*/checkpoints/{UNFINISHED}*")]
    if was_killed and any(time.time() - path.lstat().st_mtime < 1 for path in partial):
        tally.while_saving += 1
    if max(steps) < newest:
        tally.lost += 1
        print(
            f"{folder}: the newest checkpoint was step {newest}, but is step {max(steps)} after the kill",
            file=sys.stderr,
        )
    return max(steps)


def digest(run: Path) -> str:
    """Return the SHA-256 of the results of a run, without what depends on the clock."""
    state = read_checkpoint(max((run / "checkpoints").glob("step-*")))
    compared = {name: state[name] for name in ("model", "optimizer", "scheduler", "ema", "rng") if name in state}
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    with ExperimentDB(run.parents[1] / "experiments.db") as database:
        (row,) = [row for row in database.list_runs() if row["folder"] == str(run.absolute())]
        metrics = database.get_metrics(row["run_id"])
    sha = hashlib.sha256()
    feed(sha, compared)
    feed(sha, [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()])
    feed(sha, [json.loads(line) for line in (run / "tracked.jsonl").read_text(encoding="utf-8").splitlines()])
    feed(sha, [list(metric.values()) for metric in metrics if metric["name"] not in CLOCK])
    feed(sha, {key: record[key] for key in ("status", "epochs", "steps", "test")})
    return sha.hexdigest()


def feed(sha: Any, value: Any) -> None:
    """Add the bits of a nested value to a digest."""
    match value:
        case torch.Tensor():
            sha.update(f"{value.dtype}{tuple(value.shape)}".encode() + value.contiguous().view(-1).numpy().tobytes())
        case np.ndarray():
            sha.update(value.tobytes())
        case Mapping():
            for key in sorted(set(value) - CLOCK, key=str):
                sha.update(repr(key).encode())
                feed(sha, value[key])
        case list() | tuple():
            sha.update(f"{len(value)}".encode())
            for item in value:
                feed(sha, item)
        case _:
            sha.update(repr(value).encode())


def main() -> int:
    """Kill and compare runs, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--print-only", action="store_true", help="do not write RESULTS.md")
    options = parser.parse_args()
    random.seed(options.seed)
    tallies = {variant: Tally() for variant in VARIANTS}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dovetail-kill-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        references = {
            variant: run_uninterrupted(folder / f"{number}", variant) for number, variant in enumerate(VARIANTS)
        }
        number = 0
        while (left := options.kills - sum(tally.kills for tally in tallies.values())) > 0:
            variant = list(VARIANTS)[number % len(VARIANTS)]
            expected, seconds = references[variant]
            run_with_kills(
                folder / f"killed-{number}",
                variant,
                expected=expected,
                longest=0.7 * seconds,
                tally=tallies[variant],
                most=min(left, MAX_KILLS),
            )
            number += 1
    rows = [
        [variant, tally.runs, tally.kills, tally.while_saving, tally.lost, tally.differing]
        for variant, tally in tallies.items()
    ]
    sums = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    text = table(
        ["variant", "runs", "SIGKILLs", "during a save", "lost checkpoints", "runs that differ"],
        [*rows, ["**all**", *sums]],
    )
    about = (
        f"{versions('dovetail', 'torch')}. Runs of 4 epochs with a checkpoint every 5 updates and after each epoch, "
        f"killed after a random time and resumed until finished ({time.monotonic() - started:.0f} s in total). "
        "Weights, optimizer, generators, log, trackers and test results are compared bit for bit with those of "
        "uninterrupted runs."
    )
    if options.print_only:
        print(text)
    else:
        record("Kills", "make bench-kill", f"{about}\n\n{text}")
    return 1 if sums[3] or sums[4] else 0


if __name__ == "__main__":
    sys.exit(main())
