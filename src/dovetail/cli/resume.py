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
)
from dovetail.cli.run import EXIT_CODES, train
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
    quiet: bool,
    as_json: bool,
    no_plugins: str,
    strict_plugins: bool,
) -> None:
    """Go on with a run from its newest checkpoint, as if it had never been stopped.

    RUN is an id or the beginning of one (or of its last six digits), a run's name for its newest run, "latest" (or
    "latest~1" for the one before), or the path of a run folder.

    Settings that do not move its numbers may be replaced (paths, workers, logging, budget …), and so may
    training.max_epochs and training.max_steps. What else differs is refused.
    """
    from dovetail.cli.processes import supervise
    from dovetail.config.structure import structure
    from dovetail.track.runs import RESOLVED, find_run
    from dovetail.train.ranks import from_environment

    folder = find_run(run, Path(output)).folder
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        plugins = discover(no_plugins, strict_plugins=strict_plugins)
        config = structure(compose_file(str(folder / RESOLVED), overrides, None, plugins), plugins)
        rank, started = from_environment()
        if config.hardware.devices > 1 and started == 1:
            ctx.exit(supervise(ctx.obj, config.hardware.devices))
    from dovetail.run import resume as start

    quiet, as_json = quiet or rank > 0, as_json and not rank
    ctx.exit(train(partial(start, folder, config), config, ctx.obj, quiet=quiet, as_json=as_json, folder=folder))
