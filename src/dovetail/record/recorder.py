"""The record of a run, ``run.json``: its settings, environment and results. And ``runs.md``, the log of all runs."""

from __future__ import annotations

import datetime as dt
import logging
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from attrs import evolve

from dovetail.config.freeze import config_hash, freeze, leaves, numeric_hash, origins, parts_of
from dovetail.config.notation import inline
from dovetail.monitor.memory import memory_peaks
from dovetail.record.formatting import compute_precision
from dovetail.spec.process import LAUNCH_ID

if TYPE_CHECKING:
    from dovetail.checkpoint.listing import Checkpoint
    from dovetail.config.schema import RunConfig
    from dovetail.record.run_directory import RunDirectory
    from dovetail.train.checkpoints.resume import Earlier
    from dovetail.train.context import Run
    from dovetail.train.state import Outcome

_logger: Final = logging.getLogger("dovetail.run")

_GIT_SECONDS: Final = 5.0
_RUNS_LOG: Final = "runs.md"
_HEADING: Final = (
    "| started (UTC) | run | status | epochs | best | test | seconds | config | changed on the command line |\n"
)
_RULE: Final = "|---|---|---|---|---|---|---|---|---|\n"


class Recorder:
    """Writes ``run.json`` at the start, after each epoch and checkpoint, and at the end."""

    def __init__(
        self,
        store: RunDirectory,
        config: RunConfig,
        device: torch.device,
        command: Sequence[str] = (),
        *,
        earlier: Earlier | None = None,
        listed: bool = True,
    ) -> None:
        """Write the settings and the record of a run that starts now.

        Args:
            store: the run's folder.
            config: the resolved config.
            device: the device the run computes on.
            plugins: the version of each distribution that provides a part.
            command: the command line that started the run; empty from Python.
            earlier: the record of a run to resume. It stays unchanged until :meth:`resumed` is called.
            listed: whether :meth:`finish` adds a line to the log of all runs.
        """
        self._store, self._config, self._listed = store, config, listed
        self._device = device
        written = [(path, value, str(origin)) for path, value, origin in leaves(config)]
        arguments = [f"{path}={inline(value)}" for path, value, origin in written if origin.startswith("command line")]
        self.record: dict[str, Any] = {
            "id": store.id,
            "name": config.run.name,
            "experiment": config.run.experiment,
            "notes": config.run.notes,
            "tags": list(config.run.tags),
            "status": "running",
            "reason": "",
            "stopped_by": None,
            "started": _now(),
            "finished": None,
            "duration_s": 0.0,
            "config_hash": config_hash(config),
            "numeric_hash": numeric_hash(config),
            "seed": config.run.seed,
            "device": str(device),
            "precision": config.training.precision,
            "parameters": None,
            "versions": versions(_distributions(config)),
            "git": git_state(Path.cwd()),
            "data": {},
            "command": list(command),
            "overrides": arguments,
            "profile": _first(written, "profile "),
            "config_file": next(
                (origin.rsplit(":", 2)[0] for _, _, origin in reversed(written) if _in_file(origin)), None
            ),
            "origins": origins(config),
            "epochs": 0,
            "steps": 0,
            "best": None,
            "metrics": {},
            "test": {},
            "memory_peaks": {},
            "host": host(),
            "checkpoint": None,
            "checkpoint_mode": None,
            "resumes": [],
            "launch": os.environ.get(LAUNCH_ID),
        }
        #: The earlier record, until it is known that the run can be resumed.
        self._earlier = None if earlier is None else earlier.record.data
        if earlier is None:
            store.freeze(freeze(config))
            store.write_record(self.record)

    def built(self, run: Run) -> None:
        """Add what is known after the parts are built: data, number of parameters, precision."""
        precision = compute_precision(self._config.training.precision, run.parts.model)
        self.record |= {"parameters": run.parts.num_trainable(), "precision": precision, "data": dict(run.data)}
        self.record["checkpoint_mode"] = run.checkpoints.mode  # a metric may have said it
        self._write(run.elapsed())

    def resumed(self, run: Run, checkpoint: Checkpoint | None, changed: Mapping[str, Any]) -> None:
        """Continue the record of a resumed run.

        Args:
            run: the run, restored from the checkpoint.
            checkpoint: the checkpoint it resumes from; None if it starts again from the beginning.
            changed: changed settings and versions, as ``{path: [before, now]}``.
        """
        earlier, self._earlier = self._earlier or {}, None
        state = run.state
        folder = None if checkpoint is None else os.path.relpath(checkpoint.path, self._store.path)
        kept = ("started", "command", "overrides", "profile", "config_file")
        # The original file of a setting says more than resolved.toml, which it comes from now.
        origins = {path: origin for path, origin in earlier.get("origins", {}).items() if path not in changed}
        entry = {
            "time": _now(),
            "epoch": state.epoch,
            "step": state.step,
            "checkpoint": folder,
            "command": self.record["command"],
            "changed": changed,
        }
        self.record |= {key: earlier[key] for key in kept if key in earlier}
        self.record["origins"] |= {path: origin for path, origin in origins.items() if path in self.record["origins"]}
        self.record["resumes"] = [*earlier.get("resumes", []), entry]
        self.record |= {"epochs": state.epoch, "steps": state.step, "checkpoint": folder}
        if checkpoint is not None and state.best_step is not None:
            # Computed again, since the earlier record may name a later best, which this run has not reached yet.
            best = next((kept.path for kept in run.checkpoints.ranked() if kept.step == state.best_step), None)
            saved = run.checkpoints.saved_at(state.best_step)
            self.record["best"] = {
                "epoch": state.best_epoch,
                "step": state.best_step,
                "metric": run.checkpoints.monitor,
                "value": state.best_metric,
                "val_loss": None if saved is None else saved.metrics.get("val_loss"),
                "checkpoint": None if best is None else os.path.relpath(best, self._store.path),
            }
        self._write(run.elapsed())

    def dovetail_epoch_end(self, run: Run, metrics: Mapping[str, float]) -> None:
        """Record the metrics of an epoch."""
        self.record |= {"epochs": run.state.epoch, "steps": run.state.step, "metrics": dict(metrics)}
        self._write(run.elapsed())

    def dovetail_checkpoint_saved(self, run: Run, checkpoint: Checkpoint) -> None:
        """Record the newest checkpoint, and the best one."""
        state = run.state
        if checkpoint.is_best:
            folder = os.path.relpath(checkpoint.path, self._store.path)
            metric, value = run.checkpoints.monitor, checkpoint.metrics[run.checkpoints.monitor]
            best = {"epoch": checkpoint.epoch, "step": checkpoint.step, "metric": metric, "value": value}
            self.record["best"] = {**best, "val_loss": checkpoint.metrics.get("val_loss"), "checkpoint": folder}
        newest = os.path.relpath(checkpoint.path, self._store.path)
        self.record |= {"epochs": state.epoch, "steps": state.step, "checkpoint": newest}
        self._write(run.elapsed())

    def finish(self, outcome: Outcome) -> Outcome:
        """Record how the run ended, add a line to the log of all runs, and return the outcome.

        If a run could not be resumed, its record stays unchanged. A run whose end cannot be recorded has failed.
        """
        if self._earlier is not None:
            return outcome
        try:
            self._finish(outcome)
        except OSError as error:
            _logger.exception("the end of the run was not recorded", exc_info=error)
            if outcome.error is None:
                return evolve(outcome, status="failed", reason=str(error), error=error)
        return outcome

    def _finish(self, outcome: Outcome) -> None:
        self.record |= {
            "status": outcome.status,
            "reason": outcome.reason,
            "stopped_by": outcome.stopped_by,
            "finished": _now(),
            "test": dict(outcome.test_metrics),
        }
        if outcome.metrics:
            self.record["metrics"] = dict(outcome.metrics)
        self._write(outcome.total_time)
        if self._listed:
            append_line(self._config.paths.output, self.record)

    def _write(self, seconds: float) -> None:
        if self._earlier is not None:
            return
        self.record["duration_s"] = round(seconds, 3)
        self.record["memory_peaks"] = memory_peaks(self._device)
        self._store.write_record(self.record)


def _distributions(config: RunConfig) -> dict[str, str]:
    """Return the version of each distribution that a part of the run comes from."""
    registered = [part.registered for part in parts_of(config) if part.registered is not None]
    return {each.distribution: each.version for each in registered}


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _in_file(origin: str) -> bool:
    return origin.rsplit(":", 2)[-1].isdigit()


def _first(written: Sequence[tuple[str, Any, str]], prefix: str) -> str | None:
    found = next((origin for _, _, origin in written if origin.startswith(prefix)), None)
    return None if found is None else found.removeprefix(prefix)


def versions(plugins: Mapping[str, str]) -> dict[str, Any]:
    """Return the versions that a run's results depend on."""
    import numpy as np

    import dovetail

    return {
        "python": platform.python_version(),
        "dovetail": dovetail.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "plugins": dict(sorted(plugins.items())),
    }


def host() -> str:
    """Return a description of this machine: name, system, number of CPUs, and the GPU if there is one."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.node()} ({platform.system()} {platform.machine()}, {os.cpu_count()} CPUs{gpu})"


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the git commit of ``folder`` and whether tracked files are modified; None outside a git repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 (a fixed command)
            ["git", *arguments],  # noqa: S607 (git is where the user has it)
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def append_line(output: Path, record: Mapping[str, Any]) -> None:
    """Append one run to ``runs.md``, a Markdown table of all runs.

    A single write to a file opened in append mode, so runs that end at the same moment do not mix their lines.
    """
    best, test = record["best"] or {}, record["test"]
    profile = [f"--profile {record['profile'].split()[0]}"] if record["profile"] else []
    tested = "test_accuracy" if "test_accuracy" in test else "test_loss"
    cells = [
        record["started"],
        f"[{record['name']}/{record['id']}]({record['name']}/{record['id']})",
        record["status"] + (f": {record['reason']}" if record["reason"] else ""),
        record["epochs"],
        f"{best['metric']} {best['value']:.6g} (epoch {best['epoch']})" if best else "",
        f"{tested.removeprefix('test_')} {test[tested]:.6g}" if tested in test else "",
        f"{record['duration_s']:.1f}",
        record["config_hash"][:12],
        " ".join([*profile, *record["overrides"]]),
    ]
    line = "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |\n"
    path = output / _RUNS_LOG
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        line = _HEADING + _RULE + line
    except FileExistsError:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
