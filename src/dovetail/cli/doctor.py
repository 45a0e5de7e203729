"""``dovetail doctor``: check the installation."""

from __future__ import annotations

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

from dovetail.cli.options import CommandWithPlugins, discover, json_option, output_option, plugin_options
from dovetail.cli.output import echo_json, examples
from dovetail.spec.process import FAILED

#: SQLite 3.7.0 to 3.51.2 can corrupt a database when two connections reset its write-ahead log at once.
_WAL_RESET_FIXED: Final = (3, 51, 3)
_WAL_RESET_SINCE: Final = (3, 7, 0)
_LOW_SPACE: Final = 5e9  # bytes: a few checkpoints of a medium-sized model

Verdict = Literal["ok", "note", "warning", "failed"]


@frozen
class Finding:
    """The result of one check."""

    what: str
    verdict: Verdict
    message: str


@click.command(
    cls=CommandWithPlugins,
    short_help="Check the installation.",
    epilog=examples("dovetail doctor"),
)
@output_option
@json_option
@plugin_options
@click.pass_context
def doctor(ctx: click.Context, *, output: str, as_json: bool, no_plugins: str, strict_plugins: bool) -> None:
    """Check the installation: Python, torch, native ops, GPUs, plugins, optional packages, SQLite and disk space.

    The exit code is 1 if something that Dovetail needs does not work.
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
        findings += _run_check(check)
    if as_json:
        echo_json([asdict(finding) for finding in findings])
    else:
        signs = {"ok": "✓", "note": "·", "warning": "!", "failed": "✗"}
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            click.echo(f"{signs[finding.verdict]} {finding.what:<{width}}  {finding.message}")
    ctx.exit(FAILED if any(finding.verdict == "failed" for finding in findings) else 0)


def _run_check(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Run a check and return its findings; an exception becomes a finding, so that the other checks still run."""
    name = getattr(check, "__name__", "check").replace("_", " ").strip("<>")
    try:
        return list(check())
    except Exception as error:  # noqa: BLE001 (any exception is a finding)
        return [Finding(name, "failed", f"{type(error).__name__}: {error}")]


def python() -> Iterator[Finding]:
    """Report the versions of Dovetail and Python, and the CPU."""
    from dovetail import __version__

    yield Finding("dovetail", "ok", f"{__version__} in {Path(__file__).parents[1]}")
    yield Finding("python", "ok", f"{platform.python_version()} in {sys.prefix}, {platform.platform()}")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cpu", "ok", f"{usable} of {os.cpu_count()} cores available")


def torch() -> Iterator[Finding]:
    """Check that torch can be imported, and report the GPUs it finds."""
    try:
        import torch as library
    except ImportError as error:
        yield Finding("torch", "failed", f"cannot be imported: {error}")
        return
    yield Finding("torch", "ok", f"{library.__version__}, {library.get_num_threads()} threads")
    if not library.cuda.is_available():
        reason = "torch is built for CUDA but finds no GPU" if library.version.cuda else "torch is built without CUDA"
        yield Finding("gpu", "note", f"none: {reason}")
    for number in range(library.cuda.device_count()):
        properties = library.cuda.get_device_properties(number)
        free, total = library.cuda.mem_get_info(number)
        memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        yield Finding(f"gpu {number}", "ok", f"{properties.name}, {memory}, CUDA {library.version.cuda}")


def native_ops() -> Iterator[Finding]:
    """Report which native ops are loaded; without them, the slower plain-torch references are used."""
    from dovetail.ops import status

    for library in status():
        _, _, state = str(library).partition(": ")
        optional = library.device == "cuda" or os.environ.get("DOVETAIL_NATIVE") == "0"
        verdict: Verdict = "ok" if library.live else "note" if optional else "warning"
        yield Finding(f"ops, {library.device}", verdict, state)


def plugins(no_plugins: str, *, strict_plugins: bool) -> Iterator[Finding]:
    """Report the installed plugins and whether they load."""
    installed = discover(no_plugins, strict_plugins=strict_plugins)
    for plugin in installed.plugins:
        what, version = f"plugin {plugin.distribution}", f"{plugin.version} ({plugin.entry_point})".strip()
        if plugin.state == "broken":
            error = next(str(broken) for broken in installed.broken if broken.entry_point == plugin.entry_point)
            yield Finding(what, "warning", error)
        elif plugin.remarks:
            yield Finding(what, "warning", f"{version}: {'; '.join(plugin.remarks)}")
        else:
            yield Finding(what, "ok", version if plugin.state == "loaded" else f"{version}, {plugin.state}")


def extras() -> Iterator[Finding]:
    """Report which optional packages are installed."""
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
    """Check that SQLite, which stores experiments and queues, is free of a known bug."""
    text = ".".join(map(str, version))
    if _WAL_RESET_SINCE <= version < _WAL_RESET_FIXED:
        message = (
            f"{text} can corrupt a database when two processes reset its write-ahead log at the same moment; "
            f"upgrade to {'.'.join(map(str, _WAL_RESET_FIXED))} or later"
        )
        yield Finding("sqlite", "warning", message)
    else:
        yield Finding("sqlite", "ok", text)


def disk(output: Path) -> Iterator[Finding]:
    """Check that the folder of runs can be written, and report the free space."""
    folder = next(parent for parent in (output, *output.absolute().parents) if parent.is_dir())
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("disk", "failed", f"{output} cannot be written")
        return
    free = shutil.disk_usage(folder).free
    message = f"{free / 1e9:.1f} GB free for {output}"
    yield Finding("disk", "warning" if free < _LOW_SPACE else "ok", message)
