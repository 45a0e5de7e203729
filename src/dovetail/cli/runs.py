"""``dovetail runs``: list, show and compare runs. Only reads records; imports neither torch nor plugins."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dovetail.cli import completion
from dovetail.cli.groups import LazyGroup
from dovetail.cli.options import RUN_REFERENCE, json_option, output_option
from dovetail.cli.output import columns, echo_json, examples

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
@click.option("--name", metavar="NAME", help="List only runs with this name.")
@click.option(
    "--status",
    metavar="STATUS",
    shell_complete=completion.statuses,
    help="List only runs with this status: completed, failed, interrupted …",
)
@click.option("--limit", "-n", type=click.IntRange(min=1), metavar="N", help="List only the newest N runs.")
@json_option
def list_(*, output: str, name: str | None, status: str | None, limit: int | None, as_json: bool) -> None:
    """List runs, the newest first."""
    from dovetail.record.formatting import format_duration, format_metric, headline
    from dovetail.record.runs import find_runs

    found = [run for run in reversed(find_runs(Path(output))) if name in {None, run.name}]
    found = [run for run in found if status in {None, run.status}][:limit]
    if as_json:
        echo_json([_as_json(run) for run in found])
        return
    if not found:
        click.echo(f"there are no such runs in {output}")
    rows = [
        [
            run.name,
            run.id,
            run.status.replace("_", " "),
            f"{run.best[0]} {format_metric(*run.best)}" if run.best else "",
            f"{tested[0].removeprefix('test_')} {format_metric(*tested)}" if (tested := headline(run.test)) else "",
            format_duration(run.duration) if run.duration is not None else "",
        ]
        for run in found
    ]
    click.echo(
        "\n".join(columns(rows, head=["NAME", "ID", "STATUS", "BEST", "TEST", "TIME"], right="5")), nl=bool(rows)
    )


@runs.command(
    epilog=examples("dovetail runs show latest", "dovetail runs show 3f9c1a"),
    help=f"Show one run: its outcome, metrics and settings.\n\n{RUN_REFERENCE}",
)
@click.argument("run", default="latest", shell_complete=completion.runs)
@output_option
@json_option
def show(run: str, *, output: str, as_json: bool) -> None:
    """Show one run: its outcome, metrics and settings."""
    from dovetail.record.runs import find_run

    found = find_run(run, Path(output))
    if as_json:
        echo_json(_as_json(found))
    else:
        click.echo("\n".join(_lines(found)))


@runs.command(epilog=examples("dovetail runs diff digits latest"))
@click.argument("left", shell_complete=completion.runs)
@click.argument("right", default="latest", shell_complete=completion.runs)
@output_option
@json_option
def diff(left: str, right: str, *, output: str, as_json: bool) -> None:
    """Compare two runs: their settings, versions, data and metrics. Name them as for "dovetail runs show"."""
    from dovetail.record.runs import compare, find_run

    pair = [find_run(reference, Path(output)) for reference in (left, right)]
    differences = compare(*pair)
    if as_json:
        document = {
            "left": str(pair[0].folder),
            "right": str(pair[1].folder),
            "differences": [
                {"section": row.section, "path": row.path, "left": row.left, "right": row.right} for row in differences
            ],
        }
        echo_json(document, default=str)
        return
    if not differences:
        click.echo("no differences")
        return
    rows = [["", *(f"{run.name}/{run.id}" for run in pair)]]
    for section in dict.fromkeys(row.section for row in differences):
        rows += [
            [section, "", ""],
            *([f"  {row.path}", *_values(row)] for row in differences if row.section == section),
        ]
    click.echo("\n".join(columns(rows)))


def _values(row: Difference) -> list[str]:
    return [_format(row.section, row.path, value) for value in (row.left, row.right)]


def _format(section: str, path: str, value: Any) -> str:
    from dovetail.config.notation import inline, visible
    from dovetail.record.formatting import format_metric
    from dovetail.record.runs import ABSENT

    if value == ABSENT:
        return ABSENT
    if section == "metrics":
        return format_metric(path.rpartition(" ")[2], value)
    try:
        return visible(inline(value) if section == "config" else str(value))
    except TypeError:
        return visible(str(value))


def _as_json(run: RunRecord) -> dict[str, Any]:
    return {**run.data, "id": run.id, "name": run.name, "status": run.status, "folder": str(run.folder)}


def _lines(run: RunRecord) -> list[str]:
    from dovetail.record.formatting import format_metric, format_metrics, format_number, sparkline
    from dovetail.record.layout import REPORT, RESOLVED
    from dovetail.record.runs import read_series

    data = run.data
    rows: list[tuple[str, str]] = [("status", run.status.replace("_", " "))]
    rows += [(key, str(data[key])) for key in ("reason", "stopped_by", "experiment") if data.get(key)]
    if run.started:
        rows.append(("started", run.started[:19].replace("T", " ") + " UTC"))
    rows += _facts(run)
    if run.best:
        best = data.get("best") or {}
        rows.append(("best", f"{run.best[0]} {format_metric(*run.best)} in epoch {best.get('epoch', '?')}"))
    if run.metrics:
        rows.append(("last", format_metrics(run.metrics)))
    if run.test:
        rows.append(("test", format_metrics(run.test).replace("test_", "")))
    for name, points in read_series(run.folder).items():
        if name.startswith(("train_", "val_")):
            values = [point.value for point in points]
            rows.append((name, f"{sparkline(values, 32)}  {format_number(values[0])} → {format_number(values[-1])}"))
    rows.append(("folder", str(run.folder)))
    if (run.folder / REPORT).is_file():
        rows.append(("report", str(run.folder / REPORT)))
    if isinstance(data.get("command"), list):
        rows.append(("command", shlex.join(map(str, data["command"]))))
    if (run.folder / RESOLVED).is_file():
        rows.append(("repeat", shlex.join(["dovetail", "run", str(run.folder / RESOLVED)])))
    return [f"{run.name}/{run.id}", *columns([list(row) for row in rows], indent="  ")]


def _facts(run: RunRecord) -> list[tuple[str, str]]:
    from dovetail.record.formatting import format_duration
    from dovetail.record.runs import as_number, as_table

    rows = [("time", format_duration(run.duration))] if run.duration is not None else []
    machine = [str(run.data[key]) for key in ("device", "precision") if run.data.get(key)]
    parameters = as_number(run.data.get("parameters"))
    machine += [f"{int(parameters):,} parameters"] if parameters is not None else []
    if machine:
        rows.append(("device", " · ".join(machine)))
    sizes = as_table(as_table(run.data.get("data")).get("sizes"))
    counts = [f"{int(count):,} {name}" for name, size in sizes.items() if (count := as_number(size)) is not None]
    if counts:
        rows.append(("samples", " · ".join(counts)))
    return rows
