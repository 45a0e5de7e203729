"""``dovetail resume``: resume a run from its newest checkpoint."""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from pathlib import Path

import click

from dovetail.cli import completion
from dovetail.cli.options import (
    RUN_REFERENCE,
    CommandWithPlugins,
    compose_file,
    discover,
    json_option,
    output_option,
    plugin_options,
    process_options,
    quiet_option,
)
from dovetail.cli.output import examples
from dovetail.cli.run import EXIT_CODES, compose_for_processes, train


@click.command(
    cls=CommandWithPlugins,
    short_help="Resume a run that was stopped or killed.",
    epilog=examples(
        "dovetail resume latest",
        "dovetail resume runs/digits/2026-11-20T15-36-00-3f9c1a",
        "dovetail resume 3f9c1a training.max_epochs=60 loader.num_workers=2",
    )
    + "\n\n"
    + EXIT_CODES,
    help="Resume a run from its newest checkpoint; the result is the same as if it had never been stopped.\n\n"
    f"{RUN_REFERENCE}\n\n"
    "You can change settings that do not affect the results (paths, workers, logging, budget …), the length of the run "
    "(training.max_epochs, training.max_steps), and the number of processes, as long as each update is of the same "
    "number of samples. Other changes are refused.",
)
@click.argument("run", shell_complete=completion.runs)
@click.argument("overrides", nargs=-1, metavar="[a.b=VALUE]…", shell_complete=completion.overrides)
@output_option
@process_options
@quiet_option
@json_option
@plugin_options
@click.pass_context
def resume(
    ctx: click.Context,
    run: str,
    overrides: tuple[str, ...],
    *,
    output: str,
    nproc: int | None,
    max_restarts: int,
    quiet: bool,
    as_json: bool,
    no_plugins: str,
    strict_plugins: bool,
) -> None:
    """Resume a run from its newest checkpoint."""
    from dovetail.config.check import check_config
    from dovetail.distributed.environment import rank_and_size
    from dovetail.distributed.launch import needs_supervisor, supervise
    from dovetail.record.layout import RESOLVED
    from dovetail.record.runs import find_run

    folder = find_run(run, Path(output)).folder
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        plugins = discover(no_plugins, strict_plugins=strict_plugins)
        rank, started = rank_and_size()
        compose = partial(compose_file, str(folder / RESOLVED), profile=None, plugins=plugins)
        config = check_config(compose_for_processes(compose, overrides, nproc, started), plugins)
        if started == 1 and needs_supervisor(config.hardware.devices, max_restarts):
            # Replace "latest": it may name another run when the processes start or restart.
            arguments = [str(folder.absolute()) if argument == run else argument for argument in ctx.obj]
            ctx.exit(supervise(arguments, config.hardware.devices, max_restarts))
    from dovetail.main import resume as start

    quiet, as_json = quiet or rank > 0, as_json and not rank
    ctx.exit(train(partial(start, folder, config), config, ctx.obj, quiet=quiet, as_json=as_json, folder=folder))
