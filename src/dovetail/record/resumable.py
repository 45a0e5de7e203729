"""Which earlier run to resume, and which of its settings may change."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import tomli
from attrs import frozen

from dovetail.config.diagnostics import DEFAULT, ConfigError, Problem
from dovetail.config.freeze import LENGTH_KEYS, NON_NUMERIC_KEYS, freeze, leaves, numeric_hash
from dovetail.config.notation import inline
from dovetail.config.schema import RunConfig
from dovetail.config.tree import origin_of
from dovetail.record.formatting import plural
from dovetail.record.layout import RESOLVED
from dovetail.record.runs import ABSENT, RunRecord, as_table, find_runs, flat, read_config
from dovetail.spec.process import LAUNCH_ID

_MAY_CHANGE: Final = (*NON_NUMERIC_KEYS, *LENGTH_KEYS)
#: The keys that set how many processes train and how many samples each gets. They may change together, as long as an
#: update is of the same number of samples.
_PROCESS_KEYS: Final = ("hardware.devices", "hardware.strategy", "loader.batch_size", "training.accumulate")
#: How many of the differences between two runs a message shows.
_SHOWN: Final = 3


class ResumeError(RuntimeError):
    """A run cannot be resumed; the message says why and what to do."""


@frozen
class Change:
    """A setting that differs from its value when the run started."""

    path: str
    before: Any
    now: Any
    #: Where the earlier value came from.
    origin: str

    def is_allowed(self) -> bool:
        """Return whether a run may be resumed with the new value."""
        return any(self.path == key or self.path.startswith(f"{key}.") for key in _MAY_CHANGE)

    def changes_length(self) -> bool:
        """Return whether the setting is the length of the run."""
        return self.path in LENGTH_KEYS

    def changes_processes(self) -> bool:
        """Return whether the setting determines how many processes train, or on how many samples."""
        return self.path in _PROCESS_KEYS

    def __str__(self) -> str:
        where = f" ({self.origin})" if self.origin else ""
        return f"{self.path}: {_format(self.before)}{where} → {_format(self.now)}"


def changed_settings(run: RunRecord, config: RunConfig) -> list[Change]:
    """Return the settings of ``config`` that differ from those of an earlier run.

    A setting that an earlier version of Dovetail did not have, and that is at its default now, is no difference.
    """
    before, now = flat(read_config(run.folder)), flat(tomli.loads(freeze(config)))
    origins = as_table(run.data.get("origins"))
    new = {path for path, _, origin in leaves(config) if origin == DEFAULT and path not in before} if before else ()
    return [
        Change(path, before.get(path, ABSENT), now.get(path, ABSENT), str(origins.get(path, "")))
        for path in {**before, **now}
        if before.get(path, ABSENT) != now.get(path, ABSENT) and path not in new
    ]


def check_changes(run: RunRecord, config: RunConfig, changed: list[Change]) -> None:
    """Check that a run may be resumed with changed settings.

    Raises:
        ConfigError: names every setting that may not change, at its place, with its earlier value.
    """
    refused, update_size = _refused(run, config, changed)
    if update_size:
        raise ConfigError([Problem(origin_of(config.tree, ("hardware", "devices")), "hardware.devices", update_size)])
    written = {path: origin for path, _, origin in leaves(config)}
    problems = []
    for change in refused:
        before = f"{_format(change.before)} ({change.origin})" if change.origin else _format(change.before)
        message = f"cannot change on resume: was {before} when {run.name}/{run.id} started, now {_format(change.now)}"
        origin = written.get(change.path) or origin_of(config.tree, tuple(change.path.split(".")))
        problems.append(Problem(origin, change.path, message))
    if problems:
        raise ConfigError(problems)


def _refused(run: RunRecord, config: RunConfig, changed: list[Change]) -> tuple[list[Change], str]:
    """Return the changes that may not be made, and what is wrong with the size of an update; empty if nothing is."""
    refused = [change for change in changed if not change.is_allowed()]
    if not any(change.path.startswith("hardware.") for change in refused if change.changes_processes()):
        return refused, ""
    return [change for change in refused if not change.changes_processes()], _explain_update_size(run, config)


def _explain_update_size(run: RunRecord, config: RunConfig) -> str:
    """Return a message if an update would be of another number of samples, with settings that keep it; else ``""``."""
    before = flat(read_config(run.folder))
    if not before:
        return f"cannot tell how many processes trained before: {run.folder / RESOLVED} cannot be read"
    devices, size, batches = (before[key] for key in _PROCESS_KEYS if key != "hardware.strategy")
    now = config.hardware.devices * config.loader.batch_size * config.training.accumulate
    was = devices * size * batches
    if now == was:
        return ""
    each, rest = divmod(was, config.hardware.devices)
    keeps = "" if rest else f"; loader.batch_size={each} training.accumulate=1 keeps {was}"
    if not rest and not each % size and each != size:
        keeps += f", and so does training.accumulate={each // size} with a batch size of {size}"
    return (
        f"an update would be of {now} samples, but was of {was} when {run.name}/{run.id} started "
        f"({plural(devices, 'process')}, batch size {size}, {batches} accumulated){keeps}"
    )


@frozen
class Resumable:
    """The answer to ``checkpoint.resume``."""

    #: The run to resume; None to start a new one.
    run: RunRecord | None = None
    #: Why the newest unfinished run of this name is not resumed; empty if there is none.
    warning: str = ""


def find_resumable(config: RunConfig) -> Resumable:
    """Return the run that ``checkpoint.resume`` asks for: the newest one that may be resumed with ``config``.

    Restarted processes resume the run that their command started, whatever ``checkpoint.resume`` says.

    Raises:
        ConfigError: ``checkpoint.resume`` is ``"must"`` and there is no such run.
    """
    launch = os.environ.get(LAUNCH_ID)
    if launch:
        started = [run for run in find_runs(config.paths.output) if run.data.get("launch") == launch]
        if started:
            return Resumable(started[-1])
    policy, others = config.checkpoint.resume, []
    if policy == "never":
        return Resumable()
    for run in reversed(find_runs(config.paths.output)):
        if run.name != config.run.name or run.status == "unreadable" or (policy == "auto" and is_finished(run)):
            continue
        differences = _differences(run, config)
        if not differences:
            return Resumable(run)
        others.append(f"{run.id}, differs in {'; '.join(differences)}")
    if policy == "must":
        raise ConfigError([_none_to_resume(config, others)])
    return Resumable(warning=f"starting a new run: the newest unfinished one, {others[0]}" if others else "")


def _differences(run: RunRecord, config: RunConfig) -> list[str]:
    """Return what makes ``config`` another run; empty if both give the same results, up to rounding."""
    if run.data.get("numeric_hash") == numeric_hash(config):
        return []
    changed = changed_settings(run, config)
    refused, update_size = _refused(run, config, changed)
    numeric = [*(change for change in changed if change.changes_length()), *refused]
    shown = [f"hardware.devices: {update_size}"] if update_size else []
    shown += [str(change) for change in numeric[:_SHOWN]]
    return [*shown, f"and {len(numeric) - _SHOWN} more"] if len(numeric) > _SHOWN else shown


def is_finished(run: RunRecord) -> bool:
    """Return whether a run has completed or stopped early."""
    return run.status in {"completed", "stopped_early"}


def _none_to_resume(config: RunConfig, others: list[str]) -> Problem:
    path, folder = "checkpoint.resume", config.paths.output / config.run.name
    message = f"there is no run with these settings in {folder}"
    if others:
        message += f"; the newest there, {others[0]}"
    return Problem(origin_of(config.tree, ("checkpoint", "resume")), path, message)


def _format(value: Any) -> str:
    return ABSENT if value == ABSENT else inline(value)


def changes_as_json(changed: list[Change]) -> Mapping[str, Any]:
    """Return changes as ``run.json`` keeps them: ``{path: [before, now]}``."""
    return {change.path: [change.before, change.now] for change in changed}
