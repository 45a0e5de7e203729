"""``dovetail checkpoints``: what a run has saved. Only ``export`` imports torch; none imports plugins."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import evolve

from dovetail.cli import complete
from dovetail.cli.failure import FAILED
from dovetail.cli.lazy import LazyGroup
from dovetail.cli.options import json_option, output_option
from dovetail.cli.text import columns, examples

if TYPE_CHECKING:
    from dovetail.checkpoint.listing import Checkpoint, Retention
    from dovetail.checkpoint.manifest import CheckpointError
    from dovetail.train.checkpoints.lookup import SavedRun

_Command = TypeVar("_Command", bound=Callable[..., Any])

RUN = (
    'RUN is named as for "dovetail runs show"; it may also be a folder of checkpoints that no run has made, or one '
    "checkpoint."
)


@click.group(
    cls=LazyGroup,
    epilog=examples(
        "dovetail checkpoints list",
        "dovetail checkpoints verify latest",
        "dovetail checkpoints export digits --to digits.safetensors",
    ),
)
def checkpoints() -> None:
    """List, verify, prune and export checkpoints."""


def _run_argument(command: _Command) -> _Command:
    return click.argument("run", default="latest", shell_complete=complete.runs)(output_option(command))


def _echo(document: Any) -> None:
    from dovetail.record.run_directory import jsonable

    click.echo(json.dumps(jsonable(document), ensure_ascii=False, indent=2))


# --- list -----------------------------------------------------------------------------------------------------------


@checkpoints.command(
    "list",
    epilog=examples("dovetail checkpoints list", "dovetail checkpoints list digits --json"),
    help=f"List the checkpoints of RUN, oldest first. Their contents are not read.\n\n{RUN}",
)
@_run_argument
@json_option
def list_(run: str, *, output: str, as_json: bool) -> None:
    """List the checkpoints of a run, oldest first."""
    from dovetail.record.words import share
    from dovetail.storage.errors import format_bytes
    from dovetail.train.checkpoints.lookup import find_saved

    saved = find_saved(run, Path(output))
    refused: list[CheckpointError] = []
    found = saved.list(refused.append)
    if as_json:
        _echo([_as_json(one) for one in found])
    elif not found:
        click.echo(f"there are no checkpoints in {saved.directory}")
    else:
        monitor = saved.retention.monitor
        rows = [
            [
                one.path.name,
                str(one.epoch),
                share(monitor, one.metrics[monitor]) if monitor in one.metrics else "",
                "best" if one.is_best else "",
                format_bytes(int(1e6 * (one.model_size_mb + one.state_size_mb))),
                one.timestamp[:19].replace("T", " "),
            ]
            for one in found
        ]
        head = ["CHECKPOINT", "EPOCH", monitor.upper(), "", "SIZE", "SAVED (UTC)"]
        click.echo("\n".join([*columns(rows, head=head, right="124"), f"in {saved.directory}"]))
    for error in refused:
        click.echo(f"damaged: {error}", err=True)


def _as_json(one: Checkpoint) -> dict[str, Any]:
    from attrs import asdict

    return {"name": one.path.name, **asdict(one)}


# --- verify ---------------------------------------------------------------------------------------------------------


@checkpoints.command(
    epilog=examples(
        "dovetail checkpoints verify", "dovetail checkpoints verify runs/digits/…/checkpoints/step-00000120"
    ),
    help="Read every byte of the checkpoints of RUN, and say which file and tensor is damaged. "
    f"Exit code 1 if one is.\n\n{RUN}",
)
@_run_argument
@json_option
@click.pass_context
def verify(ctx: click.Context, run: str, *, output: str, as_json: bool) -> None:
    """Read every byte of the checkpoints of a run."""
    from dovetail.checkpoint.verify import find_problems
    from dovetail.train.checkpoints.lookup import find_saved

    paths = find_saved(run, Path(output)).folders()
    total = sum(map(_size, paths))
    found: dict[Path, list[CheckpointError]] = {}
    hidden = as_json or not sys.stderr.isatty()
    with click.progressbar(length=total, label="verifying", file=sys.stderr, hidden=hidden) as bar:
        for path in paths:
            wrong = list(find_problems(path, progress=bar.update))
            if not wrong or path.is_dir():  # or else a run that goes on has removed it meanwhile
                found[path] = wrong
    damaged = sum(map(bool, found.values()))
    if as_json:
        _echo({"checkpoints": [_verdict(path, some) for path, some in found.items()], "damaged": damaged})
    else:
        for path, some in found.items():
            click.echo(f"{path.name}: {'damaged' if some else 'whole'}")
            for problem in some:
                click.echo(f"  {problem.path.name}: {problem.message}")
        checked = f"{len(found)} checkpoint{'s' if len(found) != 1 else ''}"
        click.echo(f"{checked}, {damaged or 'none'} damaged")
    ctx.exit(FAILED if damaged else 0)


def _size(checkpoint: Path) -> int:
    """Return how many bytes a checkpoint has, which may be removed meanwhile."""
    with contextlib.suppress(OSError):
        return sum(one.stat().st_size for one in checkpoint.rglob("*") if one.is_file())
    return 0


def _verdict(path: Path, found: list[CheckpointError]) -> dict[str, Any]:
    told = [{"file": one.path.name, "tensor": one.tensor, "message": one.message} for one in found]
    return {"name": path.name, "path": path, "whole": not found, "problems": told}


# --- prune ----------------------------------------------------------------------------------------------------------


@checkpoints.command(
    epilog=examples("dovetail checkpoints prune latest --dry-run", "dovetail checkpoints prune digits --keep-last 1"),
    help="Remove all checkpoints of RUN but the best and the last ones: as many as its run file says, or as given "
    f"here. A run that is under way is left alone.\n\n{RUN}",
)
@_run_argument
@click.option("--keep-best", type=click.IntRange(min=0), metavar="K", help="How many of the best to keep.")
@click.option("--keep-last", type=click.IntRange(min=1), metavar="N", help="How many of the last to keep.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def prune(run: str, *, output: str, keep_best: int | None, keep_last: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove all checkpoints of a run but the best and the last ones."""
    from dovetail.train.checkpoints.lookup import find_saved

    saved = find_saved(run, Path(output))
    if saved.only is not None:
        raise click.UsageError("prune takes a run, or a folder of checkpoints")
    retention = saved.retention
    retention = evolve(
        retention,
        keep_best=retention.keep_best if keep_best is None else keep_best,
        keep_last=retention.keep_last if keep_last is None else keep_last,
    )
    there = saved.list(lambda _: None)
    removed = retention.expired(there) if dry_run else _prune(saved, retention)
    gone = {one.path.name for one in removed}
    kept = [one for one in there if one.path.name not in gone]
    if as_json:
        names = {"removed": removed, "kept": kept}
        _echo({**{key: [one.path.name for one in some] for key, some in names.items()}, "dry_run": dry_run})
        return
    for one in removed:
        click.echo(f"{'would remove' if dry_run else 'removed'} {one.path.name}")
    click.echo(f"{len(kept)} {'would be kept' if dry_run else 'kept'}: {', '.join(one.path.name for one in kept)}")


def _prune(saved: SavedRun, retention: Retention) -> list[Checkpoint]:
    from contextlib import nullcontext

    from dovetail.checkpoint.store import CheckpointStore
    from dovetail.record.run_directory import RunDirectory, RunDirectoryError

    try:
        # Held while it lasts, so that no process trains on meanwhile.
        with RunDirectory(saved.run) if saved.run else nullcontext():
            store = CheckpointStore(
                saved.directory,
                keep_best=retention.keep_best,
                keep_last=retention.keep_last,
                monitor=retention.monitor,
                mode=retention.mode,
            )
            return store.prune()
    except RunDirectoryError as error:
        raise click.ClickException(str(error)) from error


# --- export ---------------------------------------------------------------------------------------------------------


@checkpoints.command(
    epilog=examples(
        "dovetail checkpoints export --to model.safetensors",
        "dovetail checkpoints export digits --checkpoint last --to exports/",
    ),
    help="Write the model's weights of one checkpoint of RUN, verified, as one .safetensors file.\n\n"
    f"Any program that reads safetensors can open it. {RUN}",
)
@_run_argument
@click.option(
    "--checkpoint",
    "which",
    default="best",
    show_default=True,
    metavar="WHICH",
    help='"best", "last", or the name of one, such as step-00001200. Without a best one, the last.',
)
@click.option(
    "--to", type=click.Path(path_type=Path), default=Path(), metavar="PATH", help="A file, or a folder to put it in."
)
@click.option(
    "--ema/--no-ema",
    default=None,
    help="The average of the weights (training.ema_decay), or those that were trained; those that were validated "
    "unless said.",
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@json_option
def export(run: str, *, output: str, which: str, to: Path, ema: bool | None, force: bool, as_json: bool) -> None:
    """Write the model's weights of one checkpoint of a run."""
    from dovetail.checkpoint.manifest import PICKLE_SUFFIXES
    from dovetail.storage.errors import format_bytes
    from dovetail.train.checkpoints.lookup import find_saved

    if Path(output).suffix == ".safetensors":
        raise click.UsageError(f"--output is the folder of all runs; the file to write is said with --to {output}")
    if to.suffix in PICKLE_SUFFIXES and not to.is_dir():
        raise click.UsageError(f"--to {to}: weights are written as safetensors, such as {to.stem}.safetensors")
    saved = find_saved(run, Path(output))
    chosen = saved.choose(which)
    path = to if to.suffix == ".safetensors" and not to.is_dir() else to / f"{saved.name}-{chosen.name}.safetensors"
    if path.exists() and not force:
        raise click.UsageError(f"{path} is there already; --force replaces it")
    from dovetail.checkpoint.weights import export_weights

    exported = export_weights(chosen, path, ema=ema)
    length = path.stat().st_size
    if as_json:
        told = {"tensors": len(exported.names), "average": exported.average, "bytes": length}
        _echo({"path": path, "checkpoint": chosen, **told})
    else:
        averaged = ", the average of the weights" if exported.average else ""
        click.echo(f"{path}: {len(exported.names)} tensors of {chosen.name}{averaged}, {format_bytes(length)}")
    if exported.left_out:
        click.echo(f"left out, being no tensors: {', '.join(exported.left_out)}", err=True)
