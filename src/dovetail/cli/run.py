"""``dovetail run``: train what a run file describes."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dovetail.cli.failure import FAILED, INTERRUPTED, OUT_OF_BUDGET, RunFailedError
from dovetail.cli.options import (
    CommandWithPlugins,
    compose_file,
    discover,
    json_option,
    plugin_options,
    process_options,
    run_file,
)
from dovetail.cli.text import columns, examples

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig
    from dovetail.config.tree import Node
    from dovetail.record.console import Console
    from dovetail.train.dry_run import DryRun
    from dovetail.train.state import Outcome

_CODES = {"failed": FAILED, "out_of_budget": OUT_OF_BUDGET, "interrupted": INTERRUPTED}
_DONE = {"completed": "completed", "stopped_early": "stopped early"}
EXIT_CODES = "Exit codes: 0 completed or stopped early, 1 failed, 2 bad input, 3 out of budget, 130 interrupted."


@click.command(
    cls=CommandWithPlugins,
    short_help="Train what a run file describes.",
    epilog=examples(
        "dovetail run digits.toml",
        "dovetail run digits.toml training.max_epochs=30 optimizer.lr=3e-3",
        "dovetail run digits.toml --profile ci_fast --json",
        "dovetail run digits.toml --nproc 2",
    )
    + "\n\n"
    + EXIT_CODES,
)
@run_file
@process_options
@click.option("--dry-run", is_flag=True, help="Check and build everything, try one batch, and record nothing.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@json_option
@plugin_options
@click.pass_context
def run(
    ctx: click.Context,
    file: str,
    overrides: tuple[str, ...],
    profile: str | None,
    *,
    nproc: int | None,
    max_restarts: int,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    no_plugins: str,
    strict_plugins: bool,
) -> None:
    """Train, validate and test what FILE describes, and record the run.

    Settings of the file can be replaced: a.b=VALUE with VALUE in TOML, or any other text as a string. a.b=@unset
    removes a setting, a.b=@none sets it to nothing.
    """
    from dovetail.cli.processes import supervise, to_be_watched
    from dovetail.config.check import check_config
    from dovetail.distributed.environment import rank_and_size

    # With --json, standard output is for the one document: what parts and console print goes to standard error.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        plugins = discover(no_plugins, strict_plugins=strict_plugins)
        rank, started = rank_and_size()
        config = check_config(
            compose(partial(compose_file, file, profile=profile, plugins=plugins), overrides, nproc, started), plugins
        )
        if started == 1 and to_be_watched(config.hardware.devices, max_restarts):
            ctx.exit(supervise(ctx.obj, config.hardware.devices, max_restarts))
        quiet = quiet or rank > 0
        rehearsal = _rehearse(config) if dry_run else None
    if rehearsal:
        _show(file, rehearsal, as_json=as_json and not rank, quiet=quiet)
        return
    from dovetail.main import run as start

    ctx.exit(train(partial(start, config), config, ctx.obj, quiet=quiet, as_json=as_json and not rank))


def compose(make: Callable[..., Node], overrides: tuple[str, ...], nproc: int | None, started: int) -> Node:
    """Compose the run file for as many processes as were asked for; else, unless it says how many, as were started."""
    if nproc is not None:
        overrides = (*overrides, f"hardware.devices={nproc}")
    tree = make(overrides=overrides)
    hardware = tree.table.get("hardware")
    said = {} if hardware is None else hardware.table
    more = []
    if started > 1 and "devices" not in said:
        more.append(f"hardware.devices={started}")
    if (nproc or started) > 1 and ("strategy" not in said or said["strategy"].equals("none")):
        more.append("hardware.strategy=ddp")
    return make(overrides=(*overrides, *more)) if more else tree


def train(
    start: Callable[..., Outcome],
    config: RunConfig,
    arguments: Sequence[str],
    *,
    quiet: bool,
    as_json: bool,
    folder: Path | None = None,
) -> int:
    """Train, watched by a console, say how it ended, and return the exit code.

    Args:
        start: ``run`` or ``resume``, given everything but the command line and who listens.
        config: the run's settings.
        arguments: the command line.
        quiet: say nothing but errors, and how to go on with a run that was stopped.
        as_json: standard output is for one document; everything else goes to standard error.
        folder: of a run that is there already.

    Raises:
        RunFailedError: the run failed.
    """
    from dovetail.distributed.environment import rank_and_size
    from dovetail.record.console import Console, resume_command
    from dovetail.record.files import LOG
    from dovetail.record.run_directory import apart

    command = ["dovetail", *arguments]
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        console = Console(mode="silent" if quiet else None if config.logging.console else "summary")
        console.folder = folder
        outcome = start(argv=command, listeners=[console])
        if console.log is None and outcome.folder is not None:  # a part failed before the console was told
            logs = apart(config.paths.logs, config.run.name, outcome.folder.name)
            console.folder, console.log = outcome.folder, (logs or outcome.folder) / LOG
        if console.progress is not None:
            console.summarise(outcome, [] if folder else command)
        elif outcome.status in _DONE and not quiet:  # one that failed before it could begin is told of below
            click.echo(
                f"nothing is left to do: {outcome.folder} has {_DONE[outcome.status]}; "
                "training.max_epochs=… makes it longer"
            )
    if outcome.status == "failed":
        _fail(outcome, console, as_json=as_json)
    if quiet and (resume := resume_command(outcome, console.folder)):
        click.echo(f"dovetail: {outcome.reason}; go on with: {shlex.join(resume)}", err=True)
    if as_json:
        click.echo(json.dumps(_document(console), ensure_ascii=False, indent=2))
    # The first of several processes says how it ended: who started them ends the others where one has not ended well.
    return 0 if rank_and_size()[0] else _CODES.get(outcome.status, 0)


def _fail(outcome: Outcome, console: Console, *, as_json: bool) -> NoReturn:
    """Say why a run failed and where the traceback is.

    Raises:
        RunFailedError: always.
    """
    import traceback

    from dovetail.config.diagnostics import ConfigError
    from dovetail.distributed.environment import rank_and_size
    from dovetail.distributed.errors import GroupError

    bad_input = isinstance(outcome.error, ConfigError)
    lines = [str(outcome.error) if bad_input else f"dovetail: the run failed: {outcome.reason}"]
    if rank_and_size()[0]:
        if not isinstance(outcome.error, ConfigError | GroupError):  # it has no log of its own
            lines = [*"".join(traceback.format_exception(outcome.error)).splitlines(), *lines]
    elif console.log is not None:
        lines.append(f"The traceback is in {console.log}")
    raise RunFailedError("\n".join(lines), _document(console) if as_json else {}) from outcome.error


def _document(console: Console) -> dict[str, Any]:
    """Return what a program wants to know of a run: its record, and where it is."""
    from dovetail.record.files import REPORT
    from dovetail.record.runs import load_run

    if console.folder is None:
        return {}
    report = console.folder / REPORT
    return {
        **load_run(console.folder).data,
        "folder": str(console.folder),
        "report": str(report) if report.is_file() else None,
    }


def _rehearse(config: RunConfig) -> DryRun:
    """Build everything and try one batch.

    Raises:
        RunFailedError: the batch cannot be trained on.
    """
    from dovetail.main import check
    from dovetail.train.errors import TrainingError

    try:
        return check(config)
    except TrainingError as error:
        msg = f"dovetail: this would not run: {error}\nA run keeps the traceback in its log.txt"
        raise RunFailedError(msg, {}) from error


def _show(file: str, found: DryRun, *, as_json: bool, quiet: bool) -> None:
    """Say what the run would be."""
    from attrs import asdict

    from dovetail.record.run_directory import jsonable
    from dovetail.record.words import duration, figure, plural

    if as_json:
        click.echo(json.dumps(jsonable({"file": file, **asdict(found)}), ensure_ascii=False, indent=2))
    elif not quiet:
        shapes = ", ".join(f"{name} {' × '.join(map(str, shape)) or 'scalar'}" for name, shape in found.batch.items())
        epochs, steps = plural(found.epochs, "epoch"), plural(found.steps_per_epoch, "step")
        rows = [
            ["device", found.device],
            ["samples", " · ".join(f"{size:,} {name}" for name, size in found.sizes.items())],
            ["batch", shapes],
            ["model", f"{found.parameters:,} trainable parameters"],
            ["length", f"{epochs} of {steps}: {plural(found.total_steps, 'step')}"],
            ["first step", f"loss {figure(found.loss)}, {duration(found.seconds_per_step)}"],
            *([["figures", ", ".join(found.figures)]] if found.figures else []),
        ]
        click.echo("\n".join([f"{file}: ready to run", *columns(rows, indent="  ")]))
