"""Find run folders, read their records and metrics, and compare two runs.

This module never imports torch and never executes anything from a run folder: records are JSON and TOML.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import tomli
from attrs import field, frozen

from dovetail.config.notation import NONE
from dovetail.record.layout import METRICS, RECORD, RESOLVED, external_folder

_NOT_FINITE: Final = ("nan", "inf", "-inf", "NaN", "Infinity", "-Infinity")

#: Shown in place of a value that one of two compared runs does not have.
ABSENT: Final = "—"


class RunLookupError(LookupError):
    """No run, or more than one, matches a reference; the message lists the runs there are."""


@frozen
class RunRecord:
    """One run on disk, read from its ``run.json``; what is missing there is empty here."""

    folder: Path
    data: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """The run's id: the name of its folder."""
        return str(self.data.get("id") or self.folder.name)

    @property
    def name(self) -> str:
        """The run's name from its config."""
        return str(self.data.get("name") or self.folder.parent.name)

    @property
    def status(self) -> str:
        """The run's ``Outcome.status``, or ``running``, or ``unreadable``."""
        return str(self.data.get("status") or "unreadable")

    @property
    def started(self) -> str:
        """The time the run started, ISO 8601 in UTC."""
        return str(self.data.get("started") or "")

    @property
    def duration(self) -> float | None:
        """The run's duration in seconds."""
        return as_number(self.data.get("duration_s"))

    @property
    def best(self) -> tuple[str, float] | None:
        """The monitored metric and its best value."""
        best = as_table(self.data.get("best"))
        value = as_number(best.get("value"))
        return None if value is None else (str(best.get("metric") or "best"), value)

    @property
    def test(self) -> dict[str, float]:
        """The test metrics that are plain numbers, named ``test_…``."""
        return numbers_in({named("test", key): value for key, value in as_table(self.data.get("test")).items()})

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the last epoch that are plain numbers."""
        return numbers_in(as_table(self.data.get("metrics")))


def as_table(value: object) -> Mapping[str, Any]:
    """Return ``value`` if it is a table, else an empty one: a record may hold anything."""
    return value if isinstance(value, Mapping) else {}


def as_number(value: object) -> float | None:
    """Return ``value`` as a float if it is a number or the text of a non-finite one, such as ``"nan"``; else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    return float(value) if isinstance(value, str) and value in _NOT_FINITE else None


def numbers_in(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries of ``values`` that are numbers, as floats."""
    return {key: found for key, value in values.items() if (found := as_number(value)) is not None}


def named(prefix: str, metric: str) -> str:
    """Return ``prefix_metric``; a metric that already has the prefix is unchanged."""
    return metric if metric.startswith(f"{prefix}_") else f"{prefix}_{metric}"


def load_run(folder: Path) -> RunRecord:
    """Return the record of one run folder.

    Raises:
        RunLookupError: the folder has no readable ``run.json``.
    """
    try:
        data = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunLookupError(f"{folder} is not a run folder: it has no {RECORD}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunLookupError(f"{folder / RECORD} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise RunLookupError(f"{folder / RECORD} is not the record of a run")
    return RunRecord(folder, data)


def find_runs(output: Path) -> list[RunRecord]:
    """Return every run under ``output`` (``<output>/<name>/<id>/run.json``), oldest first.

    A run whose record cannot be read is listed too, with the status ``unreadable``.
    """
    found = []
    for record in output.glob(f"*/*/{RECORD}"):
        try:
            found.append(load_run(record.parent))
        except RunLookupError:
            found.append(RunRecord(record.parent, {}))
    return sorted(found, key=lambda run: (run.started or run.id, run.id))


def find_run(reference: str, output: Path) -> RunRecord:
    """Return the run that ``reference`` names.

    Args:
        reference: ``latest``, or ``latest~1`` for the one before; a run's name, for its newest run; the beginning of
            an id, or of its last six digits; ``name/id``; or the path of a run folder.
        output: the folder of all runs; not used where ``reference`` is a path.

    Raises:
        RunLookupError: no run, or more than one, matches.
    """
    if (Path(reference) / RECORD).is_file():
        return load_run(Path(reference))
    runs = find_runs(output)
    if not runs:
        raise RunLookupError(f"there are no runs in {output}")
    latest = re.fullmatch(r"latest(?:~(\d{1,6}))?", reference)
    if latest:
        back = int(latest[1] or 0)
        if back >= len(runs):
            raise RunLookupError(f"'{reference}': there are only {len(runs)} runs in {output}")
        return runs[-1 - back]
    of_name = [run for run in runs if run.name == reference]
    if of_name:
        return of_name[-1]
    matching = [run for run in runs if reference in {run.id, f"{run.name}/{run.id}"}] or [
        run for run in runs if reference and (run.id.startswith(reference) or _digits(run.id).startswith(reference))
    ]
    if len(matching) == 1:
        return matching[0]
    if matching:
        shown = ", ".join(f"{run.name}/{run.id}" for run in matching[:5])
        more = f" and {len(matching) - 5} more" if len(matching) > 5 else ""  # noqa: PLR2004 (as many as fit on a line)
        raise RunLookupError(f"'{reference}' could be {shown}{more}; give more of the id")
    raise RunLookupError(f"there is no run '{reference}' in {output}; 'dovetail runs list' shows all runs")


def checkpoint_folder(run: RunRecord) -> Path:
    """Return the folder of a run's checkpoints: in its own folder, or below ``paths.models``."""
    models = as_table(read_config(run.folder).get("paths")).get("models", NONE)
    root = None if models == NONE else Path(str(models))
    return external_folder(root, run.name, run.id) or run.folder / "checkpoints"


def _digits(run_id: str) -> str:
    return run_id.rpartition("-")[2]


# --- metrics over time ------------------------------------------------------------------------------------------------


@frozen
class Point:
    """One value of a metric."""

    step: int
    epoch: int
    value: float


def read_events(folder: Path, name: str = METRICS) -> Iterator[Mapping[str, Any]]:
    """Yield the events of a JSON-lines file in the order of writing, skipping lines that are not complete."""
    try:
        with (folder / name).open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(event, dict):
                    yield event
    except FileNotFoundError:
        return


def read_series(folder: Path) -> dict[str, list[Point]]:
    """Return the values of each metric by step, without those of the test.

    A metric that several kinds of event report (the training loss of single updates and of whole epochs) is taken from
    the kind that reports it most often: their values are means over different numbers of steps and do not form one
    curve. If a step was recorded twice, because the run was resumed from an earlier checkpoint, the later value counts.
    """
    by_metric: dict[str, dict[str, dict[int, Point]]] = {}
    for event in read_events(folder):
        kind, step, epoch = str(event.get("event")), as_number(event.get("step")), as_number(event.get("epoch"))
        if kind == "test" or step is None or not math.isfinite(step):
            continue
        for name, value in numbers_in(as_table(event.get("metrics"))).items():
            by_metric.setdefault(name, {}).setdefault(kind, {})[int(step)] = Point(int(step), int(epoch or 0), value)
    series = {name: max(by_kind.values(), key=len) for name, by_kind in by_metric.items()}
    return {name: [values[step] for step in sorted(values)] for name, values in series.items()}


# --- differences ------------------------------------------------------------------------------------------------------


@frozen
class Difference:
    """One value that differs between two runs."""

    #: ``config``, ``versions``, ``data``, ``run`` or ``metrics``.
    section: str
    path: str
    left: Any
    right: Any


def read_config(folder: Path) -> dict[str, Any]:
    """Return a run's resolved config as plain tables; empty if it cannot be read."""
    try:
        return tomli.loads((folder / RESOLVED).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}


def flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one table with dotted keys; an empty table is a value."""
    values: dict[str, Any] = {}
    for key, value in tables.items():
        path = f"{prefix}{key}" if re.fullmatch(r"[\w-]+", key) else f'{prefix}"{key}"'
        if isinstance(value, Mapping) and value:
            values |= flat(value, f"{path}.")
        else:
            values[path] = value
    return values


def compare(left: RunRecord, right: RunRecord) -> list[Difference]:
    """Return what differs between two runs: config, versions, data, device and status, metrics."""
    pairs = {
        "config": (flat(read_config(left.folder)), flat(read_config(right.folder))),
        "versions": (flat(as_table(left.data.get("versions"))), flat(as_table(right.data.get("versions")))),
        "data": (flat(as_table(left.data.get("data"))), flat(as_table(right.data.get("data")))),
        "run": (_environment(left), _environment(right)),
        "metrics": (_metrics(left), _metrics(right)),
    }
    return [
        Difference(section, path, before.get(path, ABSENT), after.get(path, ABSENT))
        for section, (before, after) in pairs.items()
        for path in {**before, **after}
        if not _same(before.get(path, ABSENT), after.get(path, ABSENT))
    ]


def _same(left: Any, right: Any) -> bool:
    """Return whether two values are equal, with NaN equal to itself."""
    return bool(left == right) or (left != left and right != right)  # noqa: PLR0124 (only NaN differs from itself)


def _environment(run: RunRecord) -> dict[str, Any]:
    kept = ("status", "reason", "device", "precision", "parameters", "host")
    return {key: run.data[key] for key in kept if key in run.data} | flat({"git": as_table(run.data.get("git"))})


def _metrics(run: RunRecord) -> dict[str, float]:
    best = {f"best {run.best[0]}": run.best[1]} if run.best else {}
    seconds = {"duration_s": run.duration} if run.duration is not None else {}
    return {**best, **run.metrics, **run.test, **seconds}
