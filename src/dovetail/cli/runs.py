"""``dovetail runs``: what has been trained here. Reads records only; imports neither torch nor plugins."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dovetail.cli import complete
from dovetail.cli.lazy import LazyGroup
from dovetail.cli.options import json_option, output_option
from dovetail.cli.text import columns, examples

if TYPE_CHECKING:
    from dovetail.record.runs import Difference, RunRecord


@click.group(
    cls=LazyGroup,
    epilog=examples("dovetail runs list", "dovetail runs show latest", "dovetail runs diff 3f9c1a latest"),
)
def runs() -> None:
    """List, show and compare runs."""


@runs.command("list", epilog=examples("dovetail runs list --name digits", "dovetail runs list --status failed"))
@output_option
@click.option("--name", metavar="NAME", help="Only runs of this name.")
@click.option(
    "--status",
    metavar="STATUS",
    shell_complete=complete.statuses,
    help="Only runs that ended so: completed, failed, interrupted …",
)
@click.option("--limit", "-n", type=click.IntRange(min=1), metavar="N", help="Only the newest N.")
@json_option
def list_(*, output: str, name: str | None, status: str | None, limit: int | None, as_json: bool) -> None:
    """List the runs, the newest first."""
    from dovetail.record.runs import find_runs
    from dovetail.record.words import duration, share

    found = [run for run in reversed(find_runs(Path(output))) if name in {None, run.name}]
    found = [run for run in found if status in {None, run.status}][:limit]
    if as_json:
        click.echo(json.dumps([_as_json(run) for run in found], ensure_ascii=False, indent=2))
        return
    if not found:
        click.echo(f"there are no such runs in {output}")
    rows = [
        [
            run.name,
            run.id,
            run.status.replace("_", " "),
            f"{run.best[0]} {share(*run.best)}" if run.best else "",
            _headline(run),
            duration(run.duration) if run.duration is not None else "",
        ]
        for run in found
    ]
    click.echo(
        "\n".join(columns(rows, head=["NAME", "ID", "STATUS", "BEST", "TEST", "TIME"], right="5")), nl=bool(rows)
    )


@runs.command(epilog=examples("dovetail runs show latest", "dovetail runs show 3f9c1a"))
@click.argument("run", default="latest", shell_complete=complete.runs)
@output_option
@json_option
def show(run: str, *, output: str, as_json: bool) -> None:
    """Show one run: its outcome, figures and settings.

    RUN is an id or the beginning of one (or of its last six digits), a run's name for its newest run, "latest" (or
    "latest~1" for the one before), or the path of a run folder.
    """
    from dovetail.record.runs import find_run

    found = find_run(run, Path(output))
    if as_json:
        click.echo(json.dumps(_as_json(found), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(_lines(found)))


@runs.command(epilog=examples("dovetail runs diff digits latest"))
@click.argument("left", shell_complete=complete.runs)
@click.argument("right", default="latest", shell_complete=complete.runs)
@output_option
@json_option
def diff(left: str, right: str, *, output: str, as_json: bool) -> None:
    """Show what differs between two runs: settings, versions, data, figures. They are named as for "show"."""
    from dovetail.record.runs import compare, find_run

    pair = [find_run(one, Path(output)) for one in (left, right)]
    differences = compare(*pair)
    if as_json:
        document = {
            "left": str(pair[0].folder),
            "right": str(pair[1].folder),
            "differences": [
                {"section": one.section, "path": one.path, "left": one.left, "right": one.right} for one in differences
            ],
        }
        click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))
        return
    if not differences:
        click.echo("no difference")
        return
    rows = [["", *(f"{one.name}/{one.id}" for one in pair)]]
    for section in dict.fromkeys(one.section for one in differences):
        rows += [[section, "", ""], *([f"  {one.path}", *_sides(one)] for one in differences if one.section == section)]
    click.echo("\n".join(columns(rows)))


def _sides(one: Difference) -> list[str]:
    return [_value(one.section, one.path, value) for value in (one.left, one.right)]


def _value(section: str, path: str, value: Any) -> str:
    from dovetail.config.notation import inline, visible
    from dovetail.record.runs import ABSENT
    from dovetail.record.words import share

    if value == ABSENT:
        return ABSENT
    if section == "metrics":
        return share(path.rpartition(" ")[2], value)
    try:
        return visible(inline(value) if section == "config" else str(value))
    except TypeError:
        return visible(str(value))


def _as_json(run: RunRecord) -> dict[str, Any]:
    return {**run.data, "id": run.id, "name": run.name, "status": run.status, "folder": str(run.folder)}


def _headline(run: RunRecord) -> str:
    from dovetail.record.words import share

    names = sorted(run.test, key=lambda name: (name != "test_accuracy", name == "test_loss", name))
    return f"{names[0].removeprefix('test_')} {share(names[0], run.test[names[0]])}" if names else ""


def _lines(run: RunRecord) -> list[str]:
    from dovetail.record.files import REPORT, RESOLVED
    from dovetail.record.progress import in_words
    from dovetail.record.runs import read_series
    from dovetail.record.words import figure, share, sparkline

    data = run.data
    rows: list[tuple[str, str]] = [("status", run.status.replace("_", " "))]
    rows += [(key, str(data[key])) for key in ("reason", "stopped_by", "experiment") if data.get(key)]
    if run.started:
        rows.append(("started", run.started[:19].replace("T", " ") + " UTC"))
    rows += _circumstances(run)
    if run.best:
        best = data.get("best") or {}
        rows.append(("best", f"{run.best[0]} {share(*run.best)} in epoch {best.get('epoch', '?')}"))
    if run.metrics:
        rows.append(("last", in_words(run.metrics)))
    if run.test:
        rows.append(("test", in_words(run.test).replace("test_", "")))
    for name, points in read_series(run.folder).items():
        if name.startswith(("train_", "val_")):
            values = [point.value for point in points]
            rows.append((name, f"{sparkline(values, 32)}  {figure(values[0])} → {figure(values[-1])}"))
    rows.append(("folder", str(run.folder)))
    if (run.folder / REPORT).is_file():
        rows.append(("report", str(run.folder / REPORT)))
    if isinstance(data.get("command"), list):
        rows.append(("command", shlex.join(map(str, data["command"]))))
    if (run.folder / RESOLVED).is_file():
        rows.append(("again", shlex.join(["dovetail", "run", str(run.folder / RESOLVED)])))
    return [f"{run.name}/{run.id}", *columns([list(row) for row in rows], indent="  ")]


def _circumstances(run: RunRecord) -> list[tuple[str, str]]:
    from dovetail.record.runs import number, table
    from dovetail.record.words import duration

    rows = [("time", duration(run.duration))] if run.duration is not None else []
    machine = [str(run.data[key]) for key in ("device", "precision") if run.data.get(key)]
    parameters = number(run.data.get("parameters"))
    machine += [f"{int(parameters):,} parameters"] if parameters is not None else []
    if machine:
        rows.append(("on", " · ".join(machine)))
    sizes = table(table(run.data.get("data")).get("sizes"))
    known = [f"{int(size):,} {name}" for name, one in sizes.items() if (size := number(one)) is not None]
    if known:
        rows.append(("samples", " · ".join(known)))
    return rows
