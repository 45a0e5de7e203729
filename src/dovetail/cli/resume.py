"""``dovetail resume``: go on with a run."""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from pathlib import Path

import click

from dovetail.cli import complete
from dovetail.cli.options import (
    CommandWithPlugins,
    compose_file,
    discover,
    json_option,
    output_option,
    plugin_options,
    process_options,
)
from dovetail.cli.run import EXIT_CODES, compose, train
from dovetail.cli.text import examples


@click.command(
    cls=CommandWithPlugins,
    short_help="Go on with a run that was stopped or killed.",
    epilog=examples(
        "dovetail resume latest",
        "dovetail resume runs/digits/2026-11-20T15-36-00-3f9c1a",
        "dovetail resume 3f9c1a training.max_epochs=60 loader.num_workers=2",
    )
    + "\n\n"
    + EXIT_CODES,
)
@click.argument("run", shell_complete=complete.runs)
@click.argument("overrides", nargs=-1, metavar="[a.b=VALUE]…", shell_complete=complete.overrides)
@output_option
@process_options
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
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
    """Go on with a run from its newest checkpoint, as if it had never been stopped.

    RUN is an id or the beginning of one (or of its last six digits), a run's name for its newest run, "latest" (or
    "latest~1" for the one before), or the path of a run folder.

    Settings that do not move its numbers may be replaced (paths, workers, logging, budget …), and so may
    training.max_epochs and training.max_steps, and the number of processes with what each of them gets of an update.
    What else differs is refused.
    """
    from dovetail.cli.processes import supervise, to_be_watched
    from dovetail.config.check import check_config
    from dovetail.distributed.environment import rank_and_size
    from dovetail.record.files import RESOLVED
    from dovetail.record.runs import find_run

    folder = find_run(run, Path(output)).folder
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        plugins = discover(no_plugins, strict_plugins=strict_plugins)
        rank, started = rank_and_size()
        make = partial(compose_file, str(folder / RESOLVED), profile=None, plugins=plugins)
        config = check_config(compose(make, overrides, nproc, started), plugins)
        if started == 1 and to_be_watched(config.hardware.devices, max_restarts):
            # "latest" may be another run by the time that they start, or are started anew.
            arguments = [str(folder.absolute()) if one == run else one for one in ctx.obj]
            ctx.exit(supervise(arguments, config.hardware.devices, max_restarts))
    from dovetail.main import resume as start

    quiet, as_json = quiet or rank > 0, as_json and not rank
    ctx.exit(train(partial(start, folder, config), config, ctx.obj, quiet=quiet, as_json=as_json, folder=folder))
