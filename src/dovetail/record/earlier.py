"""Earlier runs: found again by their settings, and what may be different when one of them is resumed."""

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
from dovetail.record.files import LAUNCH, RESOLVED
from dovetail.record.runs import ABSENT, RunRecord, find_runs, flat, read_config, table
from dovetail.record.words import plural

_MAY_CHANGE: Final = (*NON_NUMERIC_KEYS, *LENGTH_KEYS)
#: What says how many processes train, and what each gets: free to change while an update is of as many samples.
_OF_PROCESSES: Final = ("hardware.devices", "hardware.strategy", "loader.batch_size", "training.accumulate")
#: How many of the differences between two runs fit a message.
_SHOWN: Final = 3


class ResumeError(RuntimeError):
    """A run cannot be resumed; the message says why and what helps."""


@frozen
class Change:
    """A setting that is not what it was when a run began."""

    path: str
    before: Any
    now: Any
    #: Where the earlier value came from.
    origin: str

    def may_be(self) -> bool:
        """Say whether a run may go on with the new value."""
        return any(self.path == key or self.path.startswith(f"{key}.") for key in _MAY_CHANGE)

    def of_length(self) -> bool:
        """Say whether it makes the run longer or shorter."""
        return self.path in LENGTH_KEYS

    def of_processes(self) -> bool:
        """Say whether it is of how many processes train, and how."""
        return self.path in _OF_PROCESSES

    def __str__(self) -> str:
        where = f" ({self.origin})" if self.origin else ""
        return f"{self.path}: {_shown(self.before)}{where} → {_shown(self.now)}"


def changes(run: RunRecord, config: RunConfig) -> list[Change]:
    """Return what is different in ``config`` from the settings of an earlier run.

    A setting that there was none of then, of an earlier version, and that nobody sets now, is no difference.
    """
    before, now = flat(read_config(run.folder)), flat(tomli.loads(freeze(config)))
    origins = table(run.data.get("origins"))
    new = {path for path, _, origin in leaves(config) if origin == DEFAULT and path not in before} if before else ()
    return [
        Change(path, before.get(path, ABSENT), now.get(path, ABSENT), str(origins.get(path, "")))
        for path in {**before, **now}
        if before.get(path, ABSENT) != now.get(path, ABSENT) and path not in new
    ]


def refuse_changes(run: RunRecord, config: RunConfig, changed: list[Change]) -> None:
    """Refuse what may not change when a run is resumed.

    Raises:
        ConfigError: with every such setting at its place, and what it was before.
    """
    others, updates = _in_the_way(run, config, changed)
    if updates:
        raise ConfigError([Problem(origin_of(config.tree, ("hardware", "devices")), "hardware.devices", updates)])
    written = {path: origin for path, _, origin in leaves(config)}
    problems = []
    for one in others:
        before = f"{_shown(one.before)} ({one.origin})" if one.origin else _shown(one.before)
        message = f"was {before} when {run.name}/{run.id} began, and is {_shown(one.now)}: may not change on resume"
        origin = written.get(one.path) or origin_of(config.tree, tuple(one.path.split(".")))
        problems.append(Problem(origin, one.path, message))
    if problems:
        raise ConfigError(problems)


def _in_the_way(run: RunRecord, config: RunConfig, changed: list[Change]) -> tuple[list[Change], str]:
    """Return which changes keep a run from going on, and what does of the number of processes; empty where nothing."""
    others = [one for one in changed if not one.may_be()]
    if not any(one.path.startswith("hardware.") for one in others if one.of_processes()):
        return others, ""
    return [one for one in others if not one.of_processes()], _other_updates(run, config)


def _other_updates(run: RunRecord, config: RunConfig) -> str:
    """Say where another number of processes would make updates of another number of samples, and what would not."""
    before = flat(read_config(run.folder))
    if not before:
        return f"how many processes trained is not known: {run.folder / RESOLVED} cannot be read"
    devices, size, batches = (before[one] for one in _OF_PROCESSES if one != "hardware.strategy")
    now = config.hardware.devices * config.loader.batch_size * config.training.accumulate
    was = devices * size * batches
    if now == was:
        return ""
    each, rest = divmod(was, config.hardware.devices)
    keeps = "" if rest else f": loader.batch_size={each} training.accumulate=1 keeps them"
    if not rest and not each % size and each != size:
        keeps += f", and so does training.accumulate={each // size} with batches of {size}"
    return (
        f"an update was of {was} samples ({plural(devices, 'process')}, batches of {size}, {batches} each) when "
        f"{run.name}/{run.id} began, and would be of {now}{keeps}"
    )


@frozen
class Found:
    """What ``checkpoint.resume`` comes to."""

    #: The run to go on with; None to begin one.
    run: RunRecord | None = None
    #: Why the newest unfinished run of this name is not the one, where it was looked for; empty without any.
    passed_over: str = ""


def find_earlier(config: RunConfig) -> Found:
    """Return the run that ``checkpoint.resume`` says to go on with: the newest that may go on as ``config`` has it.

    Processes that are started anew go on with what those before them began, whatever ``checkpoint.resume`` says.

    Raises:
        ConfigError: it says that there must be one, and there is none.
    """
    launch = os.environ.get(LAUNCH)
    if launch:
        begun = [one for one in find_runs(config.paths.output) if one.data.get("launch") == launch]
        if begun:
            return Found(begun[-1])
    policy, others = config.checkpoint.resume, []
    if policy == "never":
        return Found()
    for run in reversed(find_runs(config.paths.output)):
        if run.name != config.run.name or run.status == "unreadable" or (policy == "auto" and finished(run)):
            continue
        differences = _differences(run, config)
        if not differences:
            return Found(run)
        others.append(f"{run.id}, differs in {'; '.join(differences)}")
    if policy == "must":
        raise ConfigError([_none_to_resume(config, others)])
    return Found(passed_over=f"a new run begins: the newest that is not finished, {others[0]}" if others else "")


def _differences(run: RunRecord, config: RunConfig) -> list[str]:
    """Return what makes ``config`` another run; nothing where the two would come to the same, but for rounding."""
    if run.data.get("numeric_hash") == numeric_hash(config):
        return []
    changed = changes(run, config)
    others, updates = _in_the_way(run, config, changed)
    numeric = [*(one for one in changed if one.of_length()), *others]
    shown = [f"hardware.devices: {updates}"] if updates else []
    shown += [str(one) for one in numeric[:_SHOWN]]
    return [*shown, f"and {len(numeric) - _SHOWN} more"] if len(numeric) > _SHOWN else shown


def finished(run: RunRecord) -> bool:
    """Say whether a run has done all that it was to do."""
    return run.status in {"completed", "stopped_early"}


def _none_to_resume(config: RunConfig, others: list[str]) -> Problem:
    path, folder = "checkpoint.resume", config.paths.output / config.run.name
    message = f"there is no run with these settings in {folder}"
    if others:
        message += f"; the newest there, {others[0]}"
    return Problem(origin_of(config.tree, ("checkpoint", "resume")), path, message)


def _shown(value: Any) -> str:
    return ABSENT if value == ABSENT else inline(value)


def as_record(changed: list[Change]) -> Mapping[str, Any]:
    """Return changes as ``run.json`` keeps them: ``{path: [before, now]}``."""
    return {one.path: [one.before, one.now] for one in changed}
