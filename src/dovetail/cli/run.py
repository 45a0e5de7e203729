"""``dovetail run``: train the model that a run file describes."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dovetail.cli.errors import RunFailedError
from dovetail.cli.options import (
    CommandWithPlugins,
    compose_file,
    discover,
    json_option,
    plugin_options,
    process_options,
    quiet_option,
    run_file_arguments,
)
from dovetail.cli.output import columns, echo_json, examples
from dovetail.spec.process import FAILED, INTERRUPTED, OUT_OF_BUDGET

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig
    from dovetail.config.tree import Node
    from dovetail.record.console import Console
    from dovetail.train.checks.dry_run import DryRun
    from dovetail.train.state import Outcome

_CODES = {"failed": FAILED, "out_of_budget": OUT_OF_BUDGET, "interrupted": INTERRUPTED}
_FINISHED = {"completed": "completed", "stopped_early": "stopped early"}
EXIT_CODES = "Exit codes: 0 completed or stopped early, 1 failed, 2 bad input, 3 out of budget, 130 interrupted."


@click.command(
    cls=CommandWithPlugins,
    short_help="Train the model that a run file describes.",
    epilog=examples(
        "dovetail run digits.toml",
        "dovetail run digits.toml training.max_epochs=30 optimizer.lr=3e-3",
        "dovetail run digits.toml --profile ci_fast --json",
        "dovetail run digits.toml --nproc 2",
    )
    + "\n\n"
    + EXIT_CODES,
)
@run_file_arguments
@process_options
@click.option("--dry-run", is_flag=True, help="Build everything and try one batch, without training or writing files.")
@quiet_option
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
    """Train, validate and test the model that FILE describes, and record the run.

    Override settings of the file with a.b=VALUE. VALUE is in TOML; any other text is a string. a.b=@unset removes a
    setting, a.b=@none sets an optional one to none.
    """
    from dovetail.config.check import check_config
    from dovetail.distributed.environment import rank_and_size
    from dovetail.distributed.launch import needs_supervisor, supervise

    # With --json, standard output is only for the document; all other output goes to standard error.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        plugins = discover(no_plugins, strict_plugins=strict_plugins)
        rank, started = rank_and_size()
        compose = partial(compose_file, file, profile=profile, plugins=plugins)
        config = check_config(compose_for_processes(compose, overrides, nproc, started), plugins)
        if started == 1 and needs_supervisor(config.hardware.devices, max_restarts):
            ctx.exit(supervise(ctx.obj, config.hardware.devices, max_restarts))
        quiet = quiet or rank > 0
        dry = _dry_run(config) if dry_run else None
    if dry:
        _show_dry_run(file, dry, as_json=as_json and not rank, quiet=quiet)
        return
    from dovetail.main import run as start

    ctx.exit(train(partial(start, config), config, ctx.obj, quiet=quiet, as_json=as_json and not rank))


def compose_for_processes(
    compose: Callable[..., Node], overrides: tuple[str, ...], nproc: int | None, started: int
) -> Node:
    """Compose a config for ``nproc`` processes; if None, for its own ``hardware.devices``, else for ``started``.

    Args:
        compose: returns the config for given ``overrides``.
        overrides: the overrides on the command line.
        nproc: the value of ``--nproc``.
        started: how many processes a launcher such as torchrun or Slurm has started.
    """
    if nproc is not None:
        overrides = (*overrides, f"hardware.devices={nproc}")
    tree = compose(overrides=overrides)
    section = tree.table.get("hardware")
    hardware = {} if section is None else section.table
    added = []
    if started > 1 and "devices" not in hardware:
        added.append(f"hardware.devices={started}")
    if (nproc or started) > 1 and ("strategy" not in hardware or hardware["strategy"].equals("none")):
        added.append("hardware.strategy=ddp")
    return compose(overrides=(*overrides, *added)) if added else tree


def train(
    start: Callable[..., Outcome],
    config: RunConfig,
    arguments: Sequence[str],
    *,
    quiet: bool,
    as_json: bool,
    folder: Path | None = None,
) -> int:
    """Train with a console, print how the run ended, and return the exit code.

    Args:
        start: ``run`` or ``resume``, with all arguments but ``argv`` and ``listeners``.
        config: the run's config.
        arguments: the command line.
        quiet: print only errors, and how to resume a run that was stopped.
        as_json: print one document on standard output, and everything else on standard error.
        folder: the folder of a run that is resumed.

    Raises:
        RunFailedError: the run failed.
    """
    from dovetail.distributed.environment import rank_and_size
    from dovetail.record.console import Console, resume_command
    from dovetail.record.layout import LOG, external_folder

    command = ["dovetail", *arguments]
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        console = Console(mode="silent" if quiet else None if config.logging.console else "summary")
        console.folder = folder
        outcome = start(argv=command, listeners=[console])
        if console.log is None and outcome.folder is not None:  # a part failed before the console had started
            logs = external_folder(config.paths.logs, config.run.name, outcome.folder.name)
            console.folder, console.log = outcome.folder, (logs or outcome.folder) / LOG
        if console.progress is not None:
            console.summarise(outcome, [] if folder else command)
        elif outcome.status in _FINISHED and not quiet:  # if it failed before it started, the error below says so
            click.echo(
                f"nothing to do: {outcome.folder} has already {_FINISHED[outcome.status]}; "
                "set training.max_epochs to train longer"
            )
    if outcome.status == "failed":
        _fail(outcome, console, as_json=as_json)
    if quiet and (resume := resume_command(outcome, console.folder)):
        click.echo(f"dovetail: {outcome.reason}; resume with: {shlex.join(resume)}", err=True)
    if as_json:
        echo_json(_document(console))
    # Only rank 0 returns how the run ended; its supervisor kills the other ranks if it failed.
    return 0 if rank_and_size()[0] else _CODES.get(outcome.status, 0)


def _fail(outcome: Outcome, console: Console, *, as_json: bool) -> NoReturn:
    """Raise an error that says why a run failed and where the traceback is.

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
        if not isinstance(outcome.error, ConfigError | GroupError):  # only rank 0 has a log file
            lines = [*"".join(traceback.format_exception(outcome.error)).splitlines(), *lines]
    elif console.log is not None:
        lines.append(f"The traceback is in {console.log}")
    raise RunFailedError("\n".join(lines), _document(console) if as_json else {}) from outcome.error


def _document(console: Console) -> dict[str, Any]:
    """Return the document for ``--json``: the run's record, its folder and its report."""
    from dovetail.record.layout import REPORT
    from dovetail.record.runs import load_run

    if console.folder is None:
        return {}
    report = console.folder / REPORT
    return {
        **load_run(console.folder).data,
        "folder": str(console.folder),
        "report": str(report) if report.is_file() else None,
    }


def _dry_run(config: RunConfig) -> DryRun:
    """Build everything and try one batch.

    Raises:
        RunFailedError: training on the batch failed.
    """
    from dovetail.train.checks.dry_run import check
    from dovetail.train.errors import TrainingError

    try:
        return check(config)
    except TrainingError as error:
        raise RunFailedError(
            f"dovetail: the dry run failed: {error}\nA run writes the traceback to log.txt", {}
        ) from error


def _show_dry_run(file: str, found: DryRun, *, as_json: bool, quiet: bool) -> None:
    """Print what the run would be."""
    from attrs import asdict

    from dovetail.record.formatting import format_duration, format_number, plural
    from dovetail.record.json_lines import jsonable

    if as_json:
        echo_json(jsonable({"file": file, **asdict(found)}))
    elif not quiet:
        shapes = ", ".join(f"{name} {' × '.join(map(str, shape)) or 'scalar'}" for name, shape in found.batch.items())
        epochs, steps = plural(found.epochs, "epoch"), plural(found.steps_per_epoch, "step")
        rows = [
            ["device", found.device],
            ["samples", " · ".join(f"{size:,} {name}" for name, size in found.sizes.items())],
            ["batch", shapes],
            ["model", f"{found.parameters:,} trainable parameters"],
            ["length", f"{epochs} of {steps}: {plural(found.total_steps, 'step')}"],
            ["first step", f"loss {format_number(found.loss)}, {format_duration(found.seconds_per_step)}"],
            *([["metrics", ", ".join(found.figures)]] if found.figures else []),
            *(["alert", alert] for alert in found.alerts),
        ]
        click.echo("\n".join([f"{file}: ready to run", *columns(rows, indent="  ")]))
