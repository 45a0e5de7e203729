"""``dovetail checkpoints``: list, verify, prune and export checkpoints. Only ``export`` imports torch."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import evolve

from dovetail.cli import completion
from dovetail.cli.groups import LazyGroup
from dovetail.cli.options import json_option, output_option
from dovetail.cli.output import columns, echo_json, examples
from dovetail.spec.process import FAILED

if TYPE_CHECKING:
    from dovetail.checkpoint.listing import Checkpoint, Retention
    from dovetail.checkpoint.manifest import CheckpointError
    from dovetail.train.checkpoints.lookup import SavedRun

_Command = TypeVar("_Command", bound=Callable[..., Any])

RUN = 'RUN is as for "dovetail runs show", or the path of a folder of checkpoints, or of one checkpoint.'


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
    return click.argument("run", default="latest", shell_complete=completion.runs)(output_option(command))


def _echo(document: Any) -> None:
    from dovetail.record.json_lines import jsonable

    echo_json(jsonable(document))


# --- list -----------------------------------------------------------------------------------------------------------


@checkpoints.command(
    "list",
    epilog=examples("dovetail checkpoints list", "dovetail checkpoints list digits --json"),
    help=f"List the checkpoints of RUN, the oldest first. Only manifests are read.\n\n{RUN}",
)
@_run_argument
@json_option
def list_(run: str, *, output: str, as_json: bool) -> None:
    """List the checkpoints of a run, the oldest first."""
    from dovetail.record.formatting import format_metric
    from dovetail.storage.errors import format_bytes
    from dovetail.train.checkpoints.lookup import find_saved

    saved = find_saved(run, Path(output))
    errors: list[CheckpointError] = []
    found = saved.list(errors.append)
    if as_json:
        _echo([_as_json(checkpoint) for checkpoint in found])
    elif not found:
        click.echo(f"there are no checkpoints in {saved.directory}")
    else:
        monitor = saved.retention.monitor
        rows = [
            [
                checkpoint.path.name,
                str(checkpoint.epoch),
                format_metric(monitor, checkpoint.metrics[monitor]) if monitor in checkpoint.metrics else "",
                "best" if checkpoint.is_best else "",
                format_bytes(int(1e6 * (checkpoint.model_size_mb + checkpoint.state_size_mb))),
                checkpoint.timestamp[:19].replace("T", " "),
            ]
            for checkpoint in found
        ]
        head = ["CHECKPOINT", "EPOCH", monitor.upper(), "", "SIZE", "SAVED (UTC)"]
        click.echo("\n".join([*columns(rows, head=head, right="124"), f"in {saved.directory}"]))
    for error in errors:
        click.echo(f"damaged: {error}", err=True)


def _as_json(checkpoint: Checkpoint) -> dict[str, Any]:
    from attrs import asdict

    return {"name": checkpoint.path.name, **asdict(checkpoint)}


# --- verify ---------------------------------------------------------------------------------------------------------


@checkpoints.command(
    epilog=examples(
        "dovetail checkpoints verify", "dovetail checkpoints verify runs/digits/…/checkpoints/step-00000120"
    ),
    help="Read the checkpoints of RUN completely, and name each damaged file and tensor. The exit code is 1 if a "
    f"checkpoint is damaged.\n\n{RUN}",
)
@_run_argument
@json_option
@click.pass_context
def verify(ctx: click.Context, run: str, *, output: str, as_json: bool) -> None:
    """Verify the checkpoints of a run."""
    from dovetail.checkpoint.verify import find_problems
    from dovetail.train.checkpoints.lookup import find_saved

    paths = find_saved(run, Path(output)).folders()
    total = sum(map(_size, paths))
    found: dict[Path, list[CheckpointError]] = {}
    hidden = as_json or not sys.stderr.isatty()
    with click.progressbar(length=total, label="verifying", file=sys.stderr, hidden=hidden) as bar:
        for path in paths:
            errors = list(find_problems(path, progress=bar.update))
            if not errors or path.is_dir():  # otherwise the run, which is still training, has just removed it
                found[path] = errors
    damaged = sum(map(bool, found.values()))
    if as_json:
        _echo({"checkpoints": [_verdict(path, errors) for path, errors in found.items()], "damaged": damaged})
    else:
        for path, errors in found.items():
            click.echo(f"{path.name}: {'damaged' if errors else 'intact'}")
            for error in errors:
                click.echo(f"  {error.path.name}: {error.message}")
        checked = f"{len(found)} checkpoint{'s' if len(found) != 1 else ''}"
        click.echo(f"{checked}, {damaged or 'none'} damaged")
    ctx.exit(FAILED if damaged else 0)


def _size(checkpoint: Path) -> int:
    """Return the size of a checkpoint in bytes; 0 if it is removed meanwhile."""
    with contextlib.suppress(OSError):
        return sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
    return 0


def _verdict(path: Path, errors: list[CheckpointError]) -> dict[str, Any]:
    listed = [{"file": error.path.name, "tensor": error.tensor, "message": error.message} for error in errors]
    return {"name": path.name, "path": path, "whole": not errors, "problems": listed}


# --- prune ----------------------------------------------------------------------------------------------------------


@checkpoints.command(
    epilog=examples("dovetail checkpoints prune latest --dry-run", "dovetail checkpoints prune digits --keep-last 1"),
    help="Remove all checkpoints of RUN except the best and the last ones. By default, the numbers are those of the "
    f"run file. Fails if the run is training.\n\n{RUN}",
)
@_run_argument
@click.option("--keep-best", type=click.IntRange(min=0), metavar="K", help="Keep the K best checkpoints.")
@click.option("--keep-last", type=click.IntRange(min=1), metavar="N", help="Keep the N last checkpoints.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@json_option
def prune(run: str, *, output: str, keep_best: int | None, keep_last: int | None, dry_run: bool, as_json: bool) -> None:
    """Remove all checkpoints of a run except the best and the last ones."""
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
    checkpoints = saved.list(lambda _: None)
    removed = retention.expired(checkpoints) if dry_run else _prune(saved, retention)
    removed_names = {checkpoint.path.name for checkpoint in removed}
    kept = [checkpoint.path.name for checkpoint in checkpoints if checkpoint.path.name not in removed_names]
    if as_json:
        _echo({"removed": [checkpoint.path.name for checkpoint in removed], "kept": kept, "dry_run": dry_run})
        return
    for checkpoint in removed:
        click.echo(f"{'would remove' if dry_run else 'removed'} {checkpoint.path.name}")
    click.echo(f"{len(kept)} {'would be kept' if dry_run else 'kept'}: {', '.join(kept)}")


def _prune(saved: SavedRun, retention: Retention) -> list[Checkpoint]:
    from contextlib import nullcontext

    from dovetail.checkpoint.store import CheckpointStore
    from dovetail.record.run_directory import RunDirectory, RunDirectoryError

    try:
        # Lock the run, so that no process resumes it meanwhile.
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
    help="Write the model's weights from a checkpoint of RUN to a .safetensors file, after verifying them.\n\n"
    f"Any program that reads safetensors can open the file. {RUN}",
)
@_run_argument
@click.option(
    "--checkpoint",
    "which",
    default="best",
    show_default=True,
    metavar="WHICH",
    help='"best", "last", or a checkpoint\'s name, such as step-00001200. If there is no best one, the last.',
)
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="PATH",
    help="The file to write, or a folder for it.",
)
@click.option(
    "--ema/--no-ema",
    default=None,
    help="Export the averaged weights (training.ema_decay), or the trained ones; by default the weights that were "
    "validated.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@json_option
def export(run: str, *, output: str, which: str, to: Path, ema: bool | None, force: bool, as_json: bool) -> None:
    """Export the model's weights from a checkpoint of a run."""
    from dovetail.checkpoint.manifest import PICKLE_SUFFIXES
    from dovetail.storage.errors import format_bytes
    from dovetail.train.checkpoints.lookup import find_saved

    if Path(output).suffix == ".safetensors":
        raise click.UsageError(f"--output is the folder of all runs; name the file to write with --to {output}")
    if to.suffix in PICKLE_SUFFIXES and not to.is_dir():
        raise click.UsageError(f"--to {to}: weights can only be written as safetensors, such as {to.stem}.safetensors")
    saved = find_saved(run, Path(output))
    chosen = saved.choose(which)
    path = to if to.suffix == ".safetensors" and not to.is_dir() else to / f"{saved.name}-{chosen.name}.safetensors"
    if path.exists() and not force:
        raise click.UsageError(f"{path} already exists; use --force to replace it")
    from dovetail.checkpoint.weights import export_weights

    exported = export_weights(chosen, path, ema=ema)
    length = path.stat().st_size
    if as_json:
        facts = {"tensors": len(exported.names), "average": exported.average, "bytes": length}
        _echo({"path": path, "checkpoint": chosen, **facts})
    else:
        averaged = ", averaged weights" if exported.average else ""
        click.echo(f"{path}: {len(exported.names)} tensors from {chosen.name}{averaged}, {format_bytes(length)}")
    if exported.left_out:
        click.echo(f"skipped, not tensors: {', '.join(exported.left_out)}", err=True)
