"""``dovetail run``: train what a run file describes."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dovetail.cli.failure import FAILED, INTERRUPTED, OUT_OF_BUDGET, RunFailedError
from dovetail.cli.options import (
    CommandWithPlugins,
    compose_file,
    discover,
    json_option,
    plugin_options,
    run_file,
)
from dovetail.cli.text import columns, examples

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig
    from dovetail.track.console import Console
    from dovetail.train.state import Outcome

_CODES = {"failed": FAILED, "out_of_budget": OUT_OF_BUDGET, "interrupted": INTERRUPTED}


@click.command(
    cls=CommandWithPlugins,
    short_help="Train what a run file describes.",
    epilog=examples(
        "dovetail run digits.toml",
        "dovetail run digits.toml training.max_epochs=30 optimizer.lr=3e-3",
        "dovetail run digits.toml --profile ci_fast --json",
    )
    + "\n\n"
    + "Exit codes: 0 completed or stopped early, 1 failed, 2 bad input, 3 out of budget, 130 interrupted.",
)
@run_file
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
    from dovetail.config.structure import structure

    plugins = discover(no_plugins, strict_plugins=strict_plugins)
    config = structure(compose_file(file, overrides, profile, plugins), plugins)
    if dry_run:
        _rehearse(file, config, as_json=as_json, quiet=quiet)
        return
    command = ["dovetail", *ctx.obj] if isinstance(ctx.obj, list) else ["dovetail", "run", file, *overrides]
    outcome, console = _train(config, command, quiet=quiet, as_json=as_json)
    if outcome.status == "failed":
        _fail(outcome, console, as_json=as_json)
    if as_json:
        click.echo(json.dumps(_document(console), ensure_ascii=False, indent=2))
    ctx.exit(_CODES.get(outcome.status, 0))


def _train(config: RunConfig, command: Sequence[str], *, quiet: bool, as_json: bool) -> tuple[Outcome, Console]:
    """Run it, with a console that leaves standard output alone where a document is going to it."""
    from dovetail.run import run as start
    from dovetail.track.console import Console

    stream = sys.stderr if as_json else sys.stdout
    console = Console(stream, mode="silent" if quiet else None if config.logging.console else "summary")
    with _placed(config):
        outcome = start(config, argv=command, listeners=[console])
    console.summarise(outcome, command)
    return outcome, console


@contextlib.contextmanager
def _placed(config: RunConfig) -> Iterator[None]:
    """Give what a factory refuses the place of its table in the run file.

    Raises:
        ConfigError: in the place of a BuildError.
    """
    from dovetail.kernel.build import BuildError

    try:
        yield
    except BuildError as error:
        from dovetail.config.diagnostics import ConfigError, Problem
        from dovetail.config.structure import origin_of

        origin = origin_of(config.tree, tuple(error.path.split(".")), key=True)
        raise ConfigError([Problem(origin, error.path, error.message)]) from error


def _fail(outcome: Outcome, console: Console, *, as_json: bool) -> NoReturn:
    """Say why a run failed and where the traceback is.

    Raises:
        RunFailedError: always.
    """
    lines = [f"dovetail: the run failed: {outcome.reason}"]
    if console.log is not None:
        lines.append(f"The traceback is in {console.log}")
    raise RunFailedError("\n".join(lines), _document(console) if as_json else {})


def _document(console: Console) -> dict[str, Any]:
    """Return what a program wants to know of a run: its record, and where it is."""
    from dovetail.track.runs import REPORT, load_run

    if console.folder is None:
        return {}
    report = console.folder / REPORT
    return {
        **load_run(console.folder).data,
        "folder": str(console.folder),
        "report": str(report) if report.is_file() else None,
    }


def _rehearse(file: str, config: RunConfig, *, as_json: bool, quiet: bool) -> None:
    """Build everything, try one batch, and say what the run would be."""
    from attrs import asdict

    from dovetail.run import prepare
    from dovetail.track.words import duration, figure, plural
    from dovetail.train.errors import TrainingError

    try:
        with _placed(config):
            found = prepare(config)
    except TrainingError as error:
        msg = f"dovetail: {error}"
        raise RunFailedError(msg, {}) from error
    if as_json:
        click.echo(json.dumps({"file": file, **asdict(found)}, ensure_ascii=False, indent=2))
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
            ["figures", ", ".join(found.figures)],
        ]
        click.echo("\n".join([f"{file}: ready to run", *columns(rows, indent="  ")]))
