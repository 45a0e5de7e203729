"""``dovetail doctor``: what is installed here, and whether it works."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import click
from attrs import asdict, frozen

from dovetail.cli.failure import FAILED
from dovetail.cli.options import CommandWithPlugins, discover, json_option, output_option, plugin_options
from dovetail.cli.text import examples

#: SQLite versions whose write-ahead log can be corrupted when two connections reset it at once: 3.7.0 to 3.51.2.
_WAL_RESET_FIXED: Final = (3, 51, 3)
_WAL_RESET_SINCE: Final = (3, 7, 0)
_LITTLE_SPACE: Final = 5e9  # bytes: a few checkpoints of a middling model

Verdict = Literal["ok", "note", "warning", "failed"]


@frozen
class Finding:
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    message: str


@click.command(
    cls=CommandWithPlugins,
    short_help="Say what is installed here and whether it works.",
    epilog=examples("dovetail doctor"),
)
@output_option
@json_option
@plugin_options
@click.pass_context
def doctor(ctx: click.Context, *, output: str, as_json: bool, no_plugins: str, strict_plugins: bool) -> None:
    """Say what is installed here and whether it works: Python, torch, native ops, GPU, plugins, SQLite, disk.

    Exit code 1 if something that Dovetail needs does not work.
    """
    checks: list[Callable[[], Iterator[Finding]]] = [
        python,
        torch,
        native_ops,
        lambda: plugins(no_plugins, strict_plugins=strict_plugins),
        extras,
        sqlite,
        lambda: disk(Path(output)),
    ]
    findings: list[Finding] = []
    for check in checks:
        findings += _contained(check)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in findings], ensure_ascii=False, indent=2))
    else:
        signs = {"ok": "✓", "note": "·", "warning": "!", "failed": "✗"}
        width = max(len(one.what) for one in findings)
        for one in findings:
            click.echo(f"{signs[one.verdict]} {one.what:<{width}}  {one.message}")
    ctx.exit(FAILED if any(one.verdict == "failed" for one in findings) else 0)


def _contained(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Look, and turn whatever goes wrong on the way into a finding: a doctor may not faint."""
    name = getattr(check, "__name__", "check").replace("_", " ").strip("<>")
    try:
        return list(check())
    except Exception as error:  # noqa: BLE001 (whatever is broken here is the finding)
        return [Finding(name, "failed", f"{type(error).__name__}: {error}")]


def python() -> Iterator[Finding]:
    """Look at Python, the machine and Dovetail itself."""
    from dovetail import __version__

    yield Finding("dovetail", "ok", f"{__version__} in {Path(__file__).parents[1]}")
    yield Finding("python", "ok", f"{platform.python_version()} in {sys.prefix}, {platform.platform()}")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cpu", "ok", f"{usable} of {os.cpu_count()} cores usable")


def torch() -> Iterator[Finding]:
    """Look at torch and the accelerators that it sees."""
    try:
        import torch as library
    except ImportError as error:
        yield Finding("torch", "failed", f"cannot be imported: {error}")
        return
    yield Finding("torch", "ok", f"{library.__version__}, {library.get_num_threads()} threads")
    if not library.cuda.is_available():
        built = "built for CUDA, but sees no GPU" if library.version.cuda else "built without CUDA"
        yield Finding("gpu", "note", f"none: this torch is {built}")
    for number in range(library.cuda.device_count()):
        about = library.cuda.get_device_properties(number)
        free, total = library.cuda.mem_get_info(number)
        memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        yield Finding(f"gpu {number}", "ok", f"{about.name}, {memory}, CUDA {library.version.cuda}")


def native_ops() -> Iterator[Finding]:
    """Look at our native ops; without them the plain-torch references do the work, slower."""
    from dovetail.ops import status

    for one in status():
        _, _, state = str(one).partition(": ")
        expected = one.device == "cuda" or os.environ.get("DOVETAIL_NATIVE") == "0"
        yield Finding(f"ops, {one.device}", "ok" if one.live else "note" if expected else "warning", state)


def plugins(no_plugins: str, *, strict_plugins: bool) -> Iterator[Finding]:
    """Look at the installed plugins."""
    installed = discover(no_plugins, strict_plugins=strict_plugins)
    for one in installed.plugins:
        about = f"{one.version} ({one.entry_point})".strip()
        if one.state == "broken":
            why = next(str(broken) for broken in installed.broken if broken.entry_point == one.entry_point)
            yield Finding(f"plugin {one.distribution}", "warning", why)
        elif one.remarks:
            yield Finding(f"plugin {one.distribution}", "warning", f"{about}: {'; '.join(one.remarks)}")
        else:
            yield Finding(
                f"plugin {one.distribution}", "ok", about if one.state == "loaded" else f"{about}, {one.state}"
            )


def extras() -> Iterator[Finding]:
    """Look at what is optional."""
    for distribution, use in {
        "scikit-learn": "the dataset 'digits': pip install 'dovetail[digits]'",
        "pandas": "DataFrames: pip install 'dovetail[pandas]'",
        "hypothesis": "the conformance kit: pip install 'dovetail[testkit]'",
        "omegaconf": "Hydra's configs: pip install 'dovetail[omegaconf]'",
    }.items():
        try:
            yield Finding(distribution, "ok", metadata.version(distribution))
        except metadata.PackageNotFoundError:
            yield Finding(distribution, "note", f"not installed; needed for {use}")


def sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Iterator[Finding]:
    """Look at SQLite, which keeps experiments and queues."""
    written = ".".join(map(str, version))
    if _WAL_RESET_SINCE <= version < _WAL_RESET_FIXED:
        message = (
            f"{written} can corrupt a database when two processes reset its write-ahead log at the same instant; "
            f"fixed in {'.'.join(map(str, _WAL_RESET_FIXED))}"
        )
        yield Finding("sqlite", "warning", message)
    else:
        yield Finding("sqlite", "ok", written)


def disk(output: Path) -> Iterator[Finding]:
    """Look at the folder of runs: whether it can be written to, and how much space is left."""
    folder = next(one for one in (output, *output.absolute().parents) if one.is_dir())
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("disk", "failed", f"{output} cannot be written to")
        return
    free = shutil.disk_usage(folder).free
    message = f"{free / 1e9:.1f} GB free for {output}"
    yield Finding("disk", "warning" if free < _LITTLE_SPACE else "ok", message)
