"""Reading the folders that runs leave behind: finding them, their figures, and what differs between two.

Nothing here imports torch or runs anything that a run folder contains: records are JSON and TOML, whoever wrote them.
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
from dovetail.record.files import METRICS, RECORD, RESOLVED

_NOT_FINITE: Final = ("nan", "inf", "-inf", "NaN", "Infinity", "-Infinity")

#: Stands in a difference where one of two runs has no such value.
ABSENT: Final = "—"


class RunLookupError(LookupError):
    """No run, or more than one, answers to a reference; the message says which runs there are."""


@frozen
class RunRecord:
    """One run on disk, as its ``run.json`` tells it. Whatever is missing there is empty here."""

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
        """How it ended, in the words of ``Outcome.status``; or ``running``, or ``unreadable``."""
        return str(self.data.get("status") or "unreadable")

    @property
    def started(self) -> str:
        """When it started, ISO 8601 in UTC."""
        return str(self.data.get("started") or "")

    @property
    def duration(self) -> float | None:
        """Seconds it took."""
        return number(self.data.get("duration_s"))

    @property
    def best(self) -> tuple[str, float] | None:
        """The monitored metric and its best value."""
        best = table(self.data.get("best"))
        value = number(best.get("value"))
        return None if value is None else (str(best.get("metric") or "best"), value)

    @property
    def test(self) -> dict[str, float]:
        """The test figures that are plain numbers, named ``test_…``."""
        return scalars({named("test", key): value for key, value in table(self.data.get("test")).items()})

    @property
    def metrics(self) -> dict[str, float]:
        """The figures of the last epoch that are plain numbers."""
        return scalars(table(self.data.get("metrics")))


def table(value: object) -> Mapping[str, Any]:
    """Return ``value`` if it is a table, else an empty one: a record may have been written by anyone."""
    return value if isinstance(value, Mapping) else {}


def number(value: object) -> float | None:
    """Return ``value`` as a float if it is a number, or one of the words that stand for what JSON has no number for."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    return float(value) if isinstance(value, str) and value in _NOT_FINITE else None


def scalars(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries of ``values`` that are numbers."""
    return {key: found for key, value in values.items() if (found := number(value)) is not None}


def named(prefix: str, metric: str) -> str:
    """Return ``prefix_metric``, whether or not the metric already has the prefix."""
    return metric if metric.startswith(f"{prefix}_") else f"{prefix}_{metric}"


def load_run(folder: Path) -> RunRecord:
    """Read one run folder.

    Raises:
        RunLookupError: it has no readable ``run.json``.
    """
    try:
        data = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{folder} is no run folder: it has no {RECORD}"
        raise RunLookupError(msg) from None
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{folder / RECORD} cannot be read: {error}"
        raise RunLookupError(msg) from error
    if not isinstance(data, dict):
        msg = f"{folder / RECORD} is not the record of a run"
        raise RunLookupError(msg)
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
    """Return the run that ``reference`` means.

    Args:
        reference: ``latest``, or ``latest~1`` for the one before; a run's name, for its newest run; an id, or the
            beginning of one or of its last six digits; ``name/id``; or the path of a run folder.
        output: the folder that runs are looked up in, unless ``reference`` is a path.

    Raises:
        RunLookupError: nothing answers to it, or several runs do.
    """
    if (Path(reference) / RECORD).is_file():
        return load_run(Path(reference))
    runs = find_runs(output)
    if not runs:
        msg = f"there are no runs in {output}"
        raise RunLookupError(msg)
    latest = re.fullmatch(r"latest(?:~(\d{1,6}))?", reference)
    if latest:
        back = int(latest[1] or 0)
        if back >= len(runs):
            msg = f"'{reference}': there are only {len(runs)} runs in {output}"
            raise RunLookupError(msg)
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
        more = f" and {len(matching) - 5} more" if len(matching) > 5 else ""  # noqa: PLR2004 (as many as fit a line)
        msg = f"'{reference}' could be {shown}{more}"
        raise RunLookupError(msg)
    msg = f"there is no run '{reference}' in {output}; 'dovetail runs list' shows them"
    raise RunLookupError(msg)


def checkpoint_folder(run: RunRecord) -> Path:
    """Return where a run keeps its checkpoints: in its own folder, or in ``paths.models``."""
    models = table(read_config(run.folder).get("paths")).get("models", NONE)
    return run.folder / "checkpoints" if models == NONE else Path(str(models)) / run.name / run.id


def _digits(run_id: str) -> str:
    return run_id.rpartition("-")[2]


# --- figures over time ------------------------------------------------------------------------------------------------


@frozen
class Point:
    """One value of a figure."""

    step: int
    epoch: int
    value: float


def read_events(folder: Path, name: str = METRICS) -> Iterator[Mapping[str, Any]]:
    """Yield the events of ``metrics.jsonl``, or alerts, in the order of writing, without a line that was cut short."""
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
    """Return each figure's values by step, without the test's.

    A figure that several events tell (the training loss of some updates, and of whole epochs) is taken from the one
    that tells it most often: they are means over different stretches and make no common curve. Where a step was
    recorded twice, because a run went on from an earlier checkpoint, the later record counts.
    """
    told: dict[str, dict[str, dict[int, Point]]] = {}
    for event in read_events(folder):
        kind, step, epoch = str(event.get("event")), number(event.get("step")), number(event.get("epoch"))
        if kind == "test" or step is None or not math.isfinite(step):
            continue
        for name, value in scalars(table(event.get("metrics"))).items():
            told.setdefault(name, {}).setdefault(kind, {})[int(step)] = Point(int(step), int(epoch or 0), value)
    series = {name: max(by_kind.values(), key=len) for name, by_kind in told.items()}
    return {name: [values[step] for step in sorted(values)] for name, values in series.items()}


# --- differences ------------------------------------------------------------------------------------------------------


@frozen
class Difference:
    """One thing that is not the same in two runs."""

    #: ``config``, ``versions``, ``data``, ``run`` or ``metrics``.
    section: str
    path: str
    left: Any
    right: Any


def read_config(folder: Path) -> dict[str, Any]:
    """Return a run's resolved config as plain tables; empty where it cannot be read."""
    try:
        return tomli.loads((folder / RESOLVED).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}


def flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one, with dotted keys; an empty table is a value."""
    values: dict[str, Any] = {}
    for key, value in tables.items():
        path = f"{prefix}{key}" if re.fullmatch(r"[\w-]+", key) else f'{prefix}"{key}"'
        if isinstance(value, Mapping) and value:
            values |= flat(value, f"{path}.")
        else:
            values[path] = value
    return values


def compare(left: RunRecord, right: RunRecord) -> list[Difference]:
    """Return what differs between two runs: config, versions, data, circumstances, and their figures."""
    pairs = {
        "config": (flat(read_config(left.folder)), flat(read_config(right.folder))),
        "versions": (flat(table(left.data.get("versions"))), flat(table(right.data.get("versions")))),
        "data": (flat(table(left.data.get("data"))), flat(table(right.data.get("data")))),
        "run": (_circumstances(left), _circumstances(right)),
        "metrics": (_figures(left), _figures(right)),
    }
    return [
        Difference(section, path, one.get(path, ABSENT), other.get(path, ABSENT))
        for section, (one, other) in pairs.items()
        for path in {**one, **other}
        if not _same(one.get(path, ABSENT), other.get(path, ABSENT))
    ]


def _same(left: Any, right: Any) -> bool:
    """Say whether two values are equal; NaN is equal to itself here."""
    return bool(left == right) or (left != left and right != right)  # noqa: PLR0124 (only NaN differs from itself)


def _circumstances(run: RunRecord) -> dict[str, Any]:
    kept = ("status", "reason", "device", "precision", "parameters", "host")
    return {key: run.data[key] for key in kept if key in run.data} | flat({"git": table(run.data.get("git"))})


def _figures(run: RunRecord) -> dict[str, float]:
    best = {f"best {run.best[0]}": run.best[1]} if run.best else {}
    seconds = {"duration_s": run.duration} if run.duration is not None else {}
    return {**best, **run.metrics, **run.test, **seconds}
