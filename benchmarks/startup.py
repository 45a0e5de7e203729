"""How long the console takes to start, beside the tools people know, and what installed plugins add to it.

Run ``python benchmarks/startup.py``; rivals that are not installed are left out.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from _measure import alternate, process_seconds, ratios, record, table, versions

ROUNDS = 11


def console(name: str) -> str | None:
    """Return the path of a console command beside this interpreter, or on PATH."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


def environment(folder: Path, distributions: int, plugins: int) -> dict[str, str]:
    """Fill ``folder`` with metadata of installed distributions, some with a plugin, and return how to see them."""
    for number in range(distributions):
        info = folder / f"pkg{number}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pkg{number}\nVersion: 1.0\n")
        (info / "RECORD").write_text("")
        if number < plugins:
            (info / "entry_points.txt").write_text(f"[dovetail]\np{number} = pkg{number}.plugin\n")
            package = folder / f"pkg{number}"
            package.mkdir()
            (package / "__init__.py").write_text("")
            (package / "plugin.py").write_text(
                "from dovetail import Component, hookimpl\n\n@hookimpl\ndef dovetail_losses():\n"
                f"    yield Component('pkg{number}.loss', 'pkg{number}.losses:Loss', summary='A loss.')\n\n"
                "@hookimpl\ndef dovetail_schedulers():\n"
                f"    yield Component('pkg{number}.rate', 'pkg{number}.schedulers:Rate', summary='A schedule.')\n"
            )
        elif number % 3 == 0:
            (info / "entry_points.txt").write_text(f"[console_scripts]\npkg{number} = pkg{number}:main\n")
    return {"PYTHONPATH": str(folder)}


def commands() -> None:
    """Time ``--help`` of this and other tools."""
    python = sys.executable
    found = {name: console(name) for name in ("dovetail", "accelerate", "fabric", "lightning")}
    candidates: dict[str, Callable[[], float]] = {
        "python -c pass": lambda: process_seconds([python, "-c", "pass"]),
        "python -c 'import click'": lambda: process_seconds([python, "-c", "import click"]),
    }
    for name, path in found.items():
        if path:
            candidates[f"{name} --help"] = lambda path=path: process_seconds([path, "--help"])
    if found["dovetail"]:
        path = found["dovetail"]
        for arguments in (["plugins", "list"], ["runs", "list"]):
            label = f"dovetail {' '.join(arguments)}"
            candidates[label] = lambda arguments=arguments: process_seconds([path, *arguments])
    figures = alternate(candidates, ROUNDS)
    against = ratios(figures, "python -c 'import click'")
    rows = [
        (f"`{name}`", f"{1000 * statistics.median(values):.0f}", f"{1000 * min(values):.0f}", f"{against[name]:.2f}")
        for name, values in figures.items()
    ]
    body = table(["whole process", "median ms", "fastest ms", "ratio to importing click"], rows)
    named = versions("dovetail", "click", "accelerate", "lightning", "torch")
    body += f"\n\nMedians of {ROUNDS} alternating rounds. {named}"
    record("Start-up: `--help` beside other tools", "python benchmarks/startup.py", body)


def discovery() -> None:
    """Time ``dovetail --help`` with more and more installed distributions and plugins."""
    dovetail = console("dovetail")
    if not dovetail:
        return
    with tempfile.TemporaryDirectory() as scratch:
        cases = [(10, 0), (10, 1), (200, 20), (1000, 0), (1000, 1), (1000, 20), (1000, 100)]
        seen = {case: environment(Path(scratch) / f"{case[0]}-{case[1]}", *case) for case in cases}
        candidates: dict[str, Callable[[], float]] = {
            f"{case[0]} distributions, {case[1]} plugins": lambda env=env: process_seconds([dovetail, "--help"], env)
            for case, env in seen.items()
        }
        figures = alternate(candidates, ROUNDS)
    base = statistics.median(figures["10 distributions, 0 plugins"])
    rows = [
        (name, f"{1000 * statistics.median(values):.0f}", f"{1000 * (statistics.median(values) - base):+.0f}")
        for name, values in figures.items()
    ]
    body = table(
        ["`dovetail --help` with, besides this environment's own", "median ms", "ms more than the first"], rows
    )
    body += f"\n\nMedians of {ROUNDS} alternating rounds. {versions('dovetail', 'pluggy', 'attrs')}"
    record("Discovery: distributions and plugins", "python benchmarks/startup.py", body)


if __name__ == "__main__":
    commands()
    discovery()
